"""One-pass evaluation: every tracker once through every clip, from the first true box on."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_rt.errors import SourceError
from spm_rt.media.datasets import Sequence as Clip

from .contenders import Maker
from .metrics import Accuracy, score_boxes

FIGURES = ("auc", "precision", "norm_precision", "success_rate", "mean_iou")
FIGURES_COLUMNS = "| AUC {auc:.3f} | precision {precision:.3f} | norm. precision {norm_precision:.3f} | fps {fps:.1f}"
"""As tables have them (:mod:`spm_bench.tables`)."""


@dataclasses.dataclass(frozen=True)
class ClipResult:
    """One tracker on one clip.

    Attributes:
        accuracy: its figures.
        boxes: ``[frames, 4]``, the given first one included.
        scores: ``[frames]``; 1 for the first.
        seconds: ``[frames - 1]``, the time of each update alone.
    """

    accuracy: Accuracy
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @property
    def fps(self) -> float:
        return len(self.seconds) / max(float(self.seconds.sum()), 1e-9)


def evaluate(
    makers: Mapping[str, Maker],
    clips: Sequence[Clip],
    *,
    limit: int | None = None,
    step: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, ClipResult]]:
    """Results by tracker and clip. Trackers take turns clip by clip, so that a drift of the machine's speed hits all.

    Raises:
        SourceError: a tracker fails; the message names it and the clip.
    """
    results: dict[str, dict[str, ClipResult]] = {name: {} for name in makers}
    for clip in clips:
        for name, make in makers.items():
            try:
                results[name][clip.name] = run_clip(make, clip, limit)
            except SourceError:
                raise
            except Exception as error:  # anybody's tracker may raise anything
                raise SourceError(f"{name} failed on {clip.name}: {type(error).__name__}: {error}") from error
            step()
    return results


def grown(clip: Clip, factor: float) -> Clip:
    """The same clip, with boxes ``factor`` times as wide and high about their centres."""
    size = clip.boxes[:, 2:] * factor
    boxes = np.concatenate([clip.boxes[:, :2] + (clip.boxes[:, 2:] - size) / 2, size], axis=1)
    return dataclasses.replace(clip, boxes=boxes)


def run_clip(make: Maker, clip: Clip, limit: int | None = None) -> ClipResult:
    """A fresh tracker through one clip; only ``update`` is timed, not the reading of pictures."""
    tracker = make()
    boxes: list[Sequence[float]] = [clip.first_box]
    scores, seconds = [1.0], []
    for index, frame in enumerate(clip.frames(limit)):
        if index == 0:
            tracker.init(frame, clip.first_box)
            continue
        begin = time.perf_counter()
        box, score = tracker.update(frame)
        seconds.append(time.perf_counter() - begin)
        boxes.append([float(v) for v in box])
        scores.append(float(score))
    track = np.array(boxes, np.float64)
    return ClipResult(score_boxes(track, clip.boxes[: len(track)]), track, np.array(scores), np.array(seconds))


def summarize(results: Mapping[str, ClipResult]) -> dict[str, Any]:
    """One tracker's figures: means over clips, each clip weighing the same, and clip by clip. JSON types."""
    clips = {
        name: {**{f: getattr(r.accuracy, f) for f in FIGURES}, "fps": r.fps, "frames": r.accuracy.frames}
        for name, r in results.items()
    }
    means = {f: math.fsum(c[f] for c in clips.values()) / len(clips) for f in FIGURES}
    seconds = np.concatenate([r.seconds for r in results.values()])
    return {
        **means,
        "fps": len(seconds) / max(float(seconds.sum()), 1e-9),
        "median_ms": float(np.median(seconds)) * 1e3,
        "clips": clips,
    }


def mean_curve(results: Mapping[str, ClipResult], curve: str) -> NDArray[np.float64]:
    """A curve of :class:`~spm_bench.quality.metrics.Accuracy` by name, averaged over clips."""
    mean: NDArray[np.float64] = np.mean([getattr(r.accuracy, curve) for r in results.values()], axis=0)
    return mean
