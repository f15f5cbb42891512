"""Frames from files, folders and cameras; what is drawn on them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from spm_rt import TrackResult
from spm_rt.errors import SourceError
from spm_rt.media.drawing import annotate, contact_sheet
from spm_rt.media.video import frame_count, frame_rate, frames, is_camera, picture_files, read_picture

from ...support.fakes.backend import bright_frame
from ...support.media.films import plain_film


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in (2, 0, 1):
        cv2.imwrite(str(tmp_path / f"{i:04}.png"), bright_frame(40 + i, 40))
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return plain_film(tmp_path / "v.avi", [bright_frame(40 + i, 40) for i in range(5)], 12.5)


def test_pictures_come_by_name(folder: Path) -> None:
    found = list(frames(folder))
    assert frame_count(folder) == len(found) == 3
    for i, frame in enumerate(found):
        np.testing.assert_array_equal(frame, bright_frame(40 + i, 40))


def test_a_folder_in_otb_layout_is_read_from_its_inside(folder: Path, tmp_path: Path) -> None:
    outer = tmp_path / "sequence"
    outer.mkdir()
    folder_files = picture_files(folder)
    (outer / "img").mkdir()
    for file in folder_files:
        file.rename(outer / "img" / file.name)
    assert [file.name for file in picture_files(outer)] == ["0000.png", "0001.png", "0002.png"]


def test_a_video_is_read_to_its_end(video: Path) -> None:
    found = list(frames(video))
    assert len(found) == frame_count(video) == 5
    assert found[0].shape == (120, 160, 3)
    assert found[0].dtype == np.uint8
    assert frame_rate(video) == pytest.approx(12.5)


def test_a_folder_has_the_default_rate(folder: Path) -> None:
    assert frame_rate(folder, 30.0) == 30.0


@pytest.mark.parametrize(
    ("source", "camera"), [("0", True), ("12", True), ("0.mp4", False), ("", False), ("-1", False)]
)
def test_cameras_are_numbers(source: str, camera: bool) -> None:
    assert is_camera(source) is camera
    if camera:
        assert frame_count(source) is None


@pytest.mark.parametrize("read", [lambda p: next(frames(p)), frame_count, frame_rate])
def test_a_missing_file_is_named(read: object, tmp_path: Path) -> None:
    assert callable(read)
    with pytest.raises(SourceError, match=r"nothing\.mp4: no such file or folder"):
        read(tmp_path / "nothing.mp4")


def test_something_else_than_a_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video at all")
    with pytest.raises(SourceError, match=r"text\.mp4: cannot be opened as a video"):
        list(frames(tmp_path / "text.mp4"))


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no pictures in it"):
        list(frames(tmp_path))


@pytest.mark.parametrize(("name", "message"), [("bad.png", "not a readable picture"), ("none.png", "no such file")])
def test_pictures_that_cannot_be_read_are_named(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=f"{name}: {message}"):
        read_picture(tmp_path / name)


def result(*, found: bool) -> TrackResult:
    return TrackResult((20.0, 30.0, 40.0, 20.0), 0.5, found, 0.5, 0.5, state="tracked" if found else "lost")


@pytest.mark.parametrize("channels", [0, 1, 3, 4])
def test_drawing_leaves_the_frame_alone(channels: int) -> None:
    frame = np.full((80, 100, channels) if channels else (80, 100), 100, np.uint8)
    drawn = annotate(frame, result(found=True))
    assert drawn.shape == (80, 100, 3)
    assert (frame == 100).all()
    assert (drawn != 100).any()


def test_lost_is_drawn_differently() -> None:
    frame = np.zeros((80, 100, 3), np.uint8)
    assert (annotate(frame, result(found=True)) != annotate(frame, result(found=False))).any()


@pytest.mark.parametrize("box", [(-50, -50, 20, 20), (90, 70, 500, 500), (0, 0, 100, 80), (1e4, 1e4, 5, 5)])
def test_boxes_outside_can_be_drawn(box: tuple[float, float, float, float]) -> None:
    drawn = annotate(np.zeros((80, 100, 3), np.uint8), TrackResult(box, 0.1, False, 0.1, 0.1, state="lost"))
    assert drawn.shape == (80, 100, 3)


def test_a_contact_sheet_has_every_picture() -> None:
    pictures = [np.full((90, 160, 3), 40 * (i + 1), np.uint8) for i in range(5)]
    sheet = contact_sheet(pictures, [str(i) for i in range(5)], columns=2, width=80)
    assert sheet.shape == (3 * 49 + 4, 2 * 84 + 4, 3)
    assert {40, 80, 120, 160, 200} <= set(np.unique(sheet).tolist())
