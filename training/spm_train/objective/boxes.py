"""Boxes in training: overlap, the inverse of the model's decoding, and who is a positive.

Boxes are x1, y1, x2, y2, ``[..., 4]``; rows of NaN stand for "no box" and overlap with nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes that broadcast: ``[..., 4]``, ``[..., 4]`` -> ``[...]``; 0 where either is NaN."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inter
    return (inter / union.clamp(min=1e-6)).nan_to_num(0.0)


def generalized_overlap(a: Tensor, b: Tensor) -> Tensor:
    """GIoU of paired boxes ``[..., 4]`` (Rezatofighi et al., 2019), from -1 to 1."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inter
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return inter / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)


def encode(boxes: Tensor, targets: Tensor, weights: tuple[float, float, float, float] = (1, 1, 1, 1)) -> Tensor:
    """Deltas ``[..., 4]`` that :func:`spm_export.model.network.decode` turns from ``boxes`` into ``targets``."""
    size = boxes[..., 2:] - boxes[..., :2] + 1
    center = boxes[..., :2] + 0.5 * size
    target_center = (targets[..., :2] + targets[..., 2:]) / 2
    target_size = (targets[..., 2:] - targets[..., :2]).clamp(min=1)
    deltas = torch.cat([(target_center - center) / size, (target_size / size).log()], dim=-1)
    return deltas * deltas.new_tensor(weights)


class Assignment(NamedTuple):
    """Who is what: 1 positive, 0 negative, -1 neither; and the truth each box belongs to."""

    labels: Tensor
    """[B, N] int64"""
    truth: Tensor
    """[B, N] index of the truth with the largest overlap"""


def assign(boxes: Tensor, truths: Tensor, high: float, low: float, force: bool = True) -> Assignment:
    """Positives at IoU >= ``high``, negatives below ``low``.

    Args:
        boxes: ``[N, 4]`` or ``[B, N, 4]``.
        truths: ``[B, T, 4]``, NaN rows where there are fewer.
        force: a truth that no box overlaps by ``high`` makes its best boxes positive, if they overlap by ``low``.
    """
    if boxes.dim() == 2:
        boxes = boxes.expand(len(truths), *boxes.shape)
    ious = overlap(boxes[:, :, None], truths[:, None])  # [B, N, T]
    best, truth = ious.max(dim=2)
    labels = torch.full_like(truth, -1)
    labels[best < low] = 0
    labels[best >= high] = 1
    if force:
        top = ious.max(dim=1, keepdim=True).values  # [B, 1, T]
        forced = (ious >= top - 1e-4) & (top >= low) & (top < high)
        labels[forced.any(dim=2)] = 1
        truth = torch.where(forced.any(dim=2), forced.int().argmax(dim=2), truth)
    return Assignment(labels, truth)


def spread_out(boxes: Tensor, scores: Tensor, count: int, limit: float) -> Tensor:
    """Greedy non-maximum suppression: ``[B, N, 4]``, ``[B, N]`` -> ``count`` indices each, ``[B, count]``.

    Where fewer boxes survive, suppressed ones follow (the best first).
    """
    left = scores.clone()
    chosen = []
    rows = torch.arange(len(boxes), device=boxes.device)
    for _ in range(count):
        best = left.argmax(dim=1)
        chosen.append(best)
        near = overlap(boxes, boxes[rows, best][:, None]) >= limit
        left = torch.where(near, left - 2.0, left)
        left[rows, best] = -1e9
    return torch.stack(chosen, dim=1)
