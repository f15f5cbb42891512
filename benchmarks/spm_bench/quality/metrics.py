"""Figures of one-pass evaluation, with the conventions of the GOT-10k toolkit's OTB experiment; and of detection (ROC).

Boxes are ``[n, 4]``: x, y, width, height. Frames whose true box is not usable (NaN, no size) are left out.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from spm_rt.media.datasets import usable

Floats = NDArray[np.float64]

OVERLAPS = np.linspace(0, 1, 21)
DISTANCES = np.arange(51.0)
SHARES = np.linspace(0, 0.5, 51)
PRECISION_AT = 20.0
"""Thresholds of the success curve (overlap, strictly above), the precision curve (pixels, at most) and the normalised
precision curve (shares of the target's size, at most)."""


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """One clip's figures, 0..1.

    Attributes:
        frames: frames scored, the first one (where the box is given) included.
        auc: mean of the success curve.
        precision: share of frames whose centre is at most 20 px away.
        norm_precision: mean of the normalised precision curve.
        success_rate: share of frames with an overlap over 0.5.
        mean_iou: mean overlap.
        success: the curve over ``OVERLAPS``.
        distance: the curve over ``DISTANCES``.
        norm_distance: the curve over ``SHARES``.
    """

    frames: int
    auc: float
    precision: float
    norm_precision: float
    success_rate: float
    mean_iou: float
    success: Floats
    distance: Floats
    norm_distance: Floats


def score_boxes(boxes: Floats, truth: Floats) -> Accuracy:
    """Figures of one clip from the boxes of all its frames, each ``[n, 4]``."""
    keep = usable(truth)
    boxes, truth = np.asarray(boxes, np.float64)[keep], np.asarray(truth, np.float64)[keep]
    overlaps = overlap(boxes, truth)
    # Centres of inclusive pixels, as in OTB's own code.
    apart = (boxes[:, :2] + (boxes[:, 2:] - 1) / 2) - (truth[:, :2] + (truth[:, 2:] - 1) / 2)
    pixels = np.linalg.norm(apart, axis=1)
    shares = np.linalg.norm(apart / np.maximum(truth[:, 2:], 1.0), axis=1)
    success = (overlaps[:, None] > OVERLAPS).mean(axis=0)
    distance = (pixels[:, None] <= DISTANCES).mean(axis=0)
    norm_distance = (shares[:, None] <= SHARES).mean(axis=0)
    return Accuracy(
        int(keep.sum()),
        float(success.mean()),
        float((pixels <= PRECISION_AT).mean()),
        float(norm_distance.mean()),
        float((overlaps > 0.5).mean()),
        float(overlaps.mean()),
        success,
        distance,
        norm_distance,
    )


def overlap(a: Floats, b: Floats) -> Floats:
    """Overlap (IoU) of boxes in pairs, 0..1; NaN boxes overlap nothing."""
    size = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    inter = np.clip(np.nan_to_num(size), 0, None).prod(axis=1)
    union = np.nan_to_num(a[:, 2:].prod(axis=1) + b[:, 2:].prod(axis=1)) - inter
    return np.where(union > 0, np.clip(inter / np.where(union > 0, union, 1.0), 0, 1), 0.0)


@dataclasses.dataclass(frozen=True)
class Roc:
    """How well one number tells two groups apart; the higher it is, the more likely the first ("positive") group.

    Attributes:
        area: under the curve: the probability that a positive has the higher number.
        threshold: the one with the best balanced accuracy (``positive`` means at least this).
        kept: share of positives at or over it.
        caught: share of negatives under it.
        rates: the curve, ``[k, 2]``: share of negatives passed, share of positives kept, from none to all.
    """

    area: float
    threshold: float
    kept: float
    caught: float
    rates: Floats

    @property
    def balanced(self) -> float:
        return (self.kept + self.caught) / 2


def roc(values: Floats, positive: NDArray[np.bool_]) -> Roc:
    """The curve of ``values`` ``[n]`` against what they should tell; both groups must have members."""
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], positive[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # equal values pass together
    kept = np.concatenate([[0.0], np.cumsum(hits)[last] / hits.sum()])
    passed = np.concatenate([[0.0], np.cumsum(~hits)[last] / (~hits).sum()])
    best = int(np.argmax(kept - passed))
    if best == 0:
        threshold = float(ranked[0]) + 1e-6
    else:
        low = float(ranked[last[best - 1]])
        below = float(ranked[last[best - 1] + 1]) if last[best - 1] + 1 < len(ranked) else low
        threshold = (low + below) / 2
    area = float(np.sum(np.diff(passed) * (kept[1:] + kept[:-1]) / 2))
    return Roc(area, threshold, float(kept[best]), float(1 - passed[best]), np.stack([passed, kept], axis=1))


def caught_at(values: Floats, positive: NDArray[np.bool_], kept: float) -> float:
    """Share of negatives under the highest threshold at which at least a share of ``kept`` positives stays."""
    ascending = np.sort(values[positive])
    threshold = ascending[int((1 - kept) * len(ascending) + 1e-9)]
    return float((values[~positive] < threshold).mean())


def rates_at(values: Floats, positive: NDArray[np.bool_], threshold: float) -> tuple[float, float]:
    """Share of positives at or over a threshold, and share of negatives under it."""
    return float((values[positive] >= threshold).mean()), float((values[~positive] < threshold).mean())
