"""The figures of a validation, from boxes and scores that are known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from spm_export.model.network import SPMTracker
from spm_train import validation
from spm_train.objective.pairs import Batch
from spm_train.validation import Prediction, validate


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
    found = validate(SPMTracker(), [batch, batch], torch.device("cpu"), tmp_path / "boxes.png")
    assert found.top_overlap == pytest.approx(0.5)
    assert found.fine_overlap == found.score == pytest.approx(1.0)
    assert found.fine_auc == pytest.approx(0.5), "one of two pairs is in order"
    assert found.fine_correlation == pytest.approx(0.32 / (0.5 * 0.57) ** 0.5)
    assert found.wrong_passed == pytest.approx(0.5), "of two wrong ones that the coarse stage is sure of"
    assert (tmp_path / "boxes.png").is_file()
    monkeypatch.setattr(validation, "predict", lambda *_: prediction._replace(proposed=rows[:, :2]))
    assert validate(SPMTracker(), [batch], torch.device("cpu"), tmp_path / "boxes.png").wrong_passed is None
