"""A page over a folder of bright pictures, whose trackers find what is bright."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from flask.testing import FlaskClient

from spm_rt import Tracker
from spm_rt.pipelines.page.app import Runs, make_app
from spm_rt.pipelines.page.lanes import Trackers
from spm_rt.pipelines.page.places import Places

from ...support.fakes.backend import bright_tracker, moving_disc
from ...support.fakes.bundle import small_bundle
from ...support.media.films import plain_film

FRAMES = 12
"""Also in test_runs.py."""


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder with pictures of a moving disc in ``disc/``, and a link that leads out."""
    folder = tmp_path / "videos"
    (folder / "disc").mkdir(parents=True)
    for number, picture in enumerate(moving_disc(FRAMES)):
        cv2.imwrite(str(folder / "disc" / f"{number}.png"), picture)
    (tmp_path / "secret.mp4").write_bytes(b"not for the page")
    (folder / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    return folder


@pytest.fixture
def film(tmp_path: Path) -> bytes:
    """The moving disc as a video file."""
    return plain_film(tmp_path / "disc.avi", moving_disc(FRAMES)).read_bytes()


@pytest.fixture
def make_page(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[FlaskClient, Runs]]]:
    """Makes a page; what is given goes to ``make_app``."""
    monkeypatch.setattr(Tracker, "load", lambda *_, **__: bright_tracker())
    bundle, uploads, made = small_bundle(tmp_path / "bundle"), tmp_path / "uploads", []
    uploads.mkdir()

    def make(sources: tuple[str, ...] = (), **options: Any) -> tuple[FlaskClient, Runs]:
        runs = Runs(Trackers([str(bundle), str(bundle)], "onnxruntime"), 10_000_000)
        made.append(runs)
        app = make_app(Places([str(videos), *sources], uploads, 100_000), runs, **options)
        client = app.test_client()
        client.environ_base["HTTP_X_SPM_PAGE"] = "1"
        return client, runs

    yield make
    for runs in made:
        runs.close()
