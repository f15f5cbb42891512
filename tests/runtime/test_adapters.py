"""The tracker behind other people's interfaces."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from spm_rt.adapters import Got10kTracker, OpenCVTracker

from ..support.fakes.backend import bright_frame, bright_tracker

BOX = (68.0, 48.0, 24.0, 24.0)
FRAMES = [bright_frame(80 + 2 * k, 60 - k) for k in range(4)]


def expected() -> list[tuple[float, ...]]:
    tracker = bright_tracker()
    tracker.init(FRAMES[0], BOX)
    return [tracker.update(frame).box for frame in FRAMES[1:]]


def test_opencv_interface() -> None:
    tracker = OpenCVTracker(bright_tracker())
    assert tracker.init(FRAMES[0], BOX) is None
    found = [tracker.update(frame) for frame in FRAMES[1:]]
    assert found == [(True, box) for box in expected()]
    ok, box = tracker.update(np.zeros_like(FRAMES[0]))
    assert ok is False
    assert box == expected()[-1]


def test_got10k_interface_takes_rgb() -> None:
    tracker = Got10kTracker(bright_tracker(), name="mine")
    assert (tracker.name, tracker.is_deterministic) == ("mine", True)
    tracker.init(FRAMES[0][:, :, ::-1], BOX)
    for frame, box in zip(FRAMES[1:], expected(), strict=True):
        found = tracker.update(frame[:, :, ::-1])
        assert isinstance(found, np.ndarray)
        assert tuple(found) == box


def test_got10k_channels_are_turned_around() -> None:
    tracker = Got10kTracker(bright_tracker())
    blue = np.zeros((100, 100, 3), np.uint8)
    blue[..., 2] = 200  # the last of RGB
    tracker.init(blue, (40, 40, 20, 20))
    assert tracker.tracker._context.crop[0].mean((1, 2)) == pytest.approx([200, 0, 0], abs=0.1)


@pytest.mark.parametrize("name", ["forward_test", "track"])
def test_got10k_loop_over_files(name: str, tmp_path: Path) -> None:
    files = [str(tmp_path / f"{i}.png") for i in range(len(FRAMES))]
    for file, frame in zip(files, FRAMES, strict=True):
        cv2.imwrite(file, frame)
    boxes, seconds = getattr(Got10kTracker(bright_tracker()), name)(files, BOX)
    np.testing.assert_allclose(boxes, [BOX, *expected()])
    assert seconds.shape == (len(FRAMES),)
    assert (seconds > 0).all()
