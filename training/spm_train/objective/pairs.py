"""Which template is compared with which search crop, and which of these pairs show one object or one category."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


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
    """All pairs of one object, then half as many of neighbours in a two, then half as many of different twos."""
    count = len(category)
    index = torch.arange(count, device=category.device)
    even = index % 2 == 0
    partner = torch.where(even, index ^ 1, (index + 1) % count).clamp(max=count - 1)
    template, search = torch.cat([index, partner]), torch.cat([index, index])
    return Pairs(template, search, instance[template] == instance[search], category[template] == category[search])
