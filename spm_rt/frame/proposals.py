"""Which of the coarse stage's boxes the fine stage looks at (paper, section 3.4; docs/notes/model.md, "Proposals")."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..settings import TrackerSettings
from .geometry import overlap_with

Indices = NDArray[np.intp]

_FIRST = 200
"""So many of the best are looked at before all are: the last of nine proposals is about the hundredth by score."""


def select_proposals(
    scores: NDArray[np.float32], boxes: NDArray[np.float32], current: NDArray[np.float32], settings: TrackerSettings
) -> Indices:
    """Indices of at most K proposals: the best by score after suppression, then the one reserved for the last box.

    Ties in score are broken by the lower index (for the reserved one by the overlap), so the result does not depend on
    the machine.

    Args:
        scores: ``[N]`` foreground probabilities.
        boxes: ``[N, 4]`` in frame pixels, x1, y1, x2, y2.
        current: ``[4]``, the last box.
        settings: K and the thresholds.

    Returns:
        ``[2..K]`` indices in general; ``[1]`` if no score is a number (the reserved box alone).
    """
    wanted = settings.num_candidates
    reserved: list[int] = []
    pool = scores
    if settings.num_near_candidates and wanted > 1:
        reserved = [reserve_near(scores, overlap_with(boxes, current, 1), settings.near_iou)]
        wanted -= 1
        pool = scores.copy()
        pool[reserved] = -1.0
    floor = max(float(np.float32(settings.score_floor) * pool.max()), 0.0)
    # Comparisons with NaN, which the largest is if any is, are false.
    rows = np.flatnonzero(pool >= floor) if floor == floor else np.zeros(0, np.intp)
    order = best_apart(pool, boxes, rows, settings.nms_threshold, wanted)
    return np.concatenate([order, np.array(reserved, np.intp)])


def best_apart(
    scores: NDArray[np.float32], boxes: NDArray[np.float32], rows: Indices, threshold: float, wanted: int
) -> Indices:
    """The best-scored of ``rows`` after suppression, at most ``wanted``.

    Nearly always the first ``_FIRST`` are enough, so only they are sorted at first.
    """
    pool = scores[rows]
    if len(rows) > _FIRST:
        least = np.partition(pool, len(pool) - _FIRST)[len(pool) - _FIRST]
        first = rows[pool >= least]  # with all that have the least score, so that its order is that of all rows
        kept = suppress(boxes, first[np.argsort(-scores[first], kind="stable")], threshold, wanted)
        if len(kept) == wanted:
            return kept
    return suppress(boxes, rows[np.argsort(-pool, kind="stable")], threshold, wanted)


def reserve_near(scores: NDArray[np.float32], overlaps: NDArray[np.float32], near_iou: float) -> int:
    """The proposal kept for the last box: the best-scored of two or more near boxes, else the nearest one.

    Of near boxes with the same score (in a crop that is mostly padding) the nearest one is kept.
    """
    near = np.flatnonzero(overlaps > near_iou)
    if len(near) >= 2:
        return int(near[np.lexsort((-overlaps[near], -scores[near]))[0]])
    return int(np.fmax(overlaps, np.float32(-1)).argmax())


def suppress(boxes: NDArray[np.float32], order: Indices, threshold: float, wanted: int) -> Indices:
    """Greedy suppression: walk down ``order`` and drop what overlaps a kept box by ``threshold`` or more.

    Stops at ``wanted`` boxes. Overlaps are without + 1; those of two empty boxes (0 / 0) do not suppress.
    """
    if not len(order):
        return order
    limit, zero = np.float32(threshold), np.float32(0)
    corners = boxes.T[:, order]  # x1, y1, x2, y2 along the leading axis
    lows, highs = corners[:2], corners[2:]
    alive = np.ones(len(order), np.bool_)
    kept: list[int] = []
    row = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        areas = np.multiply(*(highs - lows))
        while len(kept) < wanted:
            row += int(alive[row:].argmax())
            if not alive[row]:
                break
            kept.append(int(order[row]))
            alive[row] = False
            sides = np.minimum(highs, highs[:, row, None])
            sides -= np.maximum(lows, lows[:, row, None])
            np.maximum(sides, zero, out=sides)
            inter = sides[0] * sides[1]
            union = areas + areas[row]
            union -= inter
            alive &= ~(np.divide(inter, union, out=union) >= limit)
    return np.array(kept, np.intp)
