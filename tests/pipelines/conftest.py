"""Films and folders for streams, and a tracker of several streams that needs no bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from spm_rt.pipelines.streams import StreamTracker

from ..support.fakes.backend import bright_streams, moving_disc
from ..support.media.films import write_film


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbered frames, in a container that can be cut anywhere."""
    return write_film(tmp_path_factory.mktemp("film") / "film.ts")


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures with a bright disc that moves."""
    folder = tmp_path_factory.mktemp("discs")
    for k, picture in enumerate(moving_disc()):
        cv2.imwrite(str(folder / f"{k}.png"), picture)
    return folder


@pytest.fixture
def streams() -> Iterator[StreamTracker]:
    """Follows what is bright."""
    with bright_streams() as made:
        yield made
