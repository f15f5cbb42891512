"""Accuracy of the network on held-out samples, in numbers and as a picture of its boxes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from spm_export.model.network import SPMTracker, decode

from .objective import network
from .objective.boxes import jitter, overlap, spread_out, take
from .objective.pairs import Batch, make_pairs

DRAWN = 8
"""Samples in a picture."""


class Validation(NamedTuple):
    """Means over the held-out samples."""

    top_overlap: float
    """IoU of the coarse stage's best-scored box with the truth"""
    fine_overlap: float
    """IoU of the box after both stages, fused as in tracking, without window and smoothing"""
    fine_auc: float
    """area under the ROC curve of the fine stage's score: boxes on the target (IoU >= 0.5) against all others"""
    fine_correlation: float
    """of the fine stage's score and the IoU of its box with the truth, over the proposals"""
    wrong_passed: float | None
    """of the wrong proposals, the share with a fine score over 0.5; None where there are none"""
    wrong: int
    """proposals with a coarse score over 0.5 whose box has an IoU under 0.1 with the truth"""
    score: float
    """what ``best.safetensors`` is chosen by: fine_overlap"""
    samples: int


def validate(model: SPMTracker, held_out: Sequence[Batch], device: torch.device, picture: Path) -> Validation:
    """Run ``model`` on held-out batches; the first one is drawn as ``picture``."""
    compared = _compare(model, held_out, device)
    first = next(compared)
    draw(*first, picture, model.spec.crop_size)
    truth, _, seen = _collect(itertools.chain([first], compared))
    return _summary(truth, seen)


def validate_parts(
    model: SPMTracker, held_out: Iterable[Batch], device: torch.device, part: Callable[[int], str]
) -> tuple[Validation, dict[str, Validation]]:
    """Run ``model`` on held-out batches; figures of all samples, and of each part of them.

    Args:
        model: whose weights are asked.
        held_out: batches; each may be made when it is asked for.
        device: of the model.
        part: gives the name of the part that samples of an instance belong to.
    """
    truth, instances, seen = _collect(_compare(model, held_out, device))
    names = np.array([part(instance) for instance in instances.tolist()])
    parts = {}
    for name in np.unique(names).tolist():
        chosen = torch.from_numpy(np.flatnonzero(names == name)).to(truth.device)
        parts[name] = _summary(truth[chosen], Prediction(*(value[chosen] for value in seen)))
    return _summary(truth, seen), parts


@torch.no_grad()
def _compare(model: SPMTracker, held_out: Iterable[Batch], device: torch.device) -> Iterator[tuple[Batch, Prediction]]:
    """Batches on the device, and what the model says of them."""
    for number, cpu_batch in enumerate(held_out):
        batch = Batch(*(value.to(device) for value in cpu_batch))
        yield batch, predict(model, batch, torch.Generator(device).manual_seed(number))


def _collect(compared: Iterable[tuple[Batch, Prediction]]) -> tuple[Tensor, Tensor, Prediction]:
    """Boxes ``[N, 4]``, instances ``[N]`` and predictions of all samples."""
    rows = [(batch.box, batch.instance, *prediction) for batch, prediction in compared]
    truth, instances, *seen = map(torch.cat, zip(*rows, strict=True))
    return truth, instances, Prediction(*seen)


def _summary(truth: Tensor, seen: Prediction) -> Validation:
    """Means over samples: their boxes ``[N, 4]``, and what was predicted."""
    fine = float(overlap(seen.box, truth).mean())
    coarse_scores, coarse_overlaps, fine_scores, fine_overlaps = seen.proposed.flatten(0, 1).unbind(-1)
    wrong = fine_scores[(coarse_scores > 0.5) & (coarse_overlaps < 0.1)]
    return Validation(
        float(overlap(seen.coarse_box, truth).mean()),
        fine,
        roc_area(seen.fine_scores.flatten(), seen.fine_labels.flatten()),
        # Not in bfloat16, to which autocast would round its products: three digits.
        float(torch.corrcoef(torch.stack([fine_scores, fine_overlaps]).double())[0, 1]),
        float((wrong > 0.5).float().mean()) if len(wrong) else None,
        len(wrong),
        fine,
        len(truth),
    )


class Prediction(NamedTuple):
    """Boxes and scores of a batch of samples."""

    coarse_box: Tensor
    """[B, 4] the coarse stage's best"""
    box: Tensor
    """[B, 4] after both stages"""
    score: Tensor
    """[B] fused"""
    fine_scores: Tensor
    """[B, K] of proposals, boxes around the truth, and the same under another template"""
    fine_labels: Tensor
    """[B, K] bool"""
    proposed: Tensor
    """[B, 8, 4] of the proposals: coarse score, IoU of the coarse box, fine score, IoU of the fine box"""


def predict(model: SPMTracker, batch: Batch, generator: torch.Generator) -> Prediction:
    """Both stages on each sample's own pair, and the fine stage under a wrong template as well."""
    count = len(batch.box)
    index = torch.arange(count, device=batch.box.device)
    result = network.match(model, batch.template, batch.search, index)
    boxes, scores = result.boxes, result.scores
    best = spread_out(boxes, scores, 8, 0.5)
    proposals, proposal_scores = take(boxes, best), torch.gather(scores, 1, best)
    compared = torch.cat([proposals, jitter(batch.box, 4, generator)], dim=1)
    targets = network.proposal_features(model, result.template, batch.template_box[:, None])[:, 0]
    values = network.proposal_features(model, result.search, compared).flatten(0, 1)
    fine: list[Tensor] = []
    other: list[Tensor] = []
    partner = make_pairs(batch.category, batch.instance).template[count:]
    for templates, results in ((index, fine), (partner, other)):
        logits, deltas = network.fine(model, targets, values, templates.repeat_interleave(compared.shape[1]))
        results += [logits.softmax(-1)[:, 1].reshape(count, -1), deltas.reshape(count, -1, 4)]
    fine_scores, deltas = fine[0][:, :8], fine[1][:, :8]
    fine_boxes = decode(proposals, deltas, model.spec.fine_weights)
    share = (proposal_scores / (proposal_scores + 3 * fine_scores).clamp(min=1e-5))[..., None]
    fused = share * proposals + (1 - share) * fine_boxes
    fused_scores = 0.5 * proposal_scores + 0.5 * fine_scores
    chosen = fused_scores.argmax(dim=1)
    truth = batch.box[:, None]
    label = overlap(compared, truth) >= 0.5
    differs = (batch.instance[partner] != batch.instance)[:, None].expand_as(label)
    return Prediction(
        boxes[index, scores.argmax(dim=1)],
        fused[index, chosen],
        fused_scores[index, chosen],
        torch.cat([fine[0], other[0]], dim=1),
        torch.cat([label, label & ~differs], dim=1),
        torch.stack([proposal_scores, overlap(proposals, truth), fine_scores, overlap(fine_boxes, truth)], dim=-1),
    )


def roc_area(scores: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve; ties count half; 0.5 where only one kind is there."""
    values, wanted = scores.double().cpu().numpy(), labels.cpu().numpy().astype(bool)
    positives, negatives = int(wanted.sum()), int((~wanted).sum())
    if positives == 0 or negatives == 0:
        return 0.5
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse]
    return float((ranks[wanted].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def draw(batch: Batch, result: Prediction, path: Path, full: int) -> None:
    """Templates above their search crops: truth green, coarse stage blue, both stages red."""
    side = batch.search.shape[-1]
    origin = (full - side) / 2
    columns = []
    for i in range(min(DRAWN, len(batch.box))):
        template = np.ascontiguousarray(batch.template[i].permute(1, 2, 0).cpu().numpy())
        search = np.ascontiguousarray(batch.search[i].permute(1, 2, 0).cpu().numpy())
        boxes = (batch.box[i], (0, 200, 0)), (result.coarse_box[i], (255, 80, 0)), (result.box[i], (0, 0, 255))
        for box, color in boxes:
            x1, y1, x2, y2 = np.round(box.cpu().numpy() - origin).astype(int).tolist()
            cv2.rectangle(search, (x1, y1), (x2, y2), color, 1)
        text = f"{float(result.score[i]):.2f}"
        cv2.putText(search, text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1)
        pad = np.full((template.shape[0], side, 3), 255, np.uint8)
        offset = max(0, (side - template.shape[1]) // 2)
        pad[:, offset : offset + template.shape[1]] = template[:, :side]
        columns.append(np.concatenate([pad, search]))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(columns, axis=1))
