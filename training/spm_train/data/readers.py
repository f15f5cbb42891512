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
    """What a reader has listed.

    Attributes:
        name: of the data set.
        instances: its objects.
        sizes: width and height of the pictures for which they are known without decoding.
        left_out: what the set has and ``instances`` does not, and why: a line each.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.sizes: dict[int, tuple[int, int]] = {}
        self.instances: list[Instance] = []
        self.left_out: list[str] = []

    def picture(self, index: int) -> Image:
        """Picture ``index``, as :meth:`Reader.picture` says."""
        raise NotImplementedError

    def add(self, category: str, group: str, data_set: str, pictures: Iterable[int], boxes: npt.ArrayLike) -> None:
        self.instances.append(Instance(category, group, data_set, tuple(pictures), np.array(boxes, np.float32)))

    def check(self, place: Path) -> None:
        """Refuse a data set with nothing in it, nameless categories or empty boxes; leave boxes out of frame out.

        Raises:
            SourceError: one of these; or most boxes lie outside their pictures, which no annotator does.
        """
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
        self._leave_out_boxes_outside(place)

    def _leave_out_boxes_outside(self, place: Path) -> None:
        """Leave out boxes that lie outside their pictures, and the objects that then have none."""
        inside = [self._are_inside(instance) for instance in self.instances]
        total, outside = sum(len(each) for each in inside), sum(int((~each).sum()) for each in inside)
        if not outside:
            return
        instance, at = next(
            (i, int(each.argmin())) for i, each in zip(self.instances, inside, strict=True) if not each.all()
        )
        width, height = self.sizes[instance.pictures[at]]
        box = ", ".join(f"{v:.1f}" for v in instance.boxes[at])
        message = f"{instance.group}: box [{box}] lies outside its {width} x {height} picture"
        if 2 * outside > total:
            raise SourceError(f"{place}: {message}, as {outside} of {total} boxes do")
        self.left_out.append(f"{outside} of {total} boxes, the first: {message}")
        kept = [(i, np.flatnonzero(each)) for i, each in zip(self.instances, inside, strict=True) if each.any()]
        self.instances = [
            dataclasses.replace(i, pictures=tuple(i.pictures[k] for k in places), boxes=i.boxes[places])
            for i, places in kept
        ]

    def _are_inside(self, instance: Instance) -> npt.NDArray[np.bool_]:
        """Which boxes lie in their pictures, but for annotation slack: a tenth of their own size plus 2."""
        sizes = np.array([self.sizes.get(picture, (np.inf, np.inf)) for picture in instance.pictures])
        low, high = instance.boxes[:, :2], instance.boxes[:, 2:]
        slack = 2 + 0.1 * (high - low)
        return np.asarray(((low >= -slack) & (high <= sizes + slack)).all(1))


def corners(box: Iterable[Any]) -> list[float]:
    """x, y, width, height as x1, y1, x2, y2."""
    x, y, width, height = (float(v) for v in box)
    return [x, y, x + width, y + height]


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from error


def is_held_out(group: str, every: int) -> bool:
    """Whether a clip or picture is kept for validation: about one in ``every``, by its name alone."""
    return every > 0 and zlib.crc32(group.encode()) % every == 0
