"""How far two trackers' boxes are apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from spm_rt.frame.geometry import iou
from spm_rt.results import Box
from spm_rt.trackers.compare import center_distances, follow_both
from spm_rt.trackers.single import Tracker

from ..tables import table

PARITY_FRAMES = 30
"""Frames of a clip on which a measured tracker is compared with the reference."""

COLUMNS = """clip {clip} | frames {frames} | mean IoU {mean_iou:.6f} | min IoU {min_iou:.6f}
    | mean px {mean_distance:.4f} | max px {max_distance:.4f}
    | free mean IoU {free_iou:.6f} | free min IoU {free_min_iou:.6f}"""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Two trackers' boxes on one clip. Distances between box centres, in pixels.

    ``mean_iou``, ``min_iou`` and the distances compare frame by frame, both from the first tracker's last box;
    ``free_*`` when each goes its own way from the first frame on.
    """

    clip: str
    frames: int
    mean_iou: float
    min_iou: float
    mean_distance: float
    max_distance: float
    free_iou: float
    free_min_iou: float
    free_distance: float


def compare_trackers(
    first: Tracker,
    second: Tracker,
    frames: Sequence[NDArray[np.uint8]],
    box: Box,
    clip: str = "",
    advance: Callable[[], None] = lambda: None,
    shift: float = 0.0,
) -> Agreement:
    """Run siblings of both over a clip: from the same box in every frame (the first one's), and each on its own way.

    ``advance`` is called after every frame; the second one's free run starts ``shift`` pixels to the right of ``box``.
    """
    advance()
    tracks = follow_both(first.sibling(), second.sibling(), frames, box, advance, shift)
    overlaps, free = iou(tracks.first, tracks.forced), iou(tracks.first, tracks.free)
    distance = center_distances(tracks.first, tracks.forced)
    away = center_distances(tracks.first, tracks.free).mean()
    figures = (overlaps.mean(), overlaps.min(), distance.mean(), distance.max(), free.mean(), free.min(), away)
    return Agreement(clip, len(frames), *map(float, figures))


def overall(agreements: Sequence[Agreement]) -> dict[str, float]:
    """All clips together, every compared frame weighing the same."""
    weights = np.array([agreement.frames - 1 for agreement in agreements], np.float64)
    values = {field.name: [getattr(a, field.name) for a in agreements] for field in dataclasses.fields(Agreement)}
    means = ("mean_iou", "mean_distance", "free_iou", "free_distance")
    return {
        **{name: float(np.average(values[name], weights=weights)) for name in means},
        "min_iou": min(values["min_iou"]),
        "max_distance": max(values["max_distance"]),
        "free_min_iou": min(values["free_min_iou"]),
        "frames": float(weights.sum()),
    }


def agreement_table(agreements: Sequence[Agreement]) -> str:
    """One line per clip, and one for all."""
    everything = {**overall(agreements), "clip": "all", "frames": sum(a.frames for a in agreements)}
    return table(COLUMNS, [*map(dataclasses.asdict, agreements), everything])
