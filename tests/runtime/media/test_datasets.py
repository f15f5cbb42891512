"""Clips in every layout, and what is said where one cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spm_rt.errors import SourceError
from spm_rt.media.datasets import find_sequences, read_boxes, usable

from ...support.media.clips import box, boxes, picture, write_got10k, write_otb, write_packed, write_vot


def test_otb(tmp_path: Path) -> None:
    write_otb(tmp_path / "one")
    write_otb(tmp_path / "two", 3)
    (tmp_path / "notes").mkdir()
    first, second = find_sequences(tmp_path)
    assert (first.name, len(first), second.name, len(second)) == ("one", 6, "two", 3)
    assert first.boxes.tolist() == [list(b) for b in boxes(6)]
    assert first.first_box == box(0)
    assert np.array_equal(first.read(4), picture(4))
    assert len(list(first.frames(2))) == 2


def test_a_clip_may_be_given_by_itself(tmp_path: Path) -> None:
    assert [clip.name for clip in find_sequences(write_otb(tmp_path / "one"))] == ["one"]


def test_got10k_absent_frames_have_no_box(tmp_path: Path) -> None:
    write_got10k(tmp_path / "GOT_1", absent=(2, 5))
    (clip,) = find_sequences(tmp_path)
    assert usable(clip.boxes).tolist() == [True, True, False, True, True, False]
    assert clip.boxes[4].tolist() == list(box(4))
    assert np.array_equal(clip.read(3), picture(3))


def test_vot_polygons_become_their_bounds(tmp_path: Path) -> None:
    write_vot(tmp_path / "ball")
    (clip,) = find_sequences(tmp_path)
    assert clip.boxes == pytest.approx(np.array(boxes(6)), abs=1e-3)
    assert np.array_equal(clip.read(5), picture(5))


def test_packed_tracks_start_at_their_first_box(tmp_path: Path) -> None:
    whole, late = find_sequences(write_packed(tmp_path / "packed"))
    assert (whole.name, len(whole), late.name, len(late)) == ("patch/0", 6, "patch/1", 5)
    assert late.first_box == box(1)
    assert np.array_equal(late.read(0), picture(1))
    assert usable(late.boxes).tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("line", ["1,2,3,4", "1 2 3 4", "1\t2\t3\t4", "1;2;3;4", " 1, 2, 3, 4 ", "1,2,3,4,"])
def test_separators(tmp_path: Path, line: str) -> None:
    path = tmp_path / "boxes.txt"
    path.write_text(f"{line}\n\n{line}\n")
    assert read_boxes(path).tolist() == [[1, 2, 3, 4]] * 2


def test_boxes_without_size_are_none(tmp_path: Path) -> None:
    path = tmp_path / "boxes.txt"
    path.write_text("1,2,3,4\nnan,nan,nan,nan\n0,0,0,0\n1,2,-3,4\n")
    assert np.isnan(read_boxes(path)).all(axis=1).tolist() == [False, True, True, True]


def test_errors_name_the_place(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        find_sequences(tmp_path / "missing")
    with pytest.raises(SourceError, match="no clips in it"):
        find_sequences(tmp_path)
    clip = write_otb(tmp_path / "one", 3)
    truth = clip / "groundtruth_rect.txt"
    lines = truth.read_text().splitlines()
    truth.write_text("\n".join([lines[0], "12,13", lines[2]]))
    with pytest.raises(SourceError, match=r"groundtruth_rect.txt, line 2: '12,13'"):
        find_sequences(tmp_path)
    truth.write_text("\n".join(lines * 2))
    with pytest.raises(SourceError, match="6 boxes for 3 pictures"):
        find_sequences(tmp_path)
    truth.write_text("\n".join(["nan,nan,nan,nan"] * 3))
    with pytest.raises(SourceError, match=r"no clips in it.*one: 0 of 3 pictures with a box"):
        find_sequences(tmp_path)
    truth.write_text("\n".join(lines))
    for path in (clip / "img").iterdir():
        path.unlink()
    with pytest.raises(SourceError, match="no pictures in it"):
        find_sequences(tmp_path)


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    (clip,) = find_sequences(write_otb(tmp_path / "one", 3))
    (tmp_path / "one" / "img" / "0002.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"0002\.png: not a readable picture"):
        clip.read(1)


def test_a_damaged_packed_set_is_refused(tmp_path: Path) -> None:
    folder = write_packed(tmp_path / "packed")
    (folder / "frames.bin").write_bytes((folder / "frames.bin").read_bytes()[:500])
    with pytest.raises(SourceError, match="patch/0: frame 5: not a readable picture"):
        find_sequences(folder)[0].read(5)
    (folder / "tracks.json").write_text("{}")
    with pytest.raises(SourceError, match="not a packed set"):
        find_sequences(folder)
