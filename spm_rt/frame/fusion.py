"""Both stages' scores and boxes fused (paper, section 3.4), and the step from the last box to the next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..settings import TrackerSettings
from .geometry import as_corners, iou, overlap_with

Floats = NDArray[np.float32]


class Fused(NamedTuple):
    """Fused proposals and the choice among them. ``K`` rows, float32."""

    boxes: Floats
    """[K, 4] in frame pixels"""
    scores: Floats
    """[K], without the window"""
    ranking: Floats
    """[K], with the window: what the choice is made by"""
    chosen: int


def fuse(
    coarse_scores: Floats,
    coarse_boxes: Floats,
    fine_scores: Floats,
    fine_boxes: Floats,
    window: Floats,
    settings: TrackerSettings,
) -> Fused:
    """Weighted scores and boxes of both stages, and the best proposal (docs/notes/model.md, "Fusion").

    In ``series`` mode the fine stage alone gives scores and boxes, in ``coarse`` mode the coarse stage.

    Args:
        coarse_scores, fine_scores: ``[K]``.
        coarse_boxes, fine_boxes: ``[K, 4]`` in frame pixels.
        window: ``[K]``, see :func:`cosine_window`.
        settings: mode, weights and window influence.
    """
    if settings.mode == "coarse":
        scores, boxes = coarse_scores, coarse_boxes
    elif settings.mode == "series":
        scores, boxes = fine_scores, fine_boxes
    else:
        weight = np.float32(settings.fine_score_weight)
        scores = (1 - weight) * coarse_scores + weight * fine_scores
        total: Floats = coarse_scores + np.float32(settings.fine_box_weight) * fine_scores
        total = np.minimum(np.maximum(total, np.float32(1e-5)), np.float32(99999)).astype(np.float32, copy=False)
        share = (coarse_scores / total)[:, None]
        boxes = share * coarse_boxes + (1 - share) * fine_boxes
    influence = np.float32(settings.window_influence)
    ranking = (1 - influence) * scores + influence * window
    return Fused(boxes, scores, ranking, int(ranking.argmax()))


def cosine_window(boxes: Floats, crop_size: int) -> Floats:
    """Cosine window ``[K]`` at the centres of boxes ``[K, 4]`` in crop pixels: 1 in the middle, 0 at the edge."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2 / np.float32(crop_size - 1)
    center = np.minimum(np.maximum(center, np.float32(0)), np.float32(1))
    # The cosine in float64, rounded once: float32 cosines differ from library to library.
    cosines = np.cos((np.float32(2 * np.pi) * center).astype(np.float64)).astype(np.float32)
    waves = np.float32(0.5) - np.float32(0.5) * cosines
    window: Floats = waves[:, 0] * waves[:, 1]
    return window


APART = 0.3
"""Boxes that overlap by less are of different things."""
RIVALS = 8
"""Most rivals that are told of a frame."""


class Rivals(NamedTuple):
    """Proposals elsewhere than the chosen one."""

    score: float
    """the best one's, 0 where there is none"""
    boxes: Floats
    """[n, 4] as detected, of those whose score reaches the update threshold: the first ones, up to ``RIVALS``"""


def find_rivals(fused: Fused, least: float) -> Rivals:
    """The rivals of the chosen proposal; ``least`` is the update threshold."""
    apart = overlap_with(fused.boxes, fused.boxes[fused.chosen], 0) < np.float32(APART)
    best = np.fmax.reduce(fused.scores[apart], initial=np.float32(0))
    return Rivals(float(best), fused.boxes[apart & (fused.scores.astype(np.float64) >= least)][:RIVALS])


Extent = tuple[float, float, float, float]
"""What makes the box that was asked for of a detected one: factors of its width and height, and how far its centre
moves to the right and down, in detected widths and heights."""
AS_DETECTED: Extent = (1.0, 1.0, 0.0, 0.0)
_SAME_OBJECT = 0.5
"""Least overlap of the given box and the detected one. Below it the detection is of something else."""


def extent_of(given: NDArray[np.float64], detected: Floats, share: float) -> Extent:
    """How the box that was given on the first frame lies against what is detected there.

    The network has an extent of its own for many objects: a box around the head is drawn to the head and shoulders.
    Later boxes differ from the wanted ones as the first one does (docs/notes/model.md, "Extent").

    Args:
        given, detected: ``[4]``, x1, y1, x2, y2 in frame pixels.
        share: of the difference; see ``TrackerSettings.extent_correction``.

    Returns:
        ``AS_DETECTED`` too where the two boxes overlap by less than half.
    """
    if not iou(given, detected) >= _SAME_OBJECT:
        return AS_DETECTED
    x1, y1, x2, y2 = as_corners(detected)
    left, top, right, bottom = as_corners(given)
    width, height = x2 - x1, y2 - y1
    return (
        ((right - left) / width) ** share,
        ((bottom - top) / height) ** share,
        share * ((left + right) - (x1 + x2)) / 2 / width,
        share * ((top + bottom) - (y1 + y2)) / 2 / height,
    )


def with_extent(boxes: Floats, extent: Extent) -> NDArray[np.float64] | Floats:
    """Detected boxes ``[K, 4]`` as they were asked for; see :data:`Extent`."""
    if extent == AS_DETECTED:
        return boxes
    corners = boxes.astype(np.float64)
    size = corners[:, 2:] - corners[:, :2]
    center = (corners[:, :2] + corners[:, 2:]) / 2 + size * extent[2:]
    half = size * extent[:2] / 2
    return np.concatenate([center - half, center + half], axis=1)


def next_box(
    current: NDArray[np.float64],
    detected: Floats,
    score: float,
    frame_size: tuple[int, int],
    settings: TrackerSettings,
    extent: Extent = AS_DETECTED,
) -> NDArray[np.float64]:
    """The new box ``[4]``: the detection's centre, the size smoothed by the score (docs/notes/model.md, "Final box").

    The clamp is the release's and not symmetric: the centre may go down to 0, the right and bottom edges stay inside.

    Args:
        current: last box, x1, y1, x2, y2 in frame pixels.
        detected: fused box.
        score: its fused score, without the window.
        frame_size: height, width.
        settings: size rate and smallest side.
        extent: of the target.
    """
    rate = settings.size_rate * score
    x1, y1, x2, y2 = (float(v) for v in detected)
    across, down, right, below = extent
    width = max(settings.min_side, (x2 - x1) * across * rate + float(current[2] - current[0]) * (1 - rate))
    height = max(settings.min_side, (y2 - y1) * down * rate + float(current[3] - current[1]) * (1 - rate))
    cx = max(0.0, min((x1 + x2) / 2 + (x2 - x1) * right, frame_size[1] - width / 2))
    cy = max(0.0, min((y1 + y2) / 2 + (y2 - y1) * below, frame_size[0] - height / 2))
    return np.array([cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2])
