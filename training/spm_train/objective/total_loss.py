"""The loss of a batch: both stages run on its pairs, the boxes that the fine stage compares, and the weighted sum."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from spm_export.model.network import SPMTracker, decode

from ..config import ObjectiveConfig
from . import network
from .boxes import encode, jitter, overlap, spread_out, take
from .losses import COARSE_BEND, FINE_BEND, box_loss, class_loss, graded_class_loss, overlap_loss
from .pairs import Batch, Pairs, assign, coarse_truths, make_pairs, pick_anchors


class LossTerms(NamedTuple):
    """The loss and what it is made of; scalars."""

    total: Tensor
    coarse_class: Tensor
    coarse_box: Tensor
    fine_class: Tensor
    fine_box: Tensor
    overlap: Tensor
    top_overlap: Tensor
    """mean IoU of the best-scored coarse box, not a loss"""
    fine_accuracy: Tensor
    """share of fine boxes with the right class, not a loss"""


def compute_losses(model: SPMTracker, batch: Batch, config: ObjectiveConfig, generator: torch.Generator) -> LossTerms:
    """The loss of one batch. All randomness comes from ``generator``, which is of the model's device."""
    pairs = make_pairs(batch.category, batch.instance)
    result = network.match(model, batch.template, batch.search, pairs.template, config.momentum)
    network.update_statistics(model, result.search, config.momentum)
    coarse_class, coarse_box, coarse_overlap = _coarse_losses(result, batch, pairs, config, generator)
    fine_class, fine_box, fine_overlap, fine_accuracy = _fine_losses(model, result, batch, pairs, config, generator)
    overlaps, weights = coarse_overlap + fine_overlap, config.loss
    total = (
        weights.coarse_class * coarse_class
        + weights.coarse_box * coarse_box
        + weights.fine_class * fine_class
        + weights.fine_box * fine_box
        + weights.overlap * overlaps
    )
    count = len(batch.box)
    top = take(result.boxes[:count].detach(), result.scores[:count].argmax(dim=1, keepdim=True))[:, 0]
    top_overlap = overlap(top, batch.box).mean()
    return LossTerms(total, coarse_class, coarse_box, fine_class, fine_box, overlaps, top_overlap, fine_accuracy)


def _coarse_losses(
    result: network.Match, batch: Batch, pairs: Pairs, config: ObjectiveConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The class, box and overlap losses."""
    anchors = result.anchors
    truths = coarse_truths(batch, pairs, config.generalised)
    assigned = assign(anchors, truths, config.anchor_high, config.anchor_low)
    picked = pick_anchors(assigned.labels, result.scores, config.loss, generator)
    background, foreground = result.logits.chunk(2, dim=1)
    logits = torch.stack([background, foreground], dim=-1).permute(0, 2, 3, 1, 4).reshape(-1, 2)
    is_positive = (assigned.labels == 1).float()
    # Every pair with positives counts alike, however many anchors its target has.
    weight = (is_positive / is_positive.sum(dim=1, keepdim=True).clamp(min=1)).flatten()
    truth = torch.where(is_positive[..., None] > 0, take(truths, assigned.truth), anchors).reshape(-1, 4)
    goal = encode(anchors.expand(len(truths), -1, -1).reshape(-1, 4), truth)
    return (
        class_loss(logits, assigned.labels.flatten(), picked.flatten()),
        box_loss(result.deltas.reshape(-1, 4), goal, weight, COARSE_BEND),
        overlap_loss(result.boxes.reshape(-1, 4), truth, weight) if config.loss.overlap > 0 else weight.new_zeros(()),
    )


def _fine_losses(
    model: SPMTracker,
    result: network.Match,
    batch: Batch,
    pairs: Pairs,
    config: ObjectiveConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The class, box and overlap losses, and the share of right classes."""
    chosen, own = _fine_boxes(batch, result.boxes.detach(), result.scores, model.spec.crop_size, config, generator)
    boxes = chosen.flatten(0, 1)
    index, column = (torch.arange(size, device=boxes.device) for size in chosen.shape[:2])
    pair_of = (index[:, None] + len(index) * (column >= own)).flatten()
    search_of = pairs.search[pair_of]
    truth, weights = batch.box[search_of], model.spec.fine_weights
    label = ((overlap(boxes, truth) >= config.fine_high) & pairs.own[pair_of]).long()
    targets = network.proposal_features(model, result.template, batch.template_box[:, None])[:, 0]
    proposals = network.proposal_features(model, result.search, chosen).flatten(0, 1)
    logits, deltas = network.fine(model, targets, proposals, pairs.template[pair_of])
    match, decoded = label.float(), decode(boxes, deltas, weights)
    goals = match
    if config.graded_to > 0:
        # The box that the score is about is the refined one: a poor proposal that becomes a good box is a good one.
        rise = (overlap(decoded.detach(), truth) - config.graded_from) / (config.graded_to - config.graded_from)
        goals = rise.clamp(0, 1) * pairs.own[pair_of]
    return (
        graded_class_loss(logits, goals),
        box_loss(deltas, encode(boxes, truth, weights), match, FINE_BEND),
        overlap_loss(decoded, truth, match) if config.loss.overlap > 0 else match.new_zeros(()),
        (logits.argmax(dim=1) == (goals >= 0.5)).float().mean(),
    )


def _fine_boxes(
    batch: Batch, boxes: Tensor, scores: Tensor, side: int, config: ObjectiveConfig, generator: torch.Generator
) -> tuple[Tensor, int]:
    """Boxes ``[B, K, 4]`` for the fine stage in each search crop, and how many of the K are of its own pair.

    ``side`` is that of a full crop.
    """
    count = len(batch.box)
    proposed = take(boxes, spread_out(boxes, scores, max(config.proposed, config.crossed - 1, 1), 0.7))
    parts = [jitter(batch.box, config.near, generator), proposed[:count, : config.proposed]]
    if config.distractors:
        # Wrong boxes that score best, and first of all other objects where there are any.
        wrong = torch.where(overlap(boxes[:count], batch.box[:, None]) < 0.4, scores[:count], scores[:count] - 2)
        wrong_boxes = take(boxes[:count], spread_out(boxes[:count], wrong, config.distractors, 0.5))
        others = batch.others[:, : config.distractors]
        known = others.isfinite().all(dim=-1, keepdim=True)
        parts.append(torch.where(known, others, wrong_boxes))
    own = sum(part.shape[1] for part in parts)
    if config.crossed:
        parts.append(jitter(batch.box, 1, generator, tight=True))
        parts.append(proposed[count:, : config.crossed - 1])
    chosen = torch.cat(parts, dim=1)
    # Boxes that are next to nothing, or far outside, are no proposals in tracking either.
    size = (chosen[..., 2:] - chosen[..., :2]).clamp(6, 400)
    center = ((chosen[..., :2] + chosen[..., 2:]) / 2).clamp(0, side)
    return torch.cat([center - size / 2, center + size / 2], dim=-1), own
