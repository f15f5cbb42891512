"""Pairs of templates and search crops, and which anchors are positives and negatives of each pair."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..config import LossConfig
from .boxes import overlap


class Batch(NamedTuple):
    """Samples side by side; boxes in pixels of the full crop."""

    template: Tensor
    """[B, 3, z, z] uint8 BGR"""
    search: Tensor
    """[B, 3, x, x] uint8 BGR"""
    template_box: Tensor
    """[B, 4]"""
    box: Tensor
    """[B, 4]"""
    others: Tensor
    """[B, O, 4], NaN where unused"""
    same: Tensor
    """[B, O] bool"""
    category: Tensor
    """[B]"""
    instance: Tensor
    """[B]"""


class Pairs(NamedTuple):
    """Which template is compared with which search crop."""

    template: Tensor
    """[P]"""
    search: Tensor
    """[P]"""
    own: Tensor
    """[P] bool: both show the same object"""
    same: Tensor
    """[P] bool: both show objects of one category"""


def make_pairs(category: Tensor, instance: Tensor) -> Pairs:
    """All pairs of one object, then as many with another sample's template: half of one category, half not."""
    count = len(category)
    index = torch.arange(count, device=category.device)
    even = index % 2 == 0
    partner = torch.where(even, index ^ 1, (index + 1) % count).clamp(max=count - 1)
    template, search = torch.cat([index, partner]), torch.cat([index, index])
    return Pairs(template, search, instance[template] == instance[search], category[template] == category[search])


def coarse_truths(batch: Batch, pairs: Pairs, generalised: bool) -> Tensor:
    """The objects that the coarse stage should find for each pair: ``[P, 1 + O, 4]``, NaN where there is none."""
    target = batch.box[pairs.search][:, None]
    others = batch.others[pairs.search]
    nothing = torch.full_like(target, torch.nan)
    if not generalised:
        return torch.cat([torch.where(pairs.own[:, None, None], target, nothing), nothing.expand_as(others)], dim=1)
    target = torch.where((pairs.own | pairs.same)[:, None, None], target, nothing)
    # ``same`` compares with the search crop's own target; for a template of another category nothing is known.
    use = batch.same[pairs.search] & pairs.same[:, None]
    return torch.cat([target, torch.where(use[..., None], others, nothing.expand_as(others))], dim=1)


class Assignment(NamedTuple):
    """The label of each box (1 positive, 0 negative, -1 neither) and the truth that it belongs to."""

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


def pick_anchors(labels: Tensor, foreground: Tensor, config: LossConfig, generator: torch.Generator) -> Tensor:
    """Weights ``[B, N]`` of the coarse stage's anchors: 1 where an anchor was picked.

    Up to ``positives`` positives at random; as many negatives as fill up to ``sampled``, half of them those that look
    most like the target, half at random.

    Args:
        labels: ``[B, N]`` of an :class:`Assignment`.
        foreground: ``[B, N]`` the anchors' present scores.
    """
    noise = torch.rand(labels.shape, generator=generator, device=generator.device)
    picked = torch.zeros_like(foreground)
    is_positive, is_negative = labels == 1, labels == 0
    picked[is_positive & (_rank_among(noise, is_positive) < config.positives)] = 1
    negatives = config.sampled - picked.sum(dim=1, keepdim=True)
    hard = (negatives / 2).floor()
    is_hard = is_negative & (_rank_among(foreground, is_negative) < hard)
    picked[is_hard] = 1
    rest = is_negative & ~is_hard
    picked[rest & (_rank_among(noise, rest) < negatives - hard)] = 1
    return picked


def _rank_among(values: Tensor, candidates: Tensor) -> Tensor:
    """Each candidate's rank ``[B, N]``, 0 for the largest of the ``values`` (0 to 1); the others come behind them."""
    return torch.where(candidates, values, values - 2).argsort(dim=1, descending=True).argsort(dim=1)
