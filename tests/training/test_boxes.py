"""Overlap, encoding and assignment against cases worked out by hand."""

from __future__ import annotations

import pytest
import torch

from spm_export.model.network import decode
from spm_train.objective.boxes import encode, generalized_overlap, overlap, spread_out
from spm_train.objective.pairs import assign


def boxes(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def test_overlap_by_hand() -> None:
    a = boxes([0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10])
    b = boxes([5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 10])
    assert overlap(a, b).tolist() == pytest.approx([50 / 150, 0.0, 1.0])
    nothing = boxes([float("nan")] * 4)
    assert overlap(a[:1], nothing).item() == 0.0


def test_generalized_overlap_by_hand() -> None:
    # Side by side with a gap of 10: union 200, hull 300, IoU 0.
    value = generalized_overlap(boxes([0, 0, 10, 10]), boxes([20, 0, 30, 10]))
    assert value.item() == pytest.approx(-100 / 300)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (5.0, 5.0, 10.0, 10.0)])
def test_encode_is_the_inverse_of_the_models_decoding(weights: tuple[float, float, float, float]) -> None:
    generator = torch.Generator().manual_seed(3)
    low = torch.rand(50, 2, generator=generator) * 100
    size = torch.rand(50, 2, generator=generator) * 80 + 20
    source = torch.cat([low, low + size], dim=1)
    goal = source + torch.rand(50, 4, generator=generator) * 9
    torch.testing.assert_close(decode(source, encode(source, goal, weights), weights), goal, atol=2e-4, rtol=0)


def test_assignment_by_hand() -> None:
    anchors = boxes([0, 0, 10, 10], [2, 0, 12, 10], [5, 0, 15, 10], [40, 40, 50, 50])
    truth = boxes([0, 0, 10, 10])[None]
    # IoU: 1, 80 / 120 = 0.67, 50 / 150 = 0.33, 0
    found = assign(anchors, truth, 0.6, 0.3)
    assert found.labels.tolist() == [[1, 1, -1, 0]]


def test_best_anchor_is_positive_where_none_reaches_the_threshold() -> None:
    anchors = boxes([0, 0, 10, 10], [100, 0, 110, 10])
    truth = boxes([5, 0, 15, 10])[None]  # IoU 0.33 at best
    assert assign(anchors, truth, 0.6, 0.3).labels.tolist() == [[1, 0]]
    assert assign(anchors, truth, 0.6, 0.3, force=False).labels.tolist() == [[-1, 0]]
    assert assign(anchors, truth, 0.6, 0.4).labels.tolist() == [[0, 0]], "too far to learn from"


def test_no_truth_means_only_negatives() -> None:
    anchors = boxes([0, 0, 10, 10], [2, 0, 12, 10])
    nothing = torch.full((1, 3, 4), torch.nan)
    assert assign(anchors, nothing, 0.6, 0.3).labels.tolist() == [[0, 0]]


def test_every_anchor_belongs_to_its_nearest_truth() -> None:
    anchors = boxes([0, 0, 10, 10], [30, 0, 40, 10])
    truths = boxes([30, 0, 40, 10], [0, 0, 10, 10])[None]
    found = assign(anchors, truths, 0.6, 0.3)
    assert found.labels.tolist() == [[1, 1]]
    assert found.truth.tolist() == [[1, 0]]


def test_spread_out_suppresses_near_boxes_and_always_fills_up() -> None:
    candidates = boxes([0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60])[None]
    scores = torch.tensor([[0.9, 0.8, 0.1]])
    assert spread_out(candidates, scores, 3, 0.5).tolist() == [[0, 2, 1]]
