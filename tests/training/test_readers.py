"""Readers of every layout on tiny sets, and what is said when a set is broken."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_rt.errors import SourceError
from spm_train.data import READERS
from spm_train.data.folders import Coco, Got10k, ImagenetVid
from spm_train.data.packed import PackedStills
from spm_train.data.readers import is_held_out
from tests.support.media.layouts import lines, pictures
from tests.support.media.shapes import SIZE

KINDS = {kind.removeprefix("packed-"): reader for kind, reader in READERS.items()}
"""Fixture with a tiny set -> the reader of its layout."""


@pytest.mark.parametrize(
    ("kind", "objects"),
    [
        pytest.param("stills", [(f"shape {i % 4}", (i,)) for i in range(8)], id="stills"),
        pytest.param(
            "video",
            [("shape 0", (0, 2, 3, 4)), ("shape 1", (5, 6, 7, 8, 9)), ("shape 2", (10, 11, 12, 13, 14))],
            id="video without frames that have no box",
        ),
        pytest.param("got10k", [("shape 0", (0, 1, 3)), ("shape 1", (4, 5, 6, 7))], id="got10k without absent frames"),
        pytest.param("coco", [("square", (0,)), ("disc", (1,)), ("square", (2,))], id="coco without crowds and specks"),
        pytest.param("vid", [("n00000", (0, 1)), ("n00001", (2, 3))], id="vid, every third frame"),
    ],
)
def test_objects_are_listed_and_lie_in_their_boxes(
    kind: str, objects: list[tuple[str, tuple[int, ...]]], request: pytest.FixtureRequest
) -> None:
    reader = KINDS[kind](request.getfixturevalue(kind))
    assert [(instance.category, instance.pictures) for instance in reader.instances] == objects
    for instance in reader.instances:
        for picture, box in zip(instance.pictures, instance.boxes, strict=True):
            image = reader.picture(picture)
            assert image.shape == (SIZE[1], SIZE[0], 3)
            assert ((box[2:] - box[:2]) >= 18).all()
            x1, y1, x2, y2 = box.astype(int)
            inside = image[y1 + 8 : y2 - 8, x1 + 3 : x2 - 3].reshape(-1, 3).astype(int)
            assert (inside.max(1) - inside.min(1)).mean() > 80, "not the shape's strong colour"


def test_groups_folder_of_pictures_and_step(video: Path, coco: Path, vid: Path) -> None:
    assert KINDS["video"](video).instances[1].group == "clip1"
    assert len(Coco(coco, coco.parent.parent / "train2017").instances) == 3
    assert len(ImagenetVid(vid, step=1).instances[0].pictures) == 6


def test_frames_of_vid_are_in_the_order_of_their_numbers(vid: Path) -> None:
    (before, *_) = ImagenetVid(vid, step=1).instances
    for path in [*vid.rglob("*.xml"), *vid.rglob("*.JPEG")]:
        path.rename(path.with_stem(str(int(path.stem) + 8)))
    np.testing.assert_array_equal(ImagenetVid(vid, step=1).instances[0].boxes, before.boxes)


def test_holding_out_depends_on_the_name_alone() -> None:
    names = [f"clip{i}" for i in range(2000)]
    share = np.mean([is_held_out(name, 10) for name in names])
    assert 0.07 < share < 0.13
    assert not any(is_held_out(name, 0) for name in names)


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_that_is_not_there_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "none.json" if kind == "coco" else tmp_path
    with pytest.raises(SourceError, match=rf"{path}.*{'cannot be read' if kind == 'coco' else ''}"):
        KINDS[kind](path)


def still_with(**changes: object) -> Callable[[Path], object]:
    """Changes the object in the first picture of a packed set of stills."""

    def change(folder: Path) -> None:
        index = folder / "index.jsonl"
        first, *rest = index.read_text().splitlines()
        entry = json.loads(first)
        entry["objects"][0] |= changes
        index.write_text("\n".join([json.dumps(entry), *rest]))

    return change


def coco_with(**changes: object) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def without(pattern: str) -> Callable[[Path], object]:
    """Takes the first file of this name out of a set, whose path may be that of a file two folders down."""
    return lambda path: next((path if path.is_dir() else path.parent.parent).glob(pattern)).unlink()


@pytest.mark.parametrize(
    ("kind", "damage", "message"),
    [
        ("coco", without("**/000000000001.jpg"), r"1 of 3 pictures are missing, the first\s+is 000000000001.jpg"),
        ("got10k", without("**/00000002.jpg"), "4 boxes for 3 pictures"),
        ("vid", without("**/000003.JPEG"), "000003: the picture is missing"),
        ("stills", still_with(box=[20, 10, 0, 20]), "empty or unreadable box"),
        ("stills", still_with(box=[20, 10, 10, 20], category=" "), "without a category"),
        ("stills", still_with(box="nonsense"), r"index.jsonl, line 1"),
        ("video", lambda folder: (folder / "tracks.json").write_text('{"clips": []}'), "no objects"),
        ("coco", coco_with(categories=[]), "no categories"),
        ("coco", coco_with(annotations=[]), "no objects"),
    ],
)
def test_a_broken_set_is_refused(
    kind: str, damage: Callable[[Path], Any], message: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(kind)
    damage(path)
    with pytest.raises(SourceError, match=message):
        KINDS[kind](path)


def got10k_row(row: str) -> Callable[[Path], object]:
    """Changes the second row of the first clip."""

    def change(folder: Path) -> None:
        truth = folder / "train" / "GOT-10k_Train_000001" / "groundtruth.txt"
        first, _, *rest = truth.read_text().splitlines()
        truth.write_text("\n".join([first, row, *rest]))

    return change


@pytest.mark.parametrize("with_size", [True, False])
@pytest.mark.parametrize(
    ("kind", "damage", "kept"),
    [("got10k", got10k_row("80,10,40,20"), [2, 4]), ("stills", still_with(box=[80, 10, 40, 20]), [1] * 7)],
)
def test_boxes_outside_their_pictures_are_left_out_and_counted(
    kind: str, damage: Callable[[Path], Any], kept: list[int], with_size: bool, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(kind)
    damage(path)
    for about in () if with_size else path.rglob("meta_info.ini"):
        about.write_text("[METAINFO]\nobject_class: fox\nresolution: (unknown)\n")
    reader = KINDS[kind](path)
    assert [len(instance.pictures) for instance in reader.instances] == kept
    (said,) = reader.left_out
    assert re.match(r"1 of [78] boxes, the first: .*\[80.0, 10.0, 120.0, 30.0\] lies outside its 96 x 72 picture", said)


def test_boxes_of_another_size_than_the_pictures_are_refused(got10k: Path) -> None:
    for truth in got10k.rglob("groundtruth.txt"):
        truth.write_text("\n".join(["300,200,50,40"] * 4))
    with pytest.raises(SourceError, match=r"lies outside its 96 x 72 picture, as 7 of 7 boxes do"):
        Got10k(got10k)


def test_got10k_is_read_as_the_data_sets_of_clips_are(tmp_path: Path) -> None:
    """Natural order, test sequences and those without a box named, and whatever text the boxes are."""
    for name, rows in (("a", lines(range(1, 13))), ("test", lines([1])), ("gone", lines([None] * 12))):
        pictures(tmp_path / name, range(1, 13), "{}.png")
        (tmp_path / name / "groundtruth.txt").write_bytes(b"\xef\xbb\xbf" + rows.replace("\n", "\r\n").encode())
    reader = Got10k(tmp_path)
    (instance,) = reader.instances
    assert [int(reader.picture(k)[0, 0, 0]) for k in instance.pictures] == instance.boxes[:, 0].tolist()
    assert [line.split(":")[0] for line in reader.left_out] == ["gone", "test"]


def test_unreadable_pictures(stills: Path, coco: Path) -> None:
    data = bytearray((stills / "images.bin").read_bytes())
    data[:64] = bytes(64)
    (stills / "images.bin").write_bytes(data)
    with pytest.raises(SourceError, match="picture 0 at byte 0: not a readable picture"):
        PackedStills(stills).picture(0)
    (stills / "images.bin").write_bytes(data[:3000])
    with pytest.raises(SourceError, match="lies outside the file"):
        PackedStills(stills).picture(7)
    (coco.parent.parent / "train2017" / f"{0:012d}.jpg").write_bytes(b"not a picture")
    with pytest.raises(SourceError, match="not a readable picture"):
        Coco(coco).picture(0)
