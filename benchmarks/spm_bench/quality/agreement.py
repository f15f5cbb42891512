"""How far two trackers' boxes are apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_rt.frame.geometry import iou
from spm_rt.results import Box
from spm_rt.terminal import format_table
from spm_rt.trackers.compare import center_distances, follow_both
from spm_rt.trackers.single import Tracker

PARITY_FRAMES = 30
"""Frames of a clip on which a measured tracker is compared with the reference."""


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
    """Run both over a clip: from the same box in every frame (the first one's), and each on its own way.

    Args:
        first, second: siblings of them are started here.
        frames: at least two.
        box: the target in the first of them.
        clip: its name.
        advance: called after every frame.
        shift: pixels by which the second one's free run starts off to the right of ``box``.
    """
    advance()
    tracks = follow_both(first.sibling(), second.sibling(), frames, box, advance, shift)
    overlaps, free = iou(tracks.first, tracks.forced), iou(tracks.first, tracks.free)
    distance = center_distances(tracks.first, tracks.forced)
    return Agreement(
        clip,
        len(frames),
        float(overlaps.mean()),
        float(overlaps.min()),
        float(distance.mean()),
        float(distance.max()),
        float(free.mean()),
        float(free.min()),
        float(center_distances(tracks.first, tracks.free).mean()),
    )


def overall(agreements: Sequence[Agreement]) -> dict[str, float]:
    """All clips together, every compared frame weighing the same."""
    weights = np.array([agreement.frames - 1 for agreement in agreements], np.float64)
    mean = {
        name: float(np.average([getattr(agreement, name) for agreement in agreements], weights=weights))
        for name in ("mean_iou", "mean_distance", "free_iou", "free_distance")
    }
    return {
        **mean,
        "min_iou": min(a.min_iou for a in agreements),
        "max_distance": max(a.max_distance for a in agreements),
        "free_min_iou": min(a.free_min_iou for a in agreements),
        "frames": float(weights.sum()),
    }


def agreement_table(agreements: Sequence[Agreement]) -> str:
    """One line per clip, and one for all."""
    columns = {
        "mean_iou": ("mean IoU", 6),
        "min_iou": ("min IoU", 6),
        "mean_distance": ("mean px", 4),
        "max_distance": ("max px", 4),
        "free_iou": ("free mean IoU", 6),
        "free_min_iou": ("free min IoU", 6),
    }

    def row(clip: str, frames: int, values: dict[str, Any]) -> list[str]:
        return [clip, str(frames), *(f"{values[name]:.{digits}f}" for name, (_, digits) in columns.items())]

    rows = [row(a.clip, a.frames, dataclasses.asdict(a)) for a in agreements]
    rows.append(row("all", sum(a.frames for a in agreements), overall(agreements)))
    return format_table(["clip", "frames", *(title for title, _ in columns.values())], rows)
