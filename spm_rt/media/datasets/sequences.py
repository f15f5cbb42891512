"""A sequence: pictures, and one target's box in each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as ListOf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...results import Box
from ..pictures import read_picture
from .rows import usable

Frame = NDArray[np.uint8]
TEST = "a test sequence, whose other boxes are not published"


@dataclasses.dataclass(frozen=True)
class Sequence:
    """Pictures with one target.

    Attributes:
        name: of the sequence, unlike those of the others of its set; ``NAME/TARGET`` where several targets are marked.
        boxes: ``[frames, 4]`` float64, x, y, width, height; NaN where there is none. The first one is a box.
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
        self._names: set[str] = set()

    def add_pictures(self, name: str, place: str, files: ListOf[Path], boxes: NDArray[np.float64]) -> None:
        """Add the sequence of these ``files``, the first of which have ``boxes`` ``[n, 4]``, as :meth:`add` does.

        None or one of several is left out.
        """
        if len(boxes) == 0:
            self.left_out.append(f"{name}: no boxes in its file")
        elif len(boxes) == 1 < len(files):
            self.left_out.append(f"{name}: 1 box for {len(files)} pictures, {TEST}")
        else:
            if missing := len(files) - len(boxes):
                self.left_out.append(f"{name}: the last {missing} of {len(files)} pictures, without boxes")
            self.add(name, place, boxes, lambda index: read_picture(files[index]))

    def add(self, name: str, place: str, boxes: NDArray[np.float64], read: Callable[[int], Frame]) -> None:
        """Add a sequence from its first box on; one with fewer than two boxes is left out.

        Args:
            name: of the sequence, if no other has it already.
            place: its name otherwise.
            boxes: ``[frames, 4]``, NaN where there is none.
            read: gives frame k.
        """
        name = place if name in self._names else name
        self._names.add(name)
        boxes = np.where(usable(boxes)[:, None], boxes, np.nan)
        with_box = np.flatnonzero(usable(boxes))
        if len(with_box) < 2:
            self.left_out.append(f"{name}: {len(with_box)} of {len(boxes)} pictures with a box; two are needed")
            return
        start = int(with_box[0])
        if start:
            self.left_out.append(f"{name}: the first {start} of {len(boxes)} pictures, which have no box")
        self.append(Sequence(name, boxes[start:], lambda index: read(start + index)))
