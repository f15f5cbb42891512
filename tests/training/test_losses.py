"""The loss terms against numbers worked out by hand, and what they ask of the network."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from spm_train.objective.boxes import jitter, overlap
from spm_train.objective.losses import LossConfig, box_loss, class_loss, overlap_loss
from spm_train.objective.pairs import Batch, Pairs, coarse_truths, make_pairs, pick_anchors
from spm_train.objective.total_loss import ObjectiveConfig


def test_class_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)], [5.0, -5.0]])
    labels = torch.tensor([1, 0, -1])
    weights = torch.tensor([1.0, 1.0, 0.0])
    # -log(1/2) and -log(1/4), the third has no weight.
    assert class_loss(logits, labels, weights).item() == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert class_loss(logits, labels, torch.zeros(3)).item() == 0.0


def test_box_loss_by_hand() -> None:
    deltas = torch.tensor([[0.5, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 1.0], [9.0, 9.0, 9.0, 9.0]])
    goal, weights = torch.zeros(3, 4), torch.tensor([1.0, 1.0, 0.0])
    # Bend 1: 0.5 * 0.25; (2 - 0.5) + (1 - 0.5); mean of two boxes.
    assert box_loss(deltas, goal, weights, 1.0).item() == pytest.approx((0.125 + 2.0) / 2)
    # Bend 1/9: |x| - 1/18 beyond it.
    assert box_loss(deltas, goal, weights, 1 / 9).item() == pytest.approx((0.5 + 3.0 - 3 / 18) / 2)


def test_overlap_loss_by_hand() -> None:
    a = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 10]])
    b = torch.tensor([[5.0, 0, 15, 10], [0.0, 0, 1, 1]])
    # IoU 1/3, hull equals union.
    assert overlap_loss(a, b, torch.tensor([1.0, 0.0])).item() == pytest.approx(2 / 3)


def test_anchors_are_picked_positives_first_then_the_hardest_negatives() -> None:
    labels = torch.zeros(2, 100, dtype=torch.long)
    labels[0, :20] = 1
    labels[:, 90:] = -1
    score = torch.linspace(0, 1, 100).expand(2, -1)
    picked = pick_anchors(labels, score, LossConfig(positives=16, sampled=64), torch.Generator().manual_seed(0))
    assert picked.sum(1).tolist() == [64, 64]
    assert (picked * (labels == 1)).sum(1).tolist() == [16, 0]
    assert (picked * (labels == -1)).sum() == 0
    assert picked[0, 66:90].sum() == 24, "half of the 48 negatives are the hardest"
    assert picked[1, 58:90].sum() == 32


def test_pairs_are_two_to_one_to_one() -> None:
    category = torch.tensor([0, 0, 1, 1, 2, 2])
    pairs = make_pairs(category, torch.arange(6))
    kinds = [("own" if o else "same" if s else "different") for o, s in zip(pairs.own, pairs.same, strict=True)]
    assert (kinds.count("own"), kinds.count("same"), kinds.count("different")) == (6, 3, 3)


def _batch(others: Tensor, same: Tensor) -> Batch:
    picture = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    box = torch.tensor([[100.0, 100, 150, 150], [90.0, 90, 160, 160]])
    return Batch(picture, picture, box, box, others, same, torch.zeros(2, dtype=torch.long), torch.arange(2))


def test_generalised_training_takes_every_object_of_the_category() -> None:
    others = torch.tensor([[[10.0, 10, 60, 60], [200.0, 200, 240, 240]]] * 2)
    batch = _batch(others, torch.tensor([[True, False]] * 2))
    pairs = Pairs(torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([True, False]), torch.tensor([True, True]))
    wide = coarse_truths(batch, pairs, generalised=True).isfinite().all(-1)
    assert wide.tolist() == [[True, True, False], [True, True, False]]
    narrow = coarse_truths(batch, pairs, generalised=False).isfinite().all(-1)
    assert narrow.tolist() == [[True, False, False], [False, False, False]]


def test_jitter_ranges_from_close_to_loose() -> None:
    box = torch.tensor([[80.0, 90, 160, 150]])
    around = jitter(box, 4000, torch.Generator().manual_seed(1))
    found = overlap(around, box[:, None])
    assert 0.3 < (found >= ObjectiveConfig().fine_high).float().mean() < 0.9
    assert found.max() > 0.9
    assert found.min() < 0.3
