"""The check's bounds: how near a tracker on a GPU has to be to the reference, by precision, on the shipped clip."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_export.proof.bounds import TRACK_BOUNDS, tolerance
from spm_rt import Bundle, Tracker
from spm_rt.frame.geometry import iou, xywh_to_xyxy
from spm_rt.results import Box, TrackResult

from ..loading import load_clip

Report = dict[str, Any]
Result = tuple[Box, float]
"""A frame's box and score."""
FRAMES = 30
"""Compared: so few that in every precision one with a box somewhere else is too many for the mean overlap."""
EXACT_PIXELS = 1e-3
"""Largest distance of any side of any box in float32."""


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What is allowed in a precision, each frame begun at the reference's last box.

    Attributes:
        mean_iou: of all frames with the reference's boxes, at least.
        close_iou: overlap from which on a frame counts as close.
        close_share: share of the frames that is close, at least.
        score: largest difference of the scores of close frames; where another proposal won, scores say nothing.
        pixels: largest distance of any side of any box.
    """

    mean_iou: float
    close_iou: float
    close_share: float
    score: float
    pixels: float = float("inf")


def bounds_of(precision: str) -> Bounds:
    """The exporter's bounds of boxes and scores; in float32 every box besides, to the thousandth of a pixel."""
    score = max(tolerance(stage, "scores", precision)[1] for stage in ("search", "relation"))
    mean, close, share = TRACK_BOUNDS[precision]
    if precision == "float32":
        return Bounds(mean, close, 1.0, score, EXACT_PIXELS)
    return Bounds(mean, close, share, score)


def judge(found: Sequence[Result], wanted: Sequence[Result], precision: str) -> Report:
    """Figures of two trackers' results, frame by frame, the bounds, and ``checks`` of boxes and scores.

    What is not finite fails.
    """
    bounds = bounds_of(precision)
    (boxes, scores), (true_boxes, true_scores) = (map(np.array, zip(*side, strict=True)) for side in (found, wanted))
    corners, true_corners = (np.array([xywh_to_xyxy(box) for box in side]) for side in (boxes, true_boxes))
    with np.errstate(invalid="ignore"):
        overlaps = iou(corners, true_corners)
    close = overlaps >= bounds.close_iou
    apart = float(np.abs(corners - true_corners).max())
    score_error = float(np.abs(scores - true_scores)[close].max(initial=0.0 if close.any() else np.inf))
    mean, share = float(overlaps.mean()), float(close.mean())
    figures = {
        "frames": len(found),
        "largest_box_error_px": apart,
        "mean_iou": mean,
        "close_share": share,
        "largest_score_error": score_error,
        "bounds": {"precision": precision, **dataclasses.asdict(bounds)},
    }
    near = mean >= bounds.mean_iou and share >= bounds.close_share and apart < np.inf and apart <= bounds.pixels
    return {**figures, "checks": {"boxes": near, "scores": score_error <= bounds.score}}


@functools.cache
def pictures() -> tuple[list[NDArray[np.uint8]], Box]:
    """The shipped clip's first frames, one more than are compared, and the target's box in the first."""
    frames, box, _ = load_clip(None, None, FRAMES + 1)
    return frames, box


def parity(tracker: Any, wanted: Sequence[Result], precision: str) -> Report:
    """A tracker beside the reference's results (:func:`reference`), each frame from the reference's last box."""
    frames, box = pictures()
    return judge(follow(tracker, frames, box, [box, *(last for last, _ in wanted)]), wanted, precision)


def reference(bundle: Bundle) -> list[Result]:
    """What the reference gives on the clip on its own way: float32 on this machine's CPU, computed once.

    Raises:
        SpmError: no library for it is here; for bundles in other precisions than float32 it is PyTorch.
    """
    path = str(bundle.path)
    if path not in _followed:
        exact = bundle.precision == "float32"
        tracker = Tracker.load(bundle, "auto") if exact else Tracker.load(bundle, "pytorch", precision="float32")
        _followed[path] = follow(tracker, *pictures())
    return _followed[path]


_followed: dict[str, list[Result]] = {}
"""By the bundle's path."""


def follow(tracker: Any, frames: Sequence[Any], box: Box, starts: Sequence[Box] = ()) -> list[Result]:
    """Results of all frames but the first; ``starts`` has the boxes that frames are begun at, if not the tracker's."""
    tracker.init(frames[0], box)
    results = []
    for index, frame in enumerate(frames[1:]):
        if starts:
            tracker.move_to(starts[index])
        results.append(_result(tracker.update(frame)))
    return results


def _result(result: TrackResult) -> Result:
    return result.box, result.score


def several_parity(multi: Any, single: Callable[[], Any], boxes: Sequence[Box], precision: str) -> Report:
    """Targets of one frame beside single trackers on the same networks, each frame from where those were.

    Args:
        multi: without targets, before and after.
        single: makes a tracker for one target.
        boxes: of the targets in the clip's first frame.
        precision: what both compute in.
    """
    frames, _ = pictures()
    ids, alone = [], [single() for _ in boxes]
    for box, tracker in zip(boxes, alone, strict=True):
        ids.append(multi.add(frames[0], box))
        tracker.init(frames[0], box)
    found: list[list[Result]] = [[] for _ in boxes]
    wanted: list[list[Result]] = [[] for _ in boxes]
    for frame in frames[1:]:
        for id, tracker in zip(ids, alone, strict=True):
            multi.move_to(id, tracker.box)
        results = multi.update(frame)
        for index, (id, tracker) in enumerate(zip(ids, alone, strict=True)):
            found[index].append(_result(results[id]))
            wanted[index].append(_result(tracker.update(frame)))
    for id in ids:
        multi.remove(id)
    judged = [judge(*both, precision) for both in zip(found, wanted, strict=True)]
    checks = {name: all(one["checks"][name] for one in judged) for name in ("boxes", "scores")}
    return {"targets": judged, "checks": checks}
