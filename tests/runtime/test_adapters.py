"""The tracker behind other people's interfaces."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from spm_rt.adapters import PIL_MODES, Got10kTracker, OpenCVTracker
from spm_rt.errors import FrameError

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


FEW_COLORS = np.kron([[[220, 30, 60], [20, 200, 90]], [[40, 60, 230], [250, 240, 10]]], np.ones((8, 8, 1))).astype(
    np.uint8
)
GREY = np.repeat(FEW_COLORS[:, :, :1], 3, axis=2)
BLACK_AND_WHITE = np.where(GREY > 100, 255, 0).astype(np.uint8)


def shown(picture: object) -> np.ndarray:
    """The frame that the tracker gets for a picture, as RGB."""
    frames: list[np.ndarray] = []
    Got10kTracker(SimpleNamespace(init=lambda frame, box: frames.append(frame))).init(picture, BOX)  # type: ignore[arg-type]
    return frames[0][:, :, ::-1]


def in_mode(rgb: np.ndarray, mode: str) -> Image.Image:
    """A picture in a mode, made in as many steps as PIL needs."""
    steps = {"RGBa": ("RGBA",), "La": ("LA",), "PA": ("P",)}.get(mode, ())
    picture = Image.fromarray(rgb)
    for step in (*steps, mode):
        picture = (
            picture.convert(step, palette=Image.Palette.ADAPTIVE, colors=4) if step == "P" else picture.convert(step)
        )
    assert picture.mode == mode
    return picture


@pytest.mark.parametrize("mode", PIL_MODES)
def test_pil_pictures_of_every_mode_are_taken_as_viewers_show_them(mode: str) -> None:
    rgb = {"1": BLACK_AND_WHITE, "L": GREY, "LA": GREY, "La": GREY}.get(mode, FEW_COLORS)
    np.testing.assert_allclose(shown(in_mode(rgb, mode)).astype(int), rgb, atol=4)


def test_alpha_is_ignored_in_pictures_and_arrays() -> None:
    rgba = np.dstack([FEW_COLORS, np.full(FEW_COLORS.shape[:2], 100, np.uint8)])
    for picture in (Image.fromarray(rgba), rgba):
        np.testing.assert_array_equal(shown(picture), FEW_COLORS)


@pytest.mark.parametrize("mode", ["I;16", "I", "F", "LAB"])
def test_pil_pictures_without_known_colours_are_refused(mode: str) -> None:
    with pytest.raises(FrameError, match=rf"mode {mode} cannot be tracked on: scale it to 8 bits"):
        shown(Image.new(mode, (16, 16)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_pil_pictures_are_turned_as_opencv_turns_the_same_file(orientation: int, suffix: str, tmp_path: Path) -> None:
    about = Image.Exif()
    about[0x0112] = orientation
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(FEW_COLORS[:, :12]).save(path, exif=about, quality=98, subsampling=0)
    with Image.open(path) as picture:
        np.testing.assert_allclose(shown(picture).astype(int), cv2.imread(str(path))[:, :, ::-1], atol=3)


def test_damaged_pil_pictures_and_what_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.fromarray(FRAMES[0]).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with Image.open(path) as picture, pytest.raises(FrameError, match="PIL picture cannot be read"):
        shown(picture)
    for nothing in (None, np.zeros((20, 20, 2), np.uint8), "picture.png"):
        with pytest.raises(FrameError):
            Got10kTracker(bright_tracker()).init(nothing, BOX)
    with pytest.raises(FrameError, match="a frame is a numpy array"):
        OpenCVTracker(bright_tracker()).init(Image.fromarray(FRAMES[0]), BOX)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["forward_test", "track"])
def test_got10k_loop_over_files(name: str, tmp_path: Path) -> None:
    files = [str(tmp_path / f"{i}.png") for i in range(len(FRAMES))]
    for file, frame in zip(files, FRAMES, strict=True):
        cv2.imwrite(file, frame)
    boxes, seconds = getattr(Got10kTracker(bright_tracker()), name)(files, BOX)
    np.testing.assert_allclose(boxes, [BOX, *expected()])
    assert seconds.shape == (len(FRAMES),)
    assert (seconds > 0).all()
