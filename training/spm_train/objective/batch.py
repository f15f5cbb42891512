"""From a batch of samples to the four losses: pairs, assignment, proposals, and what each stage is asked."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from spm_export.model.network import SPMTracker, decode, flatten_deltas, foreground_score

from . import network
from .boxes import assign, encode, overlap, spread_out
from .losses import COARSE_BEND, FINE_BEND, LossConfig, box_loss, class_loss, overlap_loss, pick_anchors


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """What counts as what, and how many boxes the fine stage is shown.

    Attributes:
        generalised: every object of the template's category is a positive of the coarse stage; off: only the target.
        near: fine boxes per pair jittered around the target.
        proposed: fine boxes per pair from the coarse stage.
        distractors: fine boxes per pair on other objects, or on what the coarse stage takes for the target.
        crossed: fine boxes per pair of two different objects.
    """

    generalised: bool = True
    anchor_high: float = 0.6
    anchor_low: float = 0.3
    fine_high: float = 0.5
    near: int = 8
    proposed: int = 6
    distractors: int = 2
    crossed: int = 4
    momentum: float = 0.01
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)


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


class Terms(NamedTuple):
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
    """share of fine boxes judged rightly, not a loss"""


def losses(model: SPMTracker, batch: Batch, config: ObjectiveConfig, generator: torch.Generator) -> Terms:
    """The loss of one batch. All chance comes from ``generator``, which is of the model's device."""
    side = batch.search.shape[-1]
    spec = model.spec
    z = network.features(model, batch.template, spec.template_cells)
    x = network.features(model, batch.search, network.cells_of(side) - 10)
    network.update_statistics(model, x, config.momentum)
    pairs = make_pairs(batch.category, batch.instance)
    out = network.coarse(model, model.coarse.kernels(z.embedding), x.embedding, pairs.template, pairs.search)
    anchors = network.search_anchors(model, side)

    # Coarse stage.
    truths = _coarse_truths(batch, pairs, config.generalised)
    assigned = assign(anchors, truths, config.anchor_high, config.anchor_low)
    deltas = flatten_deltas(out.deltas)
    scores = foreground_score(out.logits).detach()
    boxes = decode(anchors, deltas)
    picked = pick_anchors(assigned.labels, scores, config.loss, generator)
    background, foreground = out.logits.chunk(2, dim=1)
    logits = torch.stack([background, foreground], dim=-1).permute(0, 2, 3, 1, 4).reshape(-1, 2)
    coarse_class = class_loss(logits, assigned.labels.flatten(), picked.flatten())
    is_positive = (assigned.labels == 1).float()
    # Every pair with positives counts alike, however many anchors its target has.
    weight = (is_positive / is_positive.sum(dim=1, keepdim=True).clamp(min=1)).flatten()
    own_truth = torch.gather(truths, 1, assigned.truth[..., None].expand(-1, -1, 4))
    own_truth = torch.where(is_positive[..., None] > 0, own_truth, anchors).reshape(-1, 4)
    goal = encode(anchors.expand(len(truths), -1, -1).reshape(-1, 4), own_truth)
    coarse_box = box_loss(deltas.reshape(-1, 4), goal, weight, COARSE_BEND)

    # Fine stage.
    with torch.no_grad():
        shown, target_of, search_of = _fine_boxes(batch, pairs, boxes.detach(), scores, config, generator)
        truth = batch.box[search_of]
        iou = overlap(shown, truth)
        own = pairs.own[target_of]  # pair numbers
        label = ((iou >= config.fine_high) & own).long()
    values_x, values_z = network.normalized(model, x), network.normalized(model, z)
    targets = network.roi_features(model, values_z, batch.template_box[:, None], z.offset)[:, 0]
    order, back = _group_by_search(search_of, len(batch.box))
    proposals = network.roi_features(model, values_x, shown[order], x.offset).flatten(0, 1)
    proposals = proposals.index_select(0, back)
    fine_logits, fine_deltas = network.fine(model, targets, proposals, pairs.template[target_of])
    fine_class = class_loss(fine_logits, label, torch.ones_like(iou))
    is_match = label.float()
    fine_box = box_loss(fine_deltas, encode(shown, truth, spec.fine_weights), is_match, FINE_BEND)

    overlaps = coarse_box.new_zeros(())
    if config.loss.overlap > 0:
        fine_out = decode(shown, fine_deltas, spec.fine_weights)
        overlaps = overlap_loss(boxes.reshape(-1, 4), own_truth, weight) + overlap_loss(fine_out, truth, is_match)
    w = config.loss
    total = (
        w.coarse_class * coarse_class
        + w.coarse_box * coarse_box
        + w.fine_class * fine_class
        + w.fine_box * fine_box
        + w.overlap * overlaps
    )
    with torch.no_grad():
        first = scores[: len(batch.box)].argmax(dim=1)
        top = overlap(boxes[torch.arange(len(batch.box), device=first.device), first], batch.box).mean()
        right = (fine_logits.argmax(dim=1) == label).float().mean()
    return Terms(total, coarse_class, coarse_box, fine_class, fine_box, overlaps, top, right)


def _coarse_truths(batch: Batch, pairs: Pairs, generalised: bool) -> Tensor:
    """What the coarse stage should find for each pair: ``[P, 1 + O, 4]``, NaN where there is nothing."""
    target = batch.box[pairs.search][:, None]
    others = batch.others[pairs.search]
    nothing = torch.full_like(target, torch.nan)
    if not generalised:
        return torch.cat([torch.where(pairs.own[:, None, None], target, nothing), nothing.expand_as(others)], dim=1)
    target = torch.where((pairs.own | pairs.same)[:, None, None], target, nothing)
    # "same" is said of the search crop's own target; for a template of another category nothing is known.
    use = batch.same[pairs.search] & pairs.same[:, None]
    return torch.cat([target, torch.where(use[..., None], others, nothing.expand_as(others))], dim=1)


def _fine_boxes(
    batch: Batch, pairs: Pairs, boxes: Tensor, scores: Tensor, config: ObjectiveConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes ``[M, 4]`` for the fine stage, and for each the number of its pair and of its search crop ``[M]``."""
    count = len(batch.box)
    device = boxes.device
    proposed = spread_out(boxes, scores, max(config.proposed, config.crossed - 1, 1), 0.7)
    proposed_boxes = torch.gather(boxes, 1, proposed[..., None].expand(-1, -1, 4))
    near = jitter(batch.box, config.near, generator)
    parts = [near, proposed_boxes[:count, : config.proposed]]
    if config.distractors:
        # Wrong boxes that score best, and first of all other objects where there are any.
        wrong = torch.where(overlap(boxes[:count], batch.box[:, None]) < 0.4, scores[:count], scores[:count] - 2)
        index = spread_out(boxes[:count], wrong, config.distractors, 0.5)
        wrong_boxes = torch.gather(boxes[:count], 1, index[..., None].expand(-1, -1, 4))
        others = batch.others[:, : config.distractors]
        known = others.isfinite().all(dim=-1, keepdim=True)
        parts.append(torch.where(known, others, wrong_boxes))
    own = torch.cat(parts, dim=1)
    pair = torch.arange(count, device=device)[:, None].expand(-1, own.shape[1])
    all_boxes, all_pairs = [own.reshape(-1, 4)], [pair.reshape(-1)]
    if config.crossed:
        at_target = jitter(batch.box, 1, generator, tight=True)[pairs.search[count:]]
        crossed = torch.cat([at_target, proposed_boxes[count:, : config.crossed - 1]], dim=1)
        pair = torch.arange(count, 2 * count, device=device)[:, None].expand(-1, crossed.shape[1])
        all_boxes.append(crossed.reshape(-1, 4))
        all_pairs.append(pair.reshape(-1))
    shown, number = torch.cat(all_boxes), torch.cat(all_pairs)
    # Boxes that are next to nothing, or far outside, are no proposals in tracking either.
    size = (shown[:, 2:] - shown[:, :2]).clamp(6, 400)
    center = ((shown[:, :2] + shown[:, 2:]) / 2).clamp(0, 271)
    shown = torch.cat([center - size / 2, center + size / 2], dim=1)
    return shown, number, pairs.search[number]


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


def _group_by_search(search_of: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Index ``[B, K]`` that lists each search crop's boxes, and the way back ``[M]``; every crop has equally many."""
    order = search_of.argsort(stable=True)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return order.reshape(count, -1), back
