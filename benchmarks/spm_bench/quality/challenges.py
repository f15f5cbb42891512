"""Clips in which a target is lost on purpose, made from ordinary ones: it jumps, leaves, or is covered.

The picture of a clip lies on a wider one that shows another clip, so that the target can move further than its own
picture is wide, and something else is to be seen where it is not. Both are played to their end and back again, for as
long as it takes.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from spm_rt.media.datasets import Sequence as Clip
from spm_rt.media.datasets import usable
from spm_rt.results import Box

Frame = NDArray[np.uint8]
Boxes = NDArray[np.float64]

KINDS = ("jump", "leave", "hide")
"""Ways in which a target is lost."""
LEAD = 15
"""Frames before the target is lost, the first one included."""
AWAY = {"jump": 0, "leave": 30, "hide": 15}
"""Frames in which it cannot be seen."""
AFTER = 25
"""Frames from the first one in which it can be seen again."""
DISTANCE = 300
"""Pixels by which it jumps, and beyond which it comes back after it left."""
LEAST = 12
"""Frames with a true box one after another that a clip must have."""
MARGIN = 0.25
"""Share of the box by which what covers it, or is painted over it, is larger on every side."""


@dataclasses.dataclass(frozen=True)
class Challenge:
    """One target that is lost once.

    Attributes:
        clip: name of the clip that it was made from.
        kind: one of :data:`~spm_bench.quality.challenges.KINDS`.
        boxes: ``[frames, 4]``, x, y, width, height; NaN where the target cannot be seen.
        again: the first frame in which it can be seen again.
        read: gives frame k, BGR uint8.
    """

    clip: str
    kind: str
    boxes: Boxes
    again: int
    read: Callable[[int], Frame]

    @property
    def first_box(self) -> Box:
        x, y, width, height = (float(v) for v in self.boxes[0])
        return x, y, width, height


def challenges(clips: Sequence[Clip], backgrounds: Sequence[Clip] | None = None) -> list[Challenge]:
    """One of each kind from every clip that has :data:`~spm_bench.quality.challenges.LEAST` boxes in a row.

    Args:
        clips: to be made from.
        backgrounds: what lies beside them: for each clip the one half this list further; by default the clips.
    """
    others = backgrounds or clips
    made = []
    for k, clip in enumerate(clips):
        start, end = longest_run(usable(clip.boxes))
        if end - start >= LEAST:
            scene = _Scene(clip, start, end, others[(k + max(len(others) // 2, 1)) % len(others)])
            made += [scene.challenge(kind) for kind in KINDS]
    return made


def longest_run(there: NDArray[np.bool_]) -> tuple[int, int]:
    """Start and end of the first longest row of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]])))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    best = int(np.argmax(ends - starts))
    return int(starts[best]), int(ends[best])


def back_and_forth(index: int, count: int) -> int:
    """The frame of a clip of ``count`` frames, played to its end and back, that is shown at ``index``."""
    place = index % max(2 * (count - 1), 1)
    return min(place, 2 * (count - 1) - place)


class _Scene:
    """A clip's frames ``start`` to ``end`` on the frames of another one."""

    def __init__(self, clip: Clip, start: int, end: int, other: Clip) -> None:
        self._clip, self._start, self._count, self._other = clip, start, end - start, other

    def challenge(self, kind: str) -> Challenge:
        frames, again = LEAD + AWAY[kind] + AFTER, LEAD + AWAY[kind]
        boxes = np.array([self._box(k) for k in range(frames)])
        if kind != "hide":
            boxes[again:, 0] += DISTANCE
        boxes[LEAD:again] = np.nan
        return Challenge(self._clip.name, kind, boxes, again, functools.partial(self._frame, kind, again))

    def _box(self, index: int) -> NDArray[np.float64]:
        box: NDArray[np.float64] = self._clip.boxes[self._start + back_and_forth(index, self._count)]
        return box

    def _frame(self, kind: str, again: int, index: int) -> Frame:
        picture = self._clip.read(self._start + back_and_forth(index, self._count))
        picture = np.repeat(picture, 3, axis=2) if picture.ndim == 3 and picture.shape[2] == 1 else picture.copy()
        height, width = picture.shape[:2]
        around = self._other.read(back_and_forth(index, len(self._other)))
        scene = np.asarray(cv2.resize(around, (width + DISTANCE, height), interpolation=cv2.INTER_AREA), np.uint8)
        if LEAD <= index < again:
            picture = (paint_over if kind == "leave" else cover)(picture, self._box(index), scene)
        left = DISTANCE if kind != "hide" and index >= again else 0
        scene[:, left : left + width] = picture
        return scene


def paint_over(picture: Frame, box: NDArray[np.float64], scene: Frame) -> Frame:
    """A picture without what is in a box: its surroundings grow into it. ``scene`` is not needed."""
    x1, y1, x2, y2 = _grown(box, picture.shape)
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[y1:y2, x1:x2] = 255
    return np.asarray(cv2.inpaint(picture, mask, 5, cv2.INPAINT_TELEA), np.uint8)


def cover(picture: Frame, box: NDArray[np.float64], scene: Frame) -> Frame:
    """A picture with a part of itself laid over a box; a part of ``scene`` where it has none without the target."""
    x1, y1, x2, y2 = _grown(box, picture.shape)
    width, height = x2 - x1, y2 - y1
    rows, columns = picture.shape[:2]
    room = {"left": x1, "right": columns - x2, "top": y1, "bottom": rows - y2}
    side = max(room, key=lambda name: room[name] / (width if name in ("left", "right") else height))
    left = {"left": 0, "right": columns - width}.get(side, x1)
    top = {"top": 0, "bottom": rows - height}.get(side, y1)
    fits = room[side] >= (width if side in ("left", "right") else height)
    patch = (picture if fits else scene[:, -columns:])[top : top + height, left : left + width].copy()
    picture[y1:y2, x1:x2] = patch
    return picture


def _grown(box: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The box with its margin as whole pixels x1, y1, x2, y2 inside a picture."""
    x, y, width, height = (float(v) for v in box)
    rows, columns = shape[:2]
    x1, x2 = (round(min(max(v, 0), columns)) for v in (x - MARGIN * width, x + (1 + MARGIN) * width))
    y1, y2 = (round(min(max(v, 0), rows)) for v in (y - MARGIN * height, y + (1 + MARGIN) * height))
    return x1, y1, x2, y2
