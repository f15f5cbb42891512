"""Clips with ground truth: folders in OTB, GOT-10k and VOT layout, and packed clips.

=========  ==========================================  =======================================================
layout     frames                                      boxes
=========  ==========================================  =======================================================
OTB        ``NAME/img/*.jpg``                          ``groundtruth_rect.txt``: x, y, w, h
GOT-10k    ``NAME/*.jpg``                              ``groundtruth.txt``: x, y, w, h; ``absence.label``: 1 = absent
VOT        ``NAME/color/*.jpg``, or as GOT-10k         ``groundtruth.txt``: x, y, w, h, or x1, y1 ... x4, y4
packed     ``frames.bin``: pictures one after another  ``tracks.json``: offsets and boxes
=========  ==========================================  =======================================================

Boxes are taken as they stand, 0-based pixels, as the GOT-10k toolkit does. A polygon becomes its axis-aligned bounds.
Rows without a usable box (NaN, no size, absent) are tracked but not scored.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import SourceError
from ...results import Box
from ..pictures import picture_files, read_picture

Frame = NDArray[np.uint8]
OTB_TRUTH, OTHER_TRUTH = "groundtruth_rect.txt", "groundtruth.txt"


@dataclasses.dataclass(frozen=True)
class Sequence:
    """One clip.

    Attributes:
        name: of the clip.
        boxes: ``[frames, 4]`` float64, x, y, width, height; NaN where there is none.
        read: gives frame k, BGR uint8.
    """

    name: str
    boxes: NDArray[np.float64]
    read: Callable[[int], Frame]

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def first_box(self) -> Box:
        x, y, width, height = (float(v) for v in self.boxes[0])
        return x, y, width, height

    def frames(self, limit: int | None = None) -> Iterator[Frame]:
        for index in range(min(len(self), limit or len(self))):
            yield self.read(index)


class Sequences(list[Sequence]):
    """The sequences of a folder, by name.

    Attributes:
        left_out: what the folder has and this list does not, and why: a line each.
    """

    def __init__(self, sequences: Iterable[Sequence] = (), left_out: Iterable[str] = ()) -> None:
        super().__init__(sequences)
        self.left_out = list(left_out)


def find_sequences(folder: str | Path) -> Sequences:
    """All clips of a folder, by name: a folder of clips, one clip, or a packed set.

    Raises:
        SourceError: nothing usable is there, or a clip's ground truth cannot be read; the message names it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder")
    if (root / "tracks.json").is_file():
        return Sequences(read_packed(root))
    candidates = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    clips = [path for path in candidates if (path / OTB_TRUTH).is_file() or (path / OTHER_TRUTH).is_file()]
    if not clips:
        raise SourceError(
            f"{root}: no clips in it; folders with {OTB_TRUTH} (OTB) or {OTHER_TRUTH} (GOT-10k, VOT), or "
            "tracks.json with frames.bin, are read"
        )
    return Sequences(read_sequence(path) for path in clips)


def read_sequence(folder: Path) -> Sequence:
    """One clip in OTB, GOT-10k or VOT layout.

    Raises:
        SourceError: no pictures, unreadable boxes, numbers that do not match, or no box in the first frame.
    """
    truth = folder / OTB_TRUTH if (folder / OTB_TRUTH).is_file() else folder / OTHER_TRUTH
    files = picture_files(folder, ("img", "color"))
    boxes = read_boxes(truth)
    if len(boxes) > len(files) or len(boxes) < 2:
        raise SourceError(f"{truth}: {len(boxes)} boxes for {len(files)} pictures")
    absent = folder / "absence.label"
    if absent.is_file():
        marks = np.atleast_1d(np.loadtxt(absent))
        boxes[: len(marks)][marks[: len(boxes)] != 0] = np.nan
    if not usable(boxes)[0]:
        raise SourceError(f"{truth}: the first frame has no box to start on")
    return Sequence(folder.name, boxes, lambda index: read_picture(files[index]))


def read_boxes(path: Path) -> NDArray[np.float64]:
    """Rows of four numbers (x, y, width, height) or eight (a polygon, which becomes its bounds): ``[n, 4]``.

    Raises:
        SourceError: which line cannot be read.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(part) for part in re.split(r"[,;\s]+", line.strip().strip(","))]
        except ValueError:
            values = []
        if len(values) == 8:
            x, y = values[0::2], values[1::2]
            values = [min(x), min(y), max(x) - min(x), max(y) - min(y)]
        if len(values) != 4:
            raise SourceError(
                f"{path}, line {number}: {line.strip()[:60]!r} is neither four numbers x, y, w, h nor a "
                "polygon of eight"
            )
        rows.append(values)
    boxes = np.array(rows, np.float64).reshape(-1, 4)
    boxes[~usable(boxes)] = np.nan
    return boxes


def usable(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows ``[n, 4]`` are boxes: finite, with width and height."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0))


def read_packed(folder: Path) -> list[Sequence]:
    """Every track of a packed set as a clip that starts with the track's first box."""
    try:
        clips = json.loads((folder / "tracks.json").read_text(encoding="utf-8"))["clips"]
        data = np.memmap(folder / "frames.bin", np.uint8, "r")
        sequences = []
        for clip in clips:
            for number, track in enumerate(clip["tracks"]):
                boxes = np.array([[np.nan] * 4 if box is None else box for box in track["boxes"]], np.float64)
                start = int(np.argmax(usable(boxes)))
                if usable(boxes).sum() < 2:
                    continue
                name = clip["name"] if len(clip["tracks"]) == 1 else f"{clip['name']}/{number}"
                read = functools.partial(_read_packed_picture, data, clip["frames"][start:], name)
                sequences.append(Sequence(name, boxes[start:], read))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{folder}: not a packed set of clips ({type(error).__name__}: {error})") from error
    return sequences


def _read_packed_picture(data: NDArray[np.uint8], spans: list[list[int]], name: str, index: int) -> Frame:
    """Picture ``index``, at its offset and of its length in the packed file."""
    offset, length = spans[index]
    encoded = np.asarray(data[offset : offset + length])
    picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if len(encoded) else None
    if picture is None:
        raise SourceError(f"{name}: frame {index} is not a readable picture")
    return np.asarray(picture, np.uint8)
