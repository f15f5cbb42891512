"""Tiny data sets of every layout, made on the spot: coloured shapes that move over a pattern."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from tests.support.media.shapes import SIZE, draw, pack


@pytest.fixture
def stills(tmp_path: Path) -> Path:
    """A packed set of eight photographs, two of each of four categories."""
    folder = tmp_path / "stills"
    folder.mkdir()
    lines = []
    for i in range(8):
        picture, box = draw(i % 4, (30 + 4 * i, 30 + i), seed=i)
        [(offset, length)] = pack(folder / "images.bin", [picture])
        objects = [{"category": f"shape {i % 4}", "box": box}]
        entry = {"offset": offset, "length": length, "size": SIZE, "source": "made/up", "objects": objects}
        lines.append(json.dumps(entry) + "\n")
    (folder / "index.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A packed set of three clips of five frames; the second frame of the first clip has no box."""
    folder = tmp_path / "video"
    folder.mkdir()
    about = {"data_set": "made up", "source": "made/up", "commit": "0", "licence": "none", "step": 1, "size": SIZE}
    clips = []
    for clip in range(3):
        drawn = [draw(clip, (30 + 6 * frame, 34 + 2 * clip), seed=100 + clip) for frame in range(5)]
        spans = pack(folder / "frames.bin", [picture for picture, _ in drawn])
        boxes = [None if (clip, frame) == (0, 1) else box for frame, (_, box) in enumerate(drawn)]
        tracks = [{"category": f"shape {clip}", "boxes": boxes}]
        clips.append({"name": f"clip{clip}", **about, "frames": spans, "tracks": tracks})
    (folder / "tracks.json").write_text(json.dumps({"clips": clips}))
    return folder


@pytest.fixture
def got10k(tmp_path: Path) -> Path:
    root = tmp_path / "got10k" / "train"
    for clip in range(2):
        folder = root / f"GOT-10k_Train_{clip + 1:06d}"
        folder.mkdir(parents=True)
        rows = []
        for frame in range(4):
            picture, box = draw(clip, (30 + 6 * frame, 34), seed=clip)
            cv2.imwrite(str(folder / f"{frame + 1:08d}.jpg"), picture)
            rows.append(",".join(f"{v:.4f}" for v in box))
        (folder / "groundtruth.txt").write_text("\n".join(rows) + "\n")
        (folder / "absence.label").write_text("0\n0\n1\n0\n" if clip == 0 else "0\n0\n0\n0\n")
        (folder / "meta_info.ini").write_text(
            f"[METAINFO]\nobject_class: shape {clip}\nresolution: ({SIZE[0]}, {SIZE[1]})\n"
        )
    return tmp_path / "got10k"


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """The annotations' path."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "train2017").mkdir()
    images, annotations = [], []
    for i in range(3):
        picture, box = draw(i, (40, 30 + i), seed=i)
        cv2.imwrite(str(root / "train2017" / f"{i:012d}.jpg"), picture)
        images.append({"id": 10 + i, "file_name": f"{i:012d}.jpg", "width": SIZE[0], "height": SIZE[1]})
        annotations.append({"id": i, "image_id": 10 + i, "category_id": 1 + i % 2, "bbox": box, "iscrowd": 0})
    annotations.append({"id": 8, "image_id": 10, "category_id": 1, "bbox": [0, 0, 50, 50], "iscrowd": 1})
    annotations.append({"id": 9, "image_id": 10, "category_id": 1, "bbox": [5, 5, 0, 3], "iscrowd": 0})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}],
    }
    path = root / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def vid(tmp_path: Path) -> Path:
    root = tmp_path / "ILSVRC"
    for clip in range(2):
        name = Path("VID") / "train" / "part0" / f"ILSVRC2015_train_{clip:08d}"
        (root / "Annotations" / name).mkdir(parents=True)
        (root / "Data" / name).mkdir(parents=True)
        for frame in range(6):
            picture, (x, y, width, height) = draw(clip, (30 + 4 * frame, 34), seed=clip)
            cv2.imwrite(str(root / "Data" / name / f"{frame:06d}.JPEG"), picture)
            box = "".join(
                f"<{k}>{v:.0f}</{k}>" for k, v in (("xmax", x + width), ("xmin", x), ("ymax", y + height), ("ymin", y))
            )
            (root / "Annotations" / name / f"{frame:06d}.xml").write_text(
                f"<annotation><size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>"
                f"<object><trackid>0</trackid><name>n0000{clip}</name><bndbox>{box}</bndbox></object></annotation>"
            )
    return root
