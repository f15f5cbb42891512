"""Data sets in the layouts of their releases, whose pictures say which number they have: pairing is exact or wrong.

Picture ``n`` has grey levels that tell n, and the box that belongs to it starts at x = n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np

from spm_rt.media.datasets import Sequence, usable

GONE = "nan,nan,nan,nan"


def pictures(folder: Path, numbers: Iterable[int], name: str = "{:04d}.png") -> None:
    """One small picture for each number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture = np.full((6, 24, 3), (number % 256, number // 256, 7), np.uint8)
        cv2.imwrite(str(folder / name.format(number)), picture)


def line(number: int, separator: str = ",") -> str:
    return separator.join(str(v) for v in (number, 1, 5, 4))


def lines(numbers: Iterable[int | None], separator: str = ",") -> str:
    return "".join((GONE if n is None else line(n, separator)) + "\n" for n in numbers)


def text(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def numbers_of(sequence: Sequence) -> list[int | None]:
    """The number in each picture, None where it has no box; and that each box belongs to its picture."""
    shown = [int(p[0, 0, 0]) + 256 * int(p[0, 0, 1]) for p in sequence.frames()]
    with_box = usable(sequence.boxes)
    assert [n for n, has in zip(shown, with_box, strict=True) if has] == sequence.boxes[with_box, 0].tolist()
    return [n if has else None for n, has in zip(shown, with_box, strict=True)]


def otb(
    name: str, rows: Iterable[int], files: Iterable[int], truth: str = "groundtruth_rect.txt"
) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        pictures(root / name / "img", files)
        text(root / name / truth, lines(rows))

    return write


def otb_targets(root: Path) -> None:
    """As Jogging and Human4: one file for each target, of which one is empty."""
    pictures(root / "Human4" / "img", range(1, 5))
    for target, rows in (("1", ""), ("2", lines(range(1, 5), "\t")), ("3", lines(range(1, 5), " ")), ("2 (copy)", "")):
        text(root / "Human4" / f"groundtruth_rect.{target}.txt", rows)


def otb_flat(root: Path) -> None:
    """Boxes of all sequences in ``anno``, as in OTB's own toolkit."""
    pictures(root / "Deer" / "img", range(1, 5))
    pictures(root / "Jogging" / "img", range(1, 5))
    for name in ("Deer", "Jogging-1", "Jogging-2"):
        text(root / "anno" / f"{name}.txt", lines(range(1, 5)))


def otb_nested(root: Path) -> None:
    """As unpacked archives often are: a folder in a folder of the same name."""
    otb("David/David", range(1, 4), range(1, 4))(root / "OTB100")
    pictures(root / "OTB100" / "Deer" / "Deer" / "img", range(1, 4))
    text(root / "OTB100" / "Deer" / "groundtruth_rect.txt", lines(range(1, 4)))
    text(root / "OTB100" / "__MACOSX" / "David" / "groundtruth_rect.txt", "no boxes")
    text(root / "OTB100" / "David" / "David" / "._groundtruth_rect.txt", "no boxes")


def temple(root: Path) -> None:
    pictures(root / "Ball_ce2" / "img", range(1, 11))
    text(root / "Ball_ce2" / "Ball_ce2_gt.txt", lines(range(3, 8)))
    text(root / "Ball_ce2" / "Ball_ce2_frames.txt", "3,7")


def got10k(root: Path) -> None:
    """A validation sequence with marks, a test sequence, and one that ``list.txt`` does not name."""
    for name in ("GOT-10k_Val_000001", "GOT-10k_Val_000002", "GOT-10k_Val_000010"):
        pictures(root / "val" / name, range(1, 7), "{:08d}.png")
        text(root / "val" / name / "groundtruth.txt", lines(range(1, 7)))
        text(root / "val" / name / "absence.label", "0\n1\n0\n0\n0\n0\n")
        text(root / "val" / name / "cover.label", "8\n8\n8\n0\n3\n8\n")
        text(root / "val" / name / "meta_info.ini", "[METAINFO]\nobject_class: fox\nresolution: (24, 6)")
    text(root / "val" / "list.txt", "GOT-10k_Val_000001\r\nGOT-10k_Val_000010\r\nGOT-10k_Val_000011\r\n")
    pictures(root / "test" / "GOT-10k_Test_000001", range(1, 7), "{:08d}.png")
    text(root / "test" / "GOT-10k_Test_000001" / "groundtruth.txt", lines([1]))


def lasot(root: Path) -> None:
    pictures(root / "airplane" / "airplane-1" / "img", range(1, 7), "{:08d}.png")
    folder = root / "airplane" / "airplane-1"
    text(folder / "groundtruth.txt", lines(range(1, 7)))
    text(folder / "full_occlusion.txt", "0,0,1,0,0,0")
    text(folder / "out_of_view.txt", "0,0,0,0,1,0")
    text(folder / "nlp.txt", "airplane flying in the sky")


def vot(root: Path) -> None:
    """Polygons; and a set of 2020 or later with masks, a frame without a region, and missing rows at the end."""
    corners = "".join(f"{n},1,{n + 5},2,{n + 4},5,{n + 1},4\n" for n in range(1, 4))
    pictures(root / "ball" / "color", range(1, 4), "{:08d}.png")
    text(root / "ball" / "groundtruth.txt", corners)
    text(root / "ball" / "occlusion.tag", "0\n1\n0\n")
    pictures(root / "crab" / "color", range(1, 8), "{:08d}.png")
    masks = [f"m{n},1,5,4,2,3,5,5,5" for n in range(1, 4)]
    text(root / "crab" / "groundtruth.txt", "\n".join([*masks, "0", "m0,0,0,0,0"]))
    text(root / "crab" / "sequence", "channels.color=color/%08d.jpg\nlength=7")
    text(root / "list.txt", "ball\ncrab\n")


def tnl2k(root: Path) -> None:
    pictures(root / "Cartoon_01" / "imgs", range(1, 12), "{}.png")
    text(root / "Cartoon_01" / "groundtruth.txt", lines(range(1, 12)))
    text(root / "Cartoon_01" / "language.txt", "the cat")


def vots(root: Path) -> None:
    """Several targets, as since 2023."""
    pictures(root / "birds" / "color", range(1, 4), "{:08d}.png")
    for target in ("left", "right"):
        text(root / "birds" / f"groundtruth_{target}.txt", lines(range(1, 4)))


def trackingnet(root: Path) -> None:
    for name, count in (("0-6LB4FqxoE_0", 12), ("aaa_1", 3)):
        pictures(root / "TRAIN_0" / "frames" / name, range(count), "{}.png")
    text(root / "TRAIN_0" / "anno" / "0-6LB4FqxoE_0.txt", lines(range(12)))
    text(root / "TRAIN_0" / "anno" / "bbb_2.txt", lines(range(12)))
    pictures(root / "TEST" / "frames" / "ccc_0", range(3), "{}.png")
    text(root / "TEST" / "anno" / "ccc_0.txt", lines([0]))


def uav123(root: Path) -> None:
    pictures(root / "data_seq" / "UAV123" / "bird1", range(775, 1500), "{:06d}.png")
    pictures(root / "data_seq" / "UAV123" / "bike2", range(1, 5), "{:06d}.png")
    text(root / "anno" / "UAV123" / "bird1_2.txt", lines(range(775, 1478)))
    text(root / "anno" / "UAV123" / "bike2.txt", lines([1, None, 3, 4]).replace("nan", "NaN"))
    text(root / "anno" / "UAV123" / "att" / "bike2.txt", "0,1,0")


def uav123_10fps(root: Path) -> None:
    pictures(root / "data_seq" / "UAV123_10fps" / "car16", range(1, 666), "{:06d}.png")
    text(root / "anno" / "UAV123_10fps" / "car16_1.txt", lines(range(1, 140)))
    text(root / "anno" / "UAV123_10fps" / "car16_2.txt", lines(range(139, 666)))


def mot(root: Path) -> None:
    """Two pedestrians, the second with a gap; a car, one not to be considered, one seen once; and a test sequence."""
    folder = root / "train" / "MOT17-02-SDP"
    pictures(folder / "img1", range(1, 9), "{:06d}.png")
    text(folder / "seqinfo.ini", "[Sequence]\nname=MOT17-02-SDP\nimDir=img1\nseqLength=8\n")
    seen = {1: range(1, 9), 12: (3, 4, 6), 5: range(1, 4), 7: range(2, 5), 9: (4,)}
    flags = {1: "1,1,0.5", 12: "1,1,0.25", 5: "1,3,1", 7: "0,1,0", 9: "1,1,1"}
    rows = [f"{n},{target},{line(n)},{flags[target]}" for target in seen for n in seen[target]]
    text(folder / "gt" / "gt.txt", "\n".join([*rows, f"7,12,{line(7)},0,1,0.1"]))
    pictures(root / "test" / "MOT17-01-SDP" / "img1", range(1, 3), "{:06d}.png")
    text(root / "test" / "MOT17-01-SDP" / "seqinfo.ini", "[Sequence]\nimDir=img1\n")


def mot15(root: Path) -> None:
    """Ten columns, without a class."""
    pictures(root / "KITTI-13" / "img1", range(1, 4), "{:06d}.png")
    text(root / "KITTI-13" / "gt" / "gt.txt", "".join(f"{n},1,{line(n)},1,-1,-1,-1\n" for n in range(1, 4)))
