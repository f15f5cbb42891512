"""The four losses (paper, section 3.4): class and box of both stages, weights 1, 2, 1, 1.

The coarse stage's box loss is a smooth L1 with its bend at 1/9, as in the detector it comes from: its deltas are small
(they are not scaled up as the fine stage's are) and a bend at 1 would leave them next to no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .boxes import generalized_overlap

COARSE_BEND = 1.0 / 9.0
FINE_BEND = 1.0


def class_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Mean cross entropy of ``[M, 2]`` logits (background, foreground) over the boxes with weight."""
    loss = F.cross_entropy(logits, labels.clamp(min=0), reduction="none")
    return (loss * weights).sum() / weights.sum().clamp(min=1)


def graded_class_loss(logits: Tensor, goals: Tensor) -> Tensor:
    """Mean cross entropy of ``[M, 2]`` logits (background, foreground) and foreground shares ``[M]`` from 0 to 1."""
    return F.cross_entropy(logits, torch.stack([1 - goals, goals], dim=1))


def box_loss(deltas: Tensor, targets: Tensor, weights: Tensor, bend: float) -> Tensor:
    """Smooth L1 of ``[M, 4]`` deltas, summed over the four, mean over the boxes with weight."""
    loss = F.smooth_l1_loss(deltas, targets, reduction="none", beta=bend).sum(-1)
    return (loss * weights).sum() / weights.sum().clamp(min=1)


def overlap_loss(boxes: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """1 - GIoU of ``[M, 4]`` boxes, mean over the boxes with weight."""
    loss = 1 - generalized_overlap(boxes, targets)
    return (loss * weights).sum() / weights.sum().clamp(min=1)
