"""The interface of a data set: pictures, and objects that appear in one or more of them.

A reader lists :class:`Instance` objects and decodes pictures on demand. Everything that follows (pairs, crops,
augmentation) sees nothing else, so that stills, video, packed files and folders mix freely.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from spm_rt.errors import SourceError

Image = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Instance:
    """One object, in every picture that shows it.

    Attributes:
        category: what it is; objects of one category are positives of the coarse stage in generalised training.
        group: name of the clip or picture it belongs to; a group is held out for validation as a whole.
        data_set: part of the reader that sampling weights are given for.
        pictures: indices into the reader's pictures, in order of time.
        boxes: ``[len(pictures), 4]``, x1, y1, x2, y2 in pixels.
    """

    category: str
    group: str
    data_set: str
    pictures: tuple[int, ...]
    boxes: Boxes


class Reader(Protocol):
    """A data set: objects and the pictures that show them."""

    @property
    def name(self) -> str: ...

    @property
    def instances(self) -> Sequence[Instance]: ...

    def picture(self, index: int) -> Image:
        """Picture ``index``, ``[H, W, 3]`` BGR; a ``SourceError`` names one that cannot be read."""
        ...


class Collection:
    """What a reader has listed: objects, and the width and height of pictures where they are known without decoding."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sizes: dict[int, tuple[int, int]] = {}
        self.instances: list[Instance] = []

    def add(self, category: str, group: str, data_set: str, pictures: Iterable[int], boxes: npt.ArrayLike) -> None:
        self.instances.append(Instance(category, group, data_set, tuple(pictures), np.array(boxes, np.float32)))

    def check(self, place: Path) -> None:
        """Refuse a data set with nothing in it, nameless categories, empty boxes, or boxes outside their pictures."""
        if not self.instances:
            raise SourceError(f"{place}: no objects with boxes in it")
        for instance in self.instances:
            where, pictures, boxes = f"{place}: {instance.group}", instance.pictures, instance.boxes
            if not instance.category.strip():
                raise SourceError(f"{where}: an object without a category")
            if not pictures or boxes.shape != (len(pictures), 4):
                raise SourceError(f"{where}: {len(pictures)} pictures but boxes of shape {boxes.shape}")
            wrong = ~np.isfinite(boxes).all(1) | (boxes[:, 2:] <= boxes[:, :2]).any(1)
            if wrong.any():
                raise SourceError(f"{where}: an empty or unreadable box, {boxes[int(wrong.argmax())].tolist()}")
            for picture, box in zip(pictures, boxes, strict=True):
                if picture in self.sizes:
                    check_inside(where, box, *self.sizes[picture])


def check_inside(where: str, box: npt.ArrayLike, width: int, height: int) -> None:
    """Refuse a box that lies outside its picture by more than annotation slack (a tenth of its own size plus 2)."""
    x1, y1, x2, y2 = np.asarray(box, dtype=np.float64)
    slack_x, slack_y = 2 + 0.1 * (x2 - x1), 2 + 0.1 * (y2 - y1)
    if x1 < -slack_x or y1 < -slack_y or x2 > width + slack_x or y2 > height + slack_y:
        raise SourceError(
            f"{where}: box [{x1:.1f}, {y1:.1f}, {x2:.1f}, {y2:.1f}] lies outside its {width} x {height} picture"
        )


def corners(box: Iterable[Any]) -> list[float]:
    """x, y, width, height as x1, y1, x2, y2."""
    x, y, width, height = (float(v) for v in box)
    return [x, y, x + width, y + height]


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from error


def decode(data: bytes | Image, where: str) -> Image:
    """A JPEG or PNG file's bytes as BGR."""
    buffer = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
    image = cv2.imdecode(buffer, cv2.IMREAD_COLOR) if buffer.size else None
    if image is None:
        raise SourceError(f"{where}: not a readable picture")
    return np.asarray(image, dtype=np.uint8)


def read_picture(path: Path) -> Image:
    """A picture file as BGR."""
    try:
        return decode(path.read_bytes(), str(path))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from error


def is_held_out(group: str, every: int) -> bool:
    """Whether a clip or picture is kept for validation: about one in ``every``, by its name alone."""
    return every > 0 and zlib.crc32(group.encode()) % every == 0
