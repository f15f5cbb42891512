"""Contact sheets: twelve pictures of a run of any length."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from spm_rt.media.drawing import contact_sheet
from spm_rt.outputs import sheet
from spm_rt.outputs.sheet import SheetOutput

from ...support.media.results import source_frames, tracked, write_results


def chosen(count: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Which of so many frames are on the sheet."""
    shown: list[str] = []

    def note(pictures: list[np.ndarray], names: list[str]) -> np.ndarray:
        shown.extend(names)
        assert len(pictures) == len(names)
        return contact_sheet(pictures, names)

    monkeypatch.setattr(sheet, "contact_sheet", note)
    write_results([("sheet", tmp_path / "s.png")], source_frames([None] * count, size=(32, 24)))
    return [int(name.split()[1]) for name in shown]


@pytest.mark.parametrize("count", [1, 2, 11, 12, 13, 60, 95, 96, 97, 191, 193, 500, 3001])
def test_twelve_pictures_from_the_first_to_the_last_whatever_their_number(
    count: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    frames = chosen(count, monkeypatch, tmp_path)
    assert len(set(frames)) == len(frames) == min(12, count)
    assert (frames[0], frames[-1]) == (0, count - 1)
    ideal = np.linspace(0, count - 1, len(frames))
    assert np.abs(np.array(frames) - ideal).max() <= max(0.5, 0.025 * count)


def test_memory_is_bounded(tmp_path: Path) -> None:
    output = SheetOutput(str(tmp_path / "s.png"))
    most = 0
    for frame in source_frames([None] * 2000, size=(32, 24)):
        output.write(frame, tracked(frame.index), lambda frame=frame: frame.picture)  # type: ignore[misc]
        most = max(most, len(output._kept))
    output.close()
    assert most < 100
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp", ".bmp", ".tif"])
def test_a_sheet_is_a_picture_of_its_suffix(suffix: str, tmp_path: Path) -> None:
    (written,) = write_results([("sheet", tmp_path / f"s{suffix}")], source_frames([None] * 5))
    assert written.frames == 5
    picture = cv2.imread(str(tmp_path / f"s{suffix}"))
    assert picture is not None
    assert picture.shape == (2 * 244 + 4, 4 * 324 + 4, 3)


def test_pictures_of_several_sizes_share_a_sheet() -> None:
    sizes = [(48, 64), (64, 48), (10, 400), (400, 10), (1, 1), (48, 64)]
    pictures = [np.full((*size, 3), 200, np.uint8) for size in sizes]
    whole = contact_sheet(pictures, [""] * len(sizes), columns=3, width=60)
    assert whole.shape == (2 * 124 + 4, 3 * 64 + 4, 3)
    cells = [whole[r : r + 120, c : c + 60] for r in (4, 128) for c in (4, 68, 132)]
    share = [float((cell == 200).mean()) for cell in cells]
    assert share == pytest.approx([45 / 120, 80 / 120, 2 / 120, 3 / 60, 60 / 120, 45 / 120], abs=0.02)


def test_numbers_are_readable_on_any_ground() -> None:
    """White strokes, each with a dark rim of one pixel around it and nothing else dark: no stroke is drawn twice."""
    for ground in (0, 128, 255):
        whole = contact_sheet([np.full((240, 320, 3), ground, np.uint8)], ["frame 1888"])
        letters = np.zeros((240, 320), np.uint8)
        cv2.putText(letters, "frame 1888", (6, 232), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 255, 1, cv2.LINE_AA)
        cell = whole[4:244, 4:324, 0].astype(int)
        assert (cell[letters > 230] > 225).all()
        near = cv2.dilate(letters, np.ones((3, 3), np.uint8))
        assert (cell[near == 0] == ground).all()
        if ground:
            assert cell[(near > 230) & (letters < 20)].max() < 45
