"""Small clips with ground truth, written in the layouts that benchmarks come in."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (96, 128)


def picture(index: int) -> NDArray[np.uint8]:
    """Frame ``index``: a textured patch that moves over a smooth background."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    frame = np.stack([x + 40, y + 60, (x + y) // 2 + 30], axis=2).astype(np.uint8)
    left, top, width, height = (int(v) for v in box(index))
    patch = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    frame[top : top + height, left : left + width] = cv2.GaussianBlur(patch, (3, 3), 0)
    return frame


def box(index: int) -> tuple[float, float, float, float]:
    return 40.0 + 2 * index, 30.0 + index, 30.0, 24.0


def boxes(count: int) -> list[tuple[float, float, float, float]]:
    return [box(index) for index in range(count)]


def write_otb(folder: Path, count: int = 6) -> Path:
    """One clip in OTB layout."""
    (folder / "img").mkdir(parents=True)
    for index in range(count):
        cv2.imwrite(str(folder / "img" / f"{index + 1:04d}.png"), picture(index))
    text = "\n".join("\t".join(f"{v:.2f}" for v in b) for b in boxes(count))
    (folder / "groundtruth_rect.txt").write_text(text + "\n")
    return folder


def write_got10k(folder: Path, count: int = 6, absent: tuple[int, ...] = ()) -> Path:
    """One clip in GOT-10k layout."""
    folder.mkdir(parents=True)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index + 1:08d}.png"), picture(index))
    (folder / "groundtruth.txt").write_text("\n".join(",".join(f"{v:.4f}" for v in b) for b in boxes(count)))
    (folder / "absence.label").write_text("\n".join(str(int(index in absent)) for index in range(count)))
    return folder


def write_vot(folder: Path, count: int = 6) -> Path:
    """One clip in VOT layout: boxes as polygons of four corners, here turned a little, with known bounds."""
    (folder / "color").mkdir(parents=True)
    lines = []
    for index in range(count):
        cv2.imwrite(str(folder / "color" / f"{index + 1:08d}.png"), picture(index))
        x, y, w, h = box(index)
        corners = [(x + 5, y), (x + w, y + 4), (x + w - 5, y + h), (x, y + h - 4)]
        lines.append(",".join(f"{v:.3f}" for corner in corners for v in corner))
    (folder / "groundtruth.txt").write_text("\n".join(lines))
    return folder


def write_packed(folder: Path, count: int = 6) -> Path:
    """A packed set: one clip with two tracks, the second of which starts late and has a gap."""
    folder.mkdir(parents=True)
    data, places = b"", []
    for index in range(count):
        ok, encoded = cv2.imencode(".png", picture(index))
        assert ok
        places.append([len(data), len(encoded)])
        data += encoded.tobytes()
    late: list[list[float] | None] = [list(b) for b in boxes(count)]
    late[0] = late[3] = None
    clip = {
        "name": "patch",
        "size": [SIZE[1], SIZE[0]],
        "frames": places,
        "tracks": [
            {"category": "patch", "boxes": [list(b) for b in boxes(count)]},
            {"category": "patch", "boxes": late},
        ],
    }
    (folder / "frames.bin").write_bytes(data)
    (folder / "tracks.json").write_text(json.dumps({"clips": [clip]}))
    return folder
