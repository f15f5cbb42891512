"""Every data set's layout: which picture each box is paired with, and what is said to be left out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from spm_rt.errors import SourceError
from spm_rt.media.datasets import find_sequences, read_boxes

from ...support.media import layouts
from ...support.media.layouts import lines, numbers_of, otb, pictures, text

EVERY = list(range(1, 5))
TEST = "1 box for {} pictures, a test sequence"
Expected = dict[str, list[int | None]]


@pytest.mark.parametrize(
    ("write", "expected", "left_out"),
    [
        pytest.param(otb("David", range(300, 771), range(1, 771)), {"David": [*range(300, 771)]}, [], id="David"),
        pytest.param(otb("david", range(1, 71), range(1, 71)), {"david": [*range(1, 71)]}, [], id="as many boxes"),
        pytest.param(otb("Football1", range(1, 75), range(1, 82)), {"Football1": [*range(1, 75)]}, [], id="Football1"),
        pytest.param(otb("BlurCar3", range(3, 360), range(1, 361)), {"BlurCar3": [*range(3, 360)]}, [], id="BlurCar3"),
        pytest.param(
            otb("BlurCar4", range(18, 398), range(18, 398)), {"BlurCar4": [*range(18, 398)]}, [], id="BlurCar4"
        ),
        pytest.param(
            layouts.otb_targets,
            {"Human4/2": EVERY, "Human4/3": EVERY},
            ["Human4/1: no boxes in its file"],
            id="OTB, several targets",
        ),
        pytest.param(layouts.otb_flat, {"Deer": EVERY, "Jogging-1": EVERY, "Jogging-2": EVERY}, [], id="OTB, flat"),
        pytest.param(layouts.otb_nested, {"David": [1, 2, 3], "Deer": [1, 2, 3]}, [], id="OTB, nested"),
        pytest.param(layouts.temple, {"Ball_ce2": [3, 4, 5, 6, 7]}, [], id="Temple-Color"),
        pytest.param(
            layouts.got10k,
            {f"GOT-10k_Val_{number:06d}": [1, None, 3, None, 5, 6] for number in (1, 10)},
            [
                "GOT-10k_Test_000001: " + TEST.format(6),
                "GOT-10k_Val_000011: in list.txt, but no such folder",
                "GOT-10k_Val_000002: not in list.txt",
            ],
            id="GOT-10k",
        ),
        pytest.param(layouts.tnl2k, {"Cartoon_01": [*range(1, 12)]}, [], id="TNL2K"),
        pytest.param(layouts.lasot, {"airplane-1": [1, 2, None, 4, None, 6]}, [], id="LaSOT"),
        pytest.param(
            layouts.vot,
            {"ball": [1, 2, 3], "crab": [1, 2, 3, None, None]},
            ["crab: the last 2 of 7 pictures, without boxes"],
            id="VOT",
        ),
        pytest.param(layouts.vots, {"birds/left": [1, 2, 3], "birds/right": [1, 2, 3]}, [], id="VOT, several targets"),
        pytest.param(
            layouts.trackingnet,
            {"0-6LB4FqxoE_0": [*range(12)]},
            [
                "ccc_0: " + TEST.format(3),
                "bbb_2: bbb_2.txt, but no folder of pictures",
                "aaa_1: pictures without a file of boxes",
            ],
            id="TrackingNet",
        ),
        pytest.param(layouts.uav123, {"bike2": [1, None, 3, 4], "bird1_2": [*range(775, 1478)]}, [], id="UAV123"),
        pytest.param(
            layouts.uav123_10fps,
            {"car16_1": [*range(1, 140)], "car16_2": [*range(139, 666)]},
            [],
            id="UAV123 at 10 fps",
        ),
        pytest.param(
            layouts.mot,
            {"MOT17-02-SDP/1": [*range(1, 9)], "MOT17-02-SDP/12": [3, 4, None, 6]},
            [
                "MOT17-01-SDP: no gt/gt.txt, a test sequence",
                "MOT17-02-SDP: 2 of 5 targets: no pedestrians, or not to be considered",
                "MOT17-02-SDP/9: 1 of 1 pictures with a box",
            ],
            id="MOT17",
        ),
        pytest.param(layouts.mot15, {"KITTI-13/1": [1, 2, 3]}, [], id="MOT15"),
    ],
)
def test_boxes_are_paired_as_the_data_sets_own_toolkit_pairs_them(
    write: Callable[[Path], None], expected: Expected, left_out: list[str], tmp_path: Path
) -> None:
    write(tmp_path)
    found = find_sequences(tmp_path)
    assert {sequence.name: numbers_of(sequence) for sequence in found} == expected
    assert [said for said, start in zip(found.left_out, left_out, strict=True) if not said.startswith(start)] == []


def test_pictures_without_leading_zeros_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    pictures(tmp_path / "clip", range(1, 31), "{}.png")
    text(tmp_path / "clip" / "groundtruth.txt", lines(range(1, 31)))
    for number in (2, 10):
        pictures(tmp_path / f"clip{number}" / "img", range(1, 12), "frame ({}).png")
        text(tmp_path / f"clip{number}" / "groundtruth_rect.txt", lines(range(1, 12)))
    found = find_sequences(tmp_path)
    assert [sequence.name for sequence in found] == ["clip", "clip2", "clip10"]
    assert [numbers_of(sequence) for sequence in found] == [[*range(1, 31)], [*range(1, 12)], [*range(1, 12)]]


@pytest.mark.parametrize("name", ["frames.txt", "Mine_frames.txt"])
def test_a_file_may_say_which_pictures_have_boxes(name: str, tmp_path: Path) -> None:
    otb("Mine", range(31, 101), range(1, 101))(tmp_path)
    with pytest.raises(SourceError, match=r"70 boxes for 100 pictures.*write the numbers .* into frames.txt"):
        find_sequences(tmp_path)
    text(tmp_path / "Mine" / name, "31\t100\r\n")
    assert numbers_of(find_sequences(tmp_path)[0]) == [*range(31, 101)]
    text(tmp_path / "Mine" / name, "32,100")
    with pytest.raises(SourceError, match=r"70 boxes for 100 pictures.*expected: 69 for pictures 32 to 100"):
        find_sequences(tmp_path)
    text(tmp_path / "Mine" / name, "from 31")
    with pytest.raises(SourceError, match=rf"{name}: the numbers of the first and the last picture"):
        find_sequences(tmp_path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (otb("David", range(31, 101), range(1, 101)), "70 boxes for 100 pictures.*471 for pictures 300 to 770"),
        (otb("Deer", range(1, 12), range(1, 11)), "11 boxes for 10 pictures, and nothing says which of them$"),
        (otb("clip", range(1, 10), range(1, 11), "groundtruth.txt"), "9 boxes for 10 pictures"),
    ],
)
def test_what_cannot_be_paired_is_refused_with_numbers(
    write: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    write(tmp_path)
    with pytest.raises(SourceError, match=message):
        find_sequences(tmp_path)


@pytest.mark.parametrize(
    ("write", "file", "content", "message"),
    [
        (layouts.got10k, "val/GOT-10k_Val_000001/absence.label", "0\n1\n", "absence.label: 2 marks for 6 boxes"),
        (layouts.lasot, "airplane/airplane-1/out_of_view.txt", "0,0,no,0", "out_of_view.txt, line 1: '0,0,no,0' is no"),
        (layouts.vot, "crab/groundtruth.txt", "m1,1,2,2,0,9", "groundtruth.txt, line 1: 'm1,1,2,2,0,9' is neither"),
        (layouts.uav123, "anno/UAV123/bird1_2.txt", lines(range(9)), "9 boxes for 725 pictures.*703 for pictures 775"),
        (layouts.trackingnet, "TRAIN_0/anno/0-6LB4FqxoE_0.txt", lines(range(3)), "3 boxes for 12 pictures"),
        (layouts.uav123, "anno/UAV20L/bike2.txt", lines(EVERY), "several sets of boxes.*UAV20L or .*UAV123"),
        (layouts.mot15, "KITTI-13/gt/gt.txt", "1,1,1,1,5,4,1\n1,1,2,1,5,4,1", "1 times two boxes of one target"),
        (layouts.mot15, "KITTI-13/gt/gt.txt", "3,1,1,1,5,4,1\n4,1,2,1,5,4,1", "in frames 3 to 4, but there is no pic"),
        (layouts.mot15, "KITTI-13/gt/gt.txt", "1,one,1,1,5,4,1", "line 1: '1,one,1,1,5,4,1' is not frame, target"),
        (layouts.mot15, "KITTI-13/gt/gt.txt", "# nothing", "no boxes in it"),
    ],
)
def test_damaged_ground_truth_is_named(
    write: Callable[[Path], None], file: str, content: str, message: str, tmp_path: Path
) -> None:
    write(tmp_path)
    text(tmp_path / file, content)
    with pytest.raises(SourceError, match=message):
        find_sequences(tmp_path)


def test_a_part_of_a_set_may_be_given(tmp_path: Path) -> None:
    layouts.uav123(tmp_path)
    text(tmp_path / "anno" / "UAV20L" / "bike2.txt", lines(EVERY))
    assert [sequence.name for sequence in find_sequences(tmp_path / "anno" / "UAV20L")] == ["bike2"]
    layouts.trackingnet(tmp_path / "tn")
    assert len(find_sequences(tmp_path / "tn" / "TRAIN_0" / "anno")) == 1
    with pytest.raises(SourceError, match=r"no clips in it.*\(ccc_0: 1 box for 3 pictures, a test sequence"):
        find_sequences(tmp_path / "tn" / "TEST")


def test_sequences_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("OTB50", "OTB100"):
        otb("Deer", EVERY, EVERY)(tmp_path / folder)
    assert [sequence.name for sequence in find_sequences(tmp_path)] == ["Deer", "OTB100/Deer"]


@pytest.mark.parametrize("place", [".", "img/.."])
def test_the_folder_at_hand_has_a_name(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    otb("Deer", EVERY, EVERY)(tmp_path)
    monkeypatch.chdir(tmp_path / "Deer")
    assert [sequence.name for sequence in find_sequences(place)] == ["Deer"]
    monkeypatch.chdir(tmp_path / "Deer" / "img")
    with pytest.raises(SourceError, match=r"\(img: pictures without boxes\)"):
        find_sequences(".")


def test_a_sequence_starts_at_its_first_box(tmp_path: Path) -> None:
    pictures(tmp_path / "Deer" / "img", range(1, 7))
    text(tmp_path / "Deer" / "groundtruth_rect.txt", "nan,nan,nan,nan\n0,0,0,0\n" + lines([3, 4, None, 6]))
    pictures(tmp_path / "bare", range(3))
    found = find_sequences(tmp_path)
    assert [numbers_of(sequence) for sequence in found] == [[3, 4, None, 6]]
    assert found.left_out == ["bare: pictures without boxes", "Deer: the first 2 of 6 pictures, which have no box"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf1,2,3,4\r\n5,6,7,8\r\n",
        "1,2,3,4\n5,6,7,8".encode("utf-16"),
        b"1\t2\t3\t4\r5\t6\t7\t8\r\r",
        b"# x, y, w, h: Gr\xf6\xdfe\n1 2 3 4 % first\n\n 5;6; 7;8; \n\n",
        b"1e0,.2e1,+3.,4.0,\n5,6,7,8,\n",
    ],
)
def test_boxes_are_read_from_any_text(content: bytes, tmp_path: Path) -> None:
    assert read_boxes(text(tmp_path / "boxes.txt", content)).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize(
    "row", ["1,,2,3,4", "1_0,2,3,4", "1,2,3", "1,2,3,4,5,6", "x,y,w,h", "1,1,199,813,140,268,1,-1,-1,-1", "0"]
)
def test_a_row_that_is_no_box_is_named(row: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=rf"boxes.txt, line 2: {re.escape(repr(row))} is neither four numbers"):
        read_boxes(text(tmp_path / "boxes.txt", f"1,2,3,4\n{row}\n"))


@pytest.mark.parametrize(
    ("mask", "box"),
    [
        ("m10,20,4,3,5,2,3,1", [11, 21, 2, 2]),
        ("m10,20,4,3,0,12", [10, 20, 4, 3]),
        ("m10,20,4,3,3,2,7", [10, 20, 4, 2]),
        ("m0,0,5,4,20", None),
        ("nan,nan,nan,nan", None),
        ("nan,nan,1,2,3,4,5,6", None),
    ],
)
def test_a_mask_becomes_the_bounds_of_its_pixels(mask: str, box: list[int] | None, tmp_path: Path) -> None:
    (found,) = read_boxes(text(tmp_path / "groundtruth.txt", mask), regions=True).tolist()
    assert found == (box or pytest.approx([float("nan")] * 4, nan_ok=True))


def test_links_are_followed_once_and_folders_without_boxes_are_passed_by(tmp_path: Path) -> None:
    otb("Deer", EVERY, EVERY)(tmp_path / "set")
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set", target_is_directory=True)
    (tmp_path / "set" / "Fawn").symlink_to(tmp_path / "set" / "Deer", target_is_directory=True)
    text(tmp_path / "set" / "annotations" / "README.txt", "Boxes lie beside the pictures.")
    found = find_sequences(tmp_path)
    assert ([sequence.name for sequence in found], found.left_out) == (["Deer"], [])
    with pytest.raises(SourceError, match=r"README\.txt: not a folder"):
        find_sequences(tmp_path / "set" / "annotations" / "README.txt")


def test_annotation_files_need_not_be_written_as_the_folders_are(tmp_path: Path) -> None:
    pictures(tmp_path / "MotorRolling" / "img", EVERY)
    text(tmp_path / "anno" / "motorRolling.txt", lines(EVERY))
    pictures(tmp_path / "uavdt" / "sequences" / "S0103", EVERY, "img{:06d}.png")
    text(tmp_path / "uavdt" / "annotations" / "S0103_gt.txt", lines(EVERY))
    assert [numbers_of(sequence) for sequence in find_sequences(tmp_path)] == [EVERY]
    assert [numbers_of(sequence) for sequence in find_sequences(tmp_path / "uavdt")] == [EVERY]
