"""Overlap, encoding, assignment and the loss terms against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from spm_export.model.network import SPMTracker, decode
from spm_train.config import LossConfig, ObjectiveConfig
from spm_train.objective import network
from spm_train.objective.boxes import encode, generalized_overlap, jitter, overlap, spread_out
from spm_train.objective.losses import box_loss, class_loss, graded_class_loss, overlap_loss
from spm_train.objective.pairs import Batch, Pairs, assign, coarse_truths, make_pairs, pick_anchors
from spm_train.objective.total_loss import compute_losses

NOTHING = [math.nan] * 4
AT_0, AT_1, AT_2, AT_5 = ([x, 0.0, x + 10, 10] for x in (0.0, 1.0, 2.0, 5.0))
AT_20, AT_30, AT_40, AT_100 = ([x, 0.0, x + 10, 10] for x in (20.0, 30.0, 40.0, 100.0))


def boxes(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def test_overlap_by_hand() -> None:
    b = boxes(AT_5, [20, 20, 30, 30], AT_0, NOTHING)
    assert overlap(boxes(AT_0), b).tolist() == pytest.approx([50 / 150, 0.0, 1.0, 0.0])


def test_generalized_overlap_by_hand() -> None:
    # Side by side with a gap of 10: union 200, hull 300, IoU 0.
    assert generalized_overlap(boxes(AT_0), boxes(AT_20)).item() == pytest.approx(-100 / 300)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (5.0, 5.0, 10.0, 10.0)])
def test_encode_is_the_inverse_of_the_models_decoding(weights: tuple[float, float, float, float]) -> None:
    generator = torch.Generator().manual_seed(3)
    low = torch.rand(50, 2, generator=generator) * 100
    size = torch.rand(50, 2, generator=generator) * 80 + 20
    source = torch.cat([low, low + size], dim=1)
    goal = source + torch.rand(50, 4, generator=generator) * 9
    torch.testing.assert_close(decode(source, encode(source, goal, weights), weights), goal, atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    ("anchors", "truths", "low", "force", "labels"),
    [
        # IoU: 1, 80 / 120 = 0.67, 50 / 150 = 0.33, 0
        pytest.param([AT_0, AT_2, AT_5, AT_40], [AT_0], 0.3, True, [1, 1, -1, 0], id="by overlap"),
        # IoU 0.33 at best
        pytest.param([AT_0, AT_100], [AT_5], 0.3, True, [1, 0], id="the best where none reaches the threshold"),
        pytest.param([AT_0, AT_100], [AT_5], 0.3, False, [-1, 0], id="not even the best, if not forced"),
        pytest.param([AT_0, AT_100], [AT_5], 0.4, True, [0, 0], id="too far to learn from"),
        pytest.param([AT_0, AT_2], [NOTHING] * 3, 0.3, True, [0, 0], id="no truth means only negatives"),
    ],
)
def test_assignment_by_hand(
    anchors: list[list[float]], truths: list[list[float]], low: float, force: bool, labels: list[int]
) -> None:
    assert assign(boxes(*anchors), boxes(*truths)[None], 0.6, low, force=force).labels.tolist() == [labels]


def test_every_anchor_belongs_to_its_nearest_truth() -> None:
    assigned = assign(boxes(AT_0, AT_30), boxes(AT_30, AT_0)[None], 0.6, 0.3)
    assert assigned.labels.tolist() == [[1, 1]]
    assert assigned.truth.tolist() == [[1, 0]]


def test_spread_out_suppresses_near_boxes_and_always_fills_up() -> None:
    candidates = boxes(AT_0, AT_1, [50, 50, 60, 60])[None]
    assert spread_out(candidates, torch.tensor([[0.9, 0.8, 0.1]]), 3, 0.5).tolist() == [[0, 2, 1]]


def test_class_loss_by_hand() -> None:
    logits, labels = torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)], [5.0, -5.0]]), torch.tensor([1, 0, -1])
    # -log(1/2) and -log(1/4), the third has no weight.
    weights = torch.tensor([1.0, 1.0, 0.0])
    assert class_loss(logits, labels, weights).item() == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert class_loss(logits, labels, torch.zeros(3)).item() == 0.0


def test_box_loss_by_hand() -> None:
    deltas = boxes([0.5, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 1.0], [9.0] * 4)
    goal, weights = torch.zeros(3, 4), torch.tensor([1.0, 1.0, 0.0])
    # Bend 1: 0.5 * 0.25; (2 - 0.5) + (1 - 0.5); mean of two boxes.
    assert box_loss(deltas, goal, weights, 1.0).item() == pytest.approx((0.125 + 2.0) / 2)
    # Bend 1/9: |x| - 1/18 beyond it.
    assert box_loss(deltas, goal, weights, 1 / 9).item() == pytest.approx((0.5 + 3.0 - 3 / 18) / 2)


def test_overlap_loss_by_hand() -> None:
    # IoU 1/3, hull equals union; the second has no weight.
    loss = overlap_loss(boxes(AT_0, AT_0), boxes(AT_5, [0, 0, 1, 1]), torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx(2 / 3)


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


def test_graded_class_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])  # foreground 0.75 and 0.5
    loss = graded_class_loss(logits, torch.tensor([0.5, 1.0]))
    expected = (-0.5 * math.log(0.75) - 0.5 * math.log(0.25) - math.log(0.5)) / 2
    assert loss.item() == pytest.approx(expected)


def test_fine_scores_are_graded_by_the_overlap_of_refined_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes around the truth, moved to the truth by the deltas or left where they are; the last ones are of others."""
    generator = torch.Generator().manual_seed(0)
    picture, two = torch.randint(0, 255, (2, 3, 175, 175), dtype=torch.uint8, generator=generator), torch.arange(2)
    box, nothing = boxes([60, 60, 120, 130], [150, 140, 210, 210]), boxes(*[NOTHING] * 4).expand(2, -1, -1)
    batch = Batch(picture[..., :143, :143], picture, box, box, nothing, torch.zeros(2, 4, dtype=torch.bool), two, two)
    config = ObjectiveConfig(near=6, proposed=0, distractors=0, crossed=1, graded_from=0.2, graded_to=0.9)
    model, seen = SPMTracker(), []
    monkeypatch.setattr(network, "proposal_features", lambda _, __, chosen: seen.append(chosen) or chosen)
    for refined in (False, True):

        def fine(
            _: object, __: object, proposals: Tensor, ___: object, refined: bool = refined
        ) -> tuple[Tensor, Tensor]:
            truth = box[overlap(proposals[:, None], box).argmax(dim=1)]
            deltas = encode(proposals, truth, model.spec.fine_weights)
            return torch.tensor([0.0, 1.0]).expand(len(proposals), 2), deltas if refined else torch.zeros_like(deltas)

        monkeypatch.setattr(network, "fine", fine)
        terms = compute_losses(model, batch, config, torch.Generator().manual_seed(1))
        goals = ((overlap(seen[-1], box[:, None]) - 0.2) / 0.7).clamp(0, 1)[:, :6]
        mean = 6 / 7 if refined else goals.sum().item() / 14  # the seventh box is compared with another template
        expected = math.log(1 + math.e) - mean
        assert terms.fine_class.item() == pytest.approx(expected, abs=1e-2)
        assert 0.1 < goals.min() < 0.8 < goals.max()


def test_pairs_are_two_to_one_to_one() -> None:
    pairs = make_pairs(torch.tensor([0, 0, 1, 1, 2, 2]), torch.arange(6))
    kinds = [("own" if o else "same" if s else "different") for o, s in zip(pairs.own, pairs.same, strict=True)]
    assert (kinds.count("own"), kinds.count("same"), kinds.count("different")) == (6, 3, 3)


def test_generalised_training_takes_every_object_of_the_category() -> None:
    picture = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    box = boxes([100, 100, 150, 150], [90, 90, 160, 160])
    others, same = boxes([10, 10, 60, 60], [200, 200, 240, 240]).expand(2, -1, -1), torch.tensor([[True, False]] * 2)
    batch = Batch(picture, picture, box, box, others, same, torch.zeros(2, dtype=torch.long), torch.arange(2))
    pairs = Pairs(torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([True, False]), torch.tensor([True, True]))
    wide = coarse_truths(batch, pairs, generalised=True).isfinite().all(-1)
    assert wide.tolist() == [[True, True, False], [True, True, False]]
    narrow = coarse_truths(batch, pairs, generalised=False).isfinite().all(-1)
    assert narrow.tolist() == [[True, False, False], [False, False, False]]


def test_jitter_ranges_from_close_to_loose() -> None:
    box = boxes([80, 90, 160, 150])
    overlaps = overlap(jitter(box, 4000, torch.Generator().manual_seed(1)), box[:, None])
    assert 0.3 < (overlaps >= ObjectiveConfig().fine_high).float().mean() < 0.9
    assert overlaps.max() > 0.9
    assert overlaps.min() < 0.3
