"""Readers of every layout on tiny sets, and what is said when a set is broken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spm_rt.errors import SourceError
from spm_train.data.folders import Coco, Got10k, ImagenetVid
from spm_train.data.packed import PackedStills, PackedVideo
from spm_train.data.readers import Reader, is_held_out
from tests.support.media.shapes import SIZE


def check(reader: Reader) -> None:
    """Every picture of every object can be read, and there is a shape of the expected size in the box."""
    for instance in reader.instances:
        for picture, box in zip(instance.pictures, instance.boxes, strict=True):
            image = reader.picture(picture)
            assert image.shape == (SIZE[1], SIZE[0], 3)
            assert ((box[2:] - box[:2]) >= 18).all()
            x1, y1, x2, y2 = box.astype(int)
            inside = image[y1 + 8 : y2 - 8, x1 + 3 : x2 - 3].reshape(-1, 3).astype(int)
            assert (inside.max(1) - inside.min(1)).mean() > 80, "not the shape's strong colour"


def test_packed_stills(stills: Path) -> None:
    reader = PackedStills(stills)
    assert len(reader.instances) == 8
    assert {i.category for i in reader.instances} == {f"shape {k}" for k in range(4)}
    check(reader)


def test_packed_video_leaves_out_frames_without_a_box(video: Path) -> None:
    reader = PackedVideo(video)
    assert [len(i.pictures) for i in reader.instances] == [4, 5, 5]
    assert reader.instances[0].pictures == (0, 2, 3, 4)
    assert reader.instances[1].group == "clip1"
    check(reader)


def test_got10k_leaves_out_absent_frames(got10k: Path) -> None:
    reader = Got10k(got10k)
    assert [(i.category, i.pictures) for i in reader.instances] == [("shape 0", (0, 1, 3)), ("shape 1", (4, 5, 6, 7))]
    check(reader)


def test_coco_leaves_out_crowds_and_specks(coco: Path) -> None:
    reader = Coco(coco)
    assert [i.category for i in reader.instances] == ["square", "disc", "square"]
    check(reader)
    assert len(Coco(coco, coco.parent.parent / "train2017").instances) == 3


def test_vid_keeps_every_third_frame(vid: Path) -> None:
    reader = ImagenetVid(vid)
    assert [len(i.pictures) for i in reader.instances] == [2, 2]
    assert len(ImagenetVid(vid, step=1).instances[0].pictures) == 6
    check(reader)


def test_holding_out_depends_on_the_name_alone() -> None:
    names = [f"clip{i}" for i in range(2000)]
    share = np.mean([is_held_out(name, 10) for name in names])
    assert 0.07 < share < 0.13
    assert not any(is_held_out(name, 0) for name in names)


def test_missing_sets(tmp_path: Path) -> None:
    for reader in (PackedStills, PackedVideo, Got10k, ImagenetVid):
        with pytest.raises(SourceError, match=str(tmp_path)):
            reader(tmp_path)
    with pytest.raises(SourceError, match="cannot be read"):
        Coco(tmp_path / "none.json")


def test_missing_pictures(coco: Path, got10k: Path, vid: Path) -> None:
    (coco.parent.parent / "train2017" / f"{1:012d}.jpg").unlink()
    with pytest.raises(SourceError, match=r"1 of 3 pictures are missing, the first\s+is 000000000001.jpg"):
        Coco(coco)
    next(got10k.glob("**/00000002.jpg")).unlink()
    with pytest.raises(SourceError, match="4 boxes but only 3 pictures"):
        Got10k(got10k)
    next(vid.glob("**/000003.JPEG")).unlink()
    with pytest.raises(SourceError, match="000003: the picture is missing"):
        ImagenetVid(vid)


def test_unreadable_pictures(stills: Path, coco: Path) -> None:
    data = bytearray((stills / "images.bin").read_bytes())
    data[:64] = bytes(64)
    (stills / "images.bin").write_bytes(data)
    with pytest.raises(SourceError, match="picture 0 at byte 0: not a readable picture"):
        PackedStills(stills).picture(0)
    (stills / "images.bin").write_bytes(data[:3000])
    reader = PackedStills(stills)
    with pytest.raises(SourceError, match="lies outside the file"):
        reader.picture(7)
    (coco.parent.parent / "train2017" / f"{0:012d}.jpg").write_bytes(b"not a picture")
    with pytest.raises(SourceError, match="not a readable picture"):
        Coco(coco).picture(0)


def test_boxes_outside_and_empty_boxes(stills: Path, video: Path) -> None:
    def rewrite(change: dict[str, object]) -> None:
        lines = (stills / "index.jsonl").read_text().splitlines()
        first = json.loads(lines[0])
        first["objects"][0] = {**first["objects"][0], **change}
        (stills / "index.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]))

    rewrite({"box": [80, 10, 40, 20]})
    with pytest.raises(SourceError, match="lies outside its 96 x 72 picture"):
        PackedStills(stills)
    rewrite({"box": [20, 10, 0, 20]})
    with pytest.raises(SourceError, match="empty or unreadable box"):
        PackedStills(stills)
    rewrite({"box": [20, 10, 10, 20], "category": " "})
    with pytest.raises(SourceError, match="without a category"):
        PackedStills(stills)
    rewrite({"box": "nonsense"})
    with pytest.raises(SourceError, match=r"index.jsonl, line 1"):
        PackedStills(stills)
    (video / "tracks.json").write_text('{"clips": []}')
    with pytest.raises(SourceError, match="no objects"):
        PackedVideo(video)


def test_coco_without_categories(coco: Path) -> None:
    content = json.loads(coco.read_text())
    coco.write_text(json.dumps({**content, "categories": []}))
    with pytest.raises(SourceError, match="no categories"):
        Coco(coco)
    coco.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(SourceError, match="no objects"):
        Coco(coco)
