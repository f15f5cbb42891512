"""Which of the coarse stage's boxes the fine stage looks at (paper, section 3.4; docs/model.md, "Proposals")."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .geometry import overlap_with, pairwise_overlap
from .settings import TrackerSettings

Indices = NDArray[np.intp]

_PIECE = 64


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
    if settings.num_near_candidates and wanted > 1:
        reserved = [reserve_near(scores, overlap_with(boxes, current, 1), settings.near_iou)]
        wanted -= 1
    pool = scores.copy()
    pool[reserved] = -1.0
    order = by_descending_score(pool, pool >= np.float32(settings.score_floor) * pool.max())
    order = order[pool[order] >= 0]
    if len(order) > 1:
        order = suppress(boxes, order, settings.nms_threshold, wanted)
    return np.concatenate([order, np.array(reserved, np.intp)])


def reserve_near(scores: NDArray[np.float32], overlaps: NDArray[np.float32], near_iou: float) -> int:
    """The proposal kept for the last box: the best-scored of two or more near boxes, else the nearest one.

    Of near boxes with the same score (in a crop that is mostly padding) the nearest one is kept.
    """
    near = np.flatnonzero(overlaps > near_iou)
    if len(near) >= 2:
        return int(near[np.lexsort((-overlaps[near], -scores[near]))[0]])
    return int(np.argmax(np.nan_to_num(overlaps, nan=-1.0)))


def by_descending_score(scores: NDArray[np.float32], keep: NDArray[np.bool_]) -> Indices:
    """Indices of the rows to keep, best score first, equal scores by index."""
    rows = np.flatnonzero(keep)
    return rows[np.argsort(-scores[rows], kind="stable")]


def suppress(boxes: NDArray[np.float32], order: Indices, threshold: float, wanted: int) -> Indices:
    """Greedy suppression: walk down ``order`` and drop what overlaps a kept box by ``threshold`` or more.

    Stops at ``wanted`` boxes. Overlaps are without + 1; those of two empty boxes (0 / 0) do not suppress. Works through
    ``order`` in pieces: nearly always the first one is enough, and its overlaps are one small matrix.
    """
    limit = np.float32(threshold)
    kept: list[int] = []
    for start in range(0, len(order), _PIECE):
        piece = order[start : start + _PIECE]
        if kept:
            piece = piece[~(pairwise_overlap(boxes[piece], boxes[kept]) >= limit).any(axis=1)]
        clash = pairwise_overlap(boxes[piece], boxes[piece]) >= limit
        alive = np.ones(len(piece), np.bool_)
        for row in range(len(piece)):
            if alive[row]:
                kept.append(int(piece[row]))
                if len(kept) == wanted:
                    return np.array(kept, np.intp)
                alive &= ~clash[row]
    return np.array(kept, np.intp)
