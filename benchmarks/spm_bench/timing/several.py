"""Several targets on the same frames, measured like one: a MultiTracker, and single trackers one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from spm_rt.errors import BoxError
from spm_rt.frame.geometry import iou, xywh_to_xyxy
from spm_rt.results import Box, TrackResult
from spm_rt.trackers.checks import check_box
from spm_rt.trackers.multi import MultiTracker
from spm_rt.trackers.single import Tracker

from ..loading import Entry, Frame


def spread_boxes(box: Box, count: int) -> list[Box]:
    """``count`` boxes, the given one first, the others moved by up to a fifth of its size: each a target of its own."""
    x, y, w, h = box
    return [(x + 0.2 * w * math.sin(2.4 * k), y + 0.2 * h * math.sin(3.7 * k), w, h) for k in range(count)]


def load_several(entry: Entry, targets: int, device: str, threads: int) -> MultiTracker:
    """A MultiTracker that is ready for so many targets."""
    return MultiTracker.load(
        entry.bundle, entry.backend, device, threads=threads, capacity=targets, precision=entry.asked
    )


class Together:
    """A MultiTracker with N targets as a contestant: ``init`` and ``update`` like a tracker's."""

    def __init__(self, tracker: MultiTracker, targets: int) -> None:
        self.tracker, self.targets = tracker, targets
        self.backend = tracker.backend
        self._ids: list[int] = []

    def init(self, frame: Frame, box: Box) -> None:
        for number in self._ids:
            self.tracker.remove(number)
        self._ids = [self.tracker.add(frame, each) for each in spread_boxes(box, self.targets)]

    def update(self, frame: Frame, *, clock: Callable[[str], None]) -> TrackResult:
        """All targets; the result is the first one's."""
        return self.tracker.update(frame, clock=clock)[self._ids[0]]


class Apart:
    """N single trackers one after the other, on the same compiled graphs. Their stages are not told apart."""

    def __init__(self, tracker: Tracker, targets: int) -> None:
        self.trackers = [tracker.sibling() for _ in range(targets)]
        self.backend = tracker.backend

    def init(self, frame: Frame, box: Box) -> None:
        for tracker, each in zip(self.trackers, spread_boxes(box, len(self.trackers)), strict=True):
            tracker.init(frame, each)

    def update(self, frame: Frame, *, clock: Callable[[str], None]) -> TrackResult:
        """All targets; the result is the first one's."""
        results = [tracker.update(frame) for tracker in self.trackers]
        return results[0]


def compare_several(
    single: Tracker, multi: MultiTracker, frames: Sequence[Frame], boxes: Sequence[Box]
) -> dict[str, float]:
    """:func:`overlaps` of a sibling of ``multi``, as reports have them."""
    found = overlaps(single, multi.sibling(), frames, boxes)
    return {"forced_iou": float(found.mean()), "lowest_iou": float(found.min())}


def overlaps(
    single: Tracker, multi: MultiTracker, frames: Sequence[Frame], boxes: Sequence[Box]
) -> NDArray[np.float64]:
    """Overlap ``[frames - 1, N]`` of a MultiTracker's boxes with those of single trackers.

    Every frame starts from the single trackers' last boxes, so that a rounding does not grow from frame to frame.
    ``boxes`` are the targets in the first frame; ``multi`` has no targets, and is left without.
    """
    trackers = [single.sibling() for _ in boxes]
    for tracker, box in zip(trackers, boxes, strict=True):
        tracker.init(frames[0], box)
    ids = [multi.add(frames[0], box) for box in boxes]
    rows = []
    for frame in frames[1:]:
        for number, tracker in zip(ids, trackers, strict=True):
            _move(multi, number, tracker.box, frame)
        results = multi.update(frame)
        together = np.array([xywh_to_xyxy(results[number].box) for number in ids])
        rows.append(iou(together, np.array([xywh_to_xyxy(tracker.update(frame).box) for tracker in trackers])))
    for number in ids:
        multi.remove(number)
    return np.array(rows, np.float64)


def _move(multi: MultiTracker, number: int, box: Box, frame: Frame) -> None:
    """Put a target somewhere, unless the box has drifted wholly out of the frame."""
    try:
        check_box(box, frame.shape[:2])
    except BoxError:
        return
    multi.move_to(number, box)
