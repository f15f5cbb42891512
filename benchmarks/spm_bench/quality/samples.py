"""Frames in which a target is found, and frames in which it is not, with the scores that the tracker gave.

Three sources: a free run over each clip (it finds the target, or loses it by itself); the tracker put at a wrong place
of the same frame; and the target of one clip looked for in another clip, at the other's target.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from spm_rt.errors import BoxError
from spm_rt.frame.fusion import APART
from spm_rt.frame.geometry import iou, search_region, xywh_to_xyxy
from spm_rt.media.datasets import Sequence as Clip
from spm_rt.media.datasets import usable
from spm_rt.results import Box, TrackResult
from spm_rt.trackers.single import Tracker

Frame = NDArray[np.uint8]
SOURCES = ("free run", "wrong place", "other clip")


@dataclasses.dataclass(frozen=True)
class Sample:
    """One frame: where it came from, how well the box fits (0 where the target is not there), and the scores."""

    clip: str
    frame: int
    source: str
    iou: float
    score: float
    coarse: float
    fine: float
    rival: float
    """Best score of a candidate elsewhere, 0 if there is none."""
    switched: bool
    """Whether the box is said to have gone over to a look-alike."""


def collect(
    tracker: Tracker,
    clips: Sequence[Clip],
    *,
    limit: int | None,
    forced: int,
    steps: Sequence[int] = (),
    step: Callable[[], None] = lambda: None,
) -> list[Sample]:
    """Samples from all clips, by a tracker in series-parallel mode.

    Free runs are over the clips as they are, or :func:`played` in each of ``steps``. The target of a clip is looked for
    in the clip half the list away, too. ``limit`` is frames per free run, ``forced`` wrong places, and frames of the
    other clip, per clip; ``step`` is called once per clip.
    """
    rng = np.random.default_rng(7)
    samples: list[Sample] = []
    for k, clip in enumerate(clips):
        for run in played(clip, steps):
            samples += free_run(tracker, run, limit)
        samples += wrong_places(tracker, clip, forced, limit, rng)
        if len(clips) > 1:
            samples += other_clip(tracker, clip, clips[(k + len(clips) // 2) % len(clips)], forced, limit)
        step()
    return samples


def played(clip: Clip, steps: Sequence[int]) -> list[Clip]:
    """A clip in each of several steps, forwards and backwards, from the first box on; the clip itself without steps."""
    runs = [] if steps else [clip]
    for order in (slice(None, None, way * step) for step in steps for way in (1, -1)):
        indices = np.arange(len(clip))[order]
        indices = indices[np.argmax(usable(clip.boxes[indices])) :]
        read = functools.partial(_read_at, clip, indices)
        runs.append(Clip(f"{clip.name} in steps of {order.step}", clip.boxes[indices], read))
    return runs


def _read_at(clip: Clip, indices: NDArray[np.intp], index: int) -> Frame:
    return clip.read(int(indices[index]))


def free_run(tracker: Tracker, clip: Clip, limit: int | None) -> list[Sample]:
    """Every frame after the first that has a true box, tracked from the first on."""
    samples = []
    has_box = usable(clip.boxes)
    for index, frame in enumerate(clip.frames(limit)):
        if index == 0:
            tracker.init(frame, clip.first_box)
            continue
        truth = clip.boxes[index] if has_box[index] else None
        sample = _sample(tracker, frame, clip.name, index, SOURCES[0], truth)
        samples += [sample] if truth is not None else []
    return samples


def wrong_places(tracker: Tracker, clip: Clip, count: int, limit: int | None, rng: np.random.Generator) -> list[Sample]:
    """The tracker put beside the target, mostly too far away to see it. Frames without room for that are left out."""
    tracker.init(clip.read(0), clip.first_box)
    samples = []
    for index in _some_frames(clip, count, limit):
        frame, truth = clip.read(index), clip.boxes[index]
        box = _elsewhere(truth, frame.shape, tracker, rng)
        if box is not None:
            tracker.move_to(box)
            samples.append(_sample(tracker, frame, clip.name, index, SOURCES[1], truth))
    return samples


def other_clip(tracker: Tracker, clip: Clip, other: Clip, count: int, limit: int | None) -> list[Sample]:
    """The target of ``clip`` looked for at the target of ``other``, whose frames are scaled to the size of
    ``clip``'s."""
    first = clip.read(0)
    tracker.init(first, clip.first_box)
    height, width = first.shape[:2]
    samples = []
    for index in _some_frames(other, count, limit):
        frame = other.read(index)
        scale = np.array([width / frame.shape[1], height / frame.shape[0]] * 2)
        try:
            tracker.move_to(other.boxes[index] * scale)
        except BoxError:
            continue
        resized = np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        samples.append(_sample(tracker, resized, f"{clip.name} in {other.name}", index, SOURCES[2], None))
    return samples


def _sample(
    tracker: Tracker, frame: Frame, clip: str, index: int, source: str, truth: NDArray[np.float64] | None
) -> Sample:
    """Track one frame; without a true box, the target is not there."""
    result, overlap = tracker.update(frame, candidates=True), 0.0
    if truth is not None:
        overlap = float(iou(xywh_to_xyxy(result.box), xywh_to_xyxy(_as_box(truth))))
    scores = result.score, result.coarse_score, result.fine_score, _rival(result)
    return Sample(clip, index, source, overlap, *scores, result.switched)


def _as_box(box: NDArray[np.float64]) -> Box:
    x, y, width, height = (float(v) for v in box)
    return x, y, width, height


def _rival(result: TrackResult) -> float:
    """Best score among the candidates that are elsewhere than the chosen one (the first)."""
    assert result.candidates is not None
    boxes = np.array([xywh_to_xyxy(c.box) for c in result.candidates])
    apart = iou(boxes, boxes[:1]) < APART
    return max((c.score for c, far in zip(result.candidates, apart, strict=True) if far), default=0.0)


def _some_frames(clip: Clip, count: int, limit: int | None) -> list[int]:
    """Up to ``count`` frames with a true box, evenly over the clip, not the first."""
    frames = [int(i) for i in np.flatnonzero(usable(clip.boxes)) if 0 < i < (limit or len(clip))]
    if not frames:
        return []
    positions = np.linspace(0, len(frames) - 1, min(count, len(frames)))
    return [frames[i] for i in sorted({round(v) for v in positions})]


def _elsewhere(
    truth: NDArray[np.float64], shape: tuple[int, ...], tracker: Tracker, rng: np.random.Generator
) -> Box | None:
    """A box of the target's size, inside the frame, whose search region holds little or nothing of the target."""
    x, y, w, h = _as_box(truth)
    region = search_region((x, y, x + w, y + h), tracker.spec)
    away = 0.5 * (region.x2 - region.x1)
    for _ in range(30):
        left, top = rng.uniform(0, max(shape[1] - w, 0)), rng.uniform(0, max(shape[0] - h, 0))
        if math.hypot(left - x, top - y) >= away:
            return float(left), float(top), max(w, 1.0), max(h, 1.0)
    return None
