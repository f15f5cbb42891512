"""The figures of a validation, from boxes and scores that are known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from spm_export.model.network import SPMTracker
from spm_train import validation
from spm_train.objective.pairs import Batch
from spm_train.validation import Prediction, validate, validate_parts


def test_figures_by_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    picture, one = torch.zeros(1, 3, 175, 175, dtype=torch.uint8), torch.zeros(1, dtype=torch.long)
    truth, half = torch.tensor([[100.0, 100, 140, 140]]), torch.tensor([[100.0, 100, 140, 120]])
    batch = Batch(picture, picture, truth, truth, truth[:, None], one[:, None].bool(), one, one)
    # Coarse score, its box's IoU, fine score, its box's IoU: a straight line of the last two, but for the last rows.
    proposed = [[0.9, 0.8, 0.9, 0.9], [0.4, 0.0, 0.1, 0.1], [0.6, 0.05, 0.8, 0.0], [0.7, 0.0, 0.2, 0.0]]
    scores, labels = torch.tensor([[0.9, 0.4, 0.6]]), torch.tensor([[True, True, False]])
    rows = torch.tensor([proposed])
    prediction = Prediction(half, truth, torch.ones(1), scores, labels, rows)
    monkeypatch.setattr(validation, "predict", lambda *_: prediction)
    with torch.autocast("cpu", torch.bfloat16):
        found = validate(SPMTracker(), [batch, batch], torch.device("cpu"), tmp_path / "boxes.png")
    assert found.top_overlap == pytest.approx(0.5)
    assert found.fine_overlap == found.score == pytest.approx(1.0)
    assert found.fine_auc == pytest.approx(0.5), "one of two pairs is in order"
    assert found.fine_correlation == pytest.approx(0.32 / (0.5 * 0.57) ** 0.5)
    assert found.wrong_passed == pytest.approx(0.5), "of two wrong ones that the coarse stage is sure of"
    assert (found.wrong, found.samples) == (4, 2), "two in each sample"
    assert (tmp_path / "boxes.png").is_file()
    monkeypatch.setattr(validation, "predict", lambda *_: prediction._replace(proposed=rows[:, :2]))
    assert validate(SPMTracker(), [batch], torch.device("cpu"), tmp_path / "boxes.png").wrong_passed is None


def test_parts_are_those_of_their_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, rows = torch.tensor([[0.0, 0, 40, 40]]).repeat(3, 1), torch.zeros(3, 2, 4)
    seen = torch.tensor([[0.0, 0, 40, 40], [0, 0, 40, 20], [0, 0, 40, 10]])
    rows[1] = torch.tensor([[0.9, 0.0, 0.8, 0.0], [0.9, 0.0, 0.1, 0.2]])
    scores, labels = torch.tensor([[0.9, 0.1]]).repeat(3, 1), torch.tensor([[True, False]]).repeat(3, 1)
    prediction = Prediction(seen, seen, torch.ones(3), scores, labels, rows)
    monkeypatch.setattr(validation, "predict", lambda *_: prediction)
    crops, numbers = torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.tensor([7, 2, 7])
    batch = Batch(crops, crops, boxes, boxes, boxes[:, None], numbers[:, None].bool(), numbers, numbers)
    whole, parts = validate_parts(SPMTracker(), [batch], torch.device("cpu"), {2: "clip", 7: "stills"}.__getitem__)
    assert whole.fine_overlap == pytest.approx((1 + 0.5 + 0.25) / 3)
    assert {name: (part.samples, part.wrong, part.wrong_passed) for name, part in parts.items()} == {
        "clip": (1, 2, 0.5),
        "stills": (2, 0, None),
    }
    assert parts["stills"].fine_overlap == pytest.approx(0.625)
