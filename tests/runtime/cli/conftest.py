"""Pictures to track on, and a tracker without a bundle."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from spm_rt import MultiTracker, Tracker

from ...support.fakes.backend import COUNT, bright_frame, bright_multi_tracker, bright_tracker


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of pictures; what is loaded finds what is bright."""
    monkeypatch.setattr(Tracker, "load", lambda *_, **__: bright_tracker())
    monkeypatch.setattr(MultiTracker, "load", lambda *_, **__: bright_multi_tracker())
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(COUNT):
        cv2.imwrite(str(folder / f"{k}.png"), bright_frame(80 + 2 * k, 60 - k))
    return str(folder)
