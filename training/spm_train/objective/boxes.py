"""Boxes in training: overlap, the inverse of the model's decoding, suppression of near boxes, boxes around the truth.

Boxes are x1, y1, x2, y2, ``[..., 4]``; rows of NaN stand for "no box" and overlap with nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes that broadcast: ``[..., 4]``, ``[..., 4]`` -> ``[...]``; 0 where either is NaN."""
    inter, union = _intersection_and_union(a, b)
    return (inter / union.clamp(min=1e-6)).nan_to_num(0.0)


def generalized_overlap(a: Tensor, b: Tensor) -> Tensor:
    """GIoU of paired boxes ``[..., 4]`` (Rezatofighi et al., 2019), from -1 to 1."""
    inter, union = _intersection_and_union(a, b)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return inter / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)


def _intersection_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    return inter, (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inter


def encode(boxes: Tensor, targets: Tensor, weights: tuple[float, float, float, float] = (1, 1, 1, 1)) -> Tensor:
    """Deltas ``[..., 4]`` that :func:`spm_export.model.network.decode` turns from ``boxes`` into ``targets``."""
    size = boxes[..., 2:] - boxes[..., :2] + 1
    center = boxes[..., :2] + 0.5 * size
    target_center = (targets[..., :2] + targets[..., 2:]) / 2
    target_size = (targets[..., 2:] - targets[..., :2]).clamp(min=1)
    deltas = torch.cat([(target_center - center) / size, (target_size / size).log()], dim=-1)
    return deltas * deltas.new_tensor(weights)


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


def take(boxes: Tensor, index: Tensor) -> Tensor:
    """The boxes ``[B, K, 4]`` of ``[B, N, 4]`` at the indices ``[B, K]``."""
    return torch.gather(boxes, 1, index[..., None].expand(-1, -1, 4))


def jitter(boxes: Tensor, count: int, generator: torch.Generator, tight: bool = False) -> Tensor:
    """``[B, 4]`` -> ``[B, count, 4]``: boxes around each, from close to loose (IoU about 0.95 down to 0.3)."""
    shape = (len(boxes), count, 4)
    noise = torch.randn(shape, generator=generator, device=generator.device)
    strength = torch.rand(shape[:2], generator=generator, device=generator.device)
    strength = (0.04 + 0.04 * strength if tight else 0.02 + 0.23 * strength)[..., None]
    size = (boxes[:, 2:] - boxes[:, :2])[:, None]
    center = (boxes[:, :2] + boxes[:, 2:])[:, None] / 2 + noise[..., :2] * strength * size
    half = size * (noise[..., 2:] * strength).exp() / 2
    return torch.cat([center - half, center + half], dim=-1)
