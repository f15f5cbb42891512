"""The reference network, run the way training needs it: the same modules, less work.

What is saved, each exact up to rounding: layers without gradient keep nothing for a backward pass; crops may be
smaller than 271 (the central part of the same grid of cells); conv5 is computed only where it is read; correlation
kernels are one matrix product; the target's half of the relation convolution is computed once per target; boxes are
sampled by two small matrix products. Everything large lies in memory with its channels last.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_export.model import network as reference
from spm_export.model.backbones import Lite0
from spm_export.model.coarse import CoarseKernels, CoarseOutput, CoarseStage, PixelStage, correlate
from spm_export.model.network import SPMTracker, center_crop
from spm_rt.settings import ModelSpec

from . import light
from .convolution import small_convolution
from .light import Norms
from .lrn import local_response_norm


class Maps(NamedTuple):
    """What both stages read of a crop. ``offset`` is the first cell's index in the 34 x 34 maps of a full crop."""

    shallow: Tensor
    """[B, 256, n, n], conv2"""
    deep: Tensor
    """[B, 384, n, n], conv4"""
    embedding: Tensor
    """[B, 256, m, m], the central cells of conv5"""
    offset: int


def cells_of(side: int, spec: ModelSpec) -> int:
    """Cells of a crop of ``side`` pixels: 34 of 271, 26 of 207, 18 of 143."""
    return side // spec.stride + 1


def offset_of(side: int, spec: ModelSpec) -> int:
    """Index of a smaller crop's first cell in the full crop's maps: of 271 pixels, 4 for 207, 8 for 143."""
    return (spec.cells - cells_of(side, spec)) // 2


def search_anchors(model: SPMTracker, side: int) -> Tensor:
    """Anchors ``[N, 4]`` of a search crop of ``side`` pixels: the central ones of the full crop, 11 x 11 for 207."""
    cells, offset = model.spec.response_cells, offset_of(side, model.spec)
    inner = slice(offset, cells - offset)
    return model.anchors.reshape(cells, cells, -1, 4)[inner, inner].reshape(-1, 4)


def features(model: SPMTracker, crops: Tensor, embedding_cells: int, norms: Norms | None = None) -> Maps:
    """Features of raw crops ``[B, 3, s, s]`` (BGR, 0..255, any type); ``norms`` are how the light model normalises."""
    net, offset = model.backbone, offset_of(crops.shape[-1], model.spec)
    if isinstance(net, Lite0):
        return Maps(*light.maps(net, crops.float() - model.mean, embedding_cells, norms or Norms()), offset)
    x = pool_and_normalize(F.relu(net.conv1(crops.float() - model.mean)))
    shallow = pool_and_normalize(F.relu(net.conv2(x)))
    deep = F.relu(net.conv4(F.relu(net.conv3(shallow))))
    around = center_crop(deep, embedding_cells + 2)
    top = F.relu(F.conv2d(around, net.conv5.weight, net.conv5.bias, groups=net.conv5.groups))
    return Maps(shallow, deep, top, offset)


def pool_and_normalize(x: Tensor) -> Tensor:
    """As the backbone's."""
    return local_response_norm(F.max_pool2d(x, 3, stride=2, padding=1))


class Match(NamedTuple):
    """Features of templates and search crops, and the coarse stage's output for P pairs of them.

    Shapes: anchors ``[N, 4]``, logits ``[P, 10, n, n]``, deltas and boxes ``[P, N, 4]``, scores ``[P, N]`` (without
    gradient).
    """

    template: Maps
    search: Maps
    anchors: Tensor
    logits: Tensor
    deltas: Tensor
    scores: Tensor
    boxes: Tensor


def match(model: SPMTracker, templates: Tensor, searches: Tensor, template_of: Tensor, momentum: float = 0.0) -> Match:
    """Features of both kinds of crops ``[B, 3, s, s]``, and the coarse stage on P pairs of them.

    Args:
        momentum: of the light model's running values, towards those of the search crops, which normalise then; 0: the
            running values normalise, as in tracking.
        template_of: ``[P]``, the template of each pair; its search crop is number ``pair % B``.
    """
    side, spec, stage = searches.shape[-1], model.spec, model.coarse
    norms = Norms(momentum)
    x = features(model, searches, cells_of(side, spec) - (spec.cells - spec.search_cells), norms)
    z = features(model, templates, spec.template_cells, norms)
    if isinstance(stage, PixelStage):
        out = light.compare(stage, z.embedding, x.embedding, template_of, norms)
    else:
        out = coarse(stage, coarse_kernels(stage, z.embedding), x.embedding, template_of)
    anchors, deltas = search_anchors(model, side), reference.flatten_deltas(out.deltas)
    scores = reference.foreground_score(out.logits).detach()
    return Match(z, x, anchors, out.logits, deltas, scores, reference.decode(anchors, deltas))


def coarse_kernels(stage: CoarseStage, embedding: Tensor) -> CoarseKernels:
    """The coarse stage's kernels of template embeddings ``[B, 256, 6, 6]``, of each convolution one matrix product.

    There are 16 places and thousands of channels: the gradient of such a convolution is slow.
    """
    count = len(embedding)
    windows = embedding.unfold(2, 3, 1).unfold(3, 3, 1).permute(0, 2, 3, 4, 5, 1)  # [B, 4, 4, 3, 3, 256]
    windows = windows.reshape(count * stage.cells**2, -1)

    def product(layer: nn.Conv2d, scale: float) -> Tensor:
        out = F.linear(windows, layer.weight.permute(0, 2, 3, 1).flatten(1), layer.bias) * scale
        return out.reshape(count, stage.cells, stage.cells, -1, stage.width).permute(0, 3, 4, 1, 2)

    return CoarseKernels(
        product(stage.template_classify, stage.scale[0]), product(stage.template_regress, stage.scale[1])
    )


def coarse(stage: CoarseStage, kernels: CoarseKernels, embedding: Tensor, template_of: Tensor) -> CoarseOutput:
    """The coarse stage for P pairs: search embedding ``pair % B`` with the template ``template_of[pair]``.

    A search embedding is convolved once, and compared with all its templates at once.
    """
    count = len(embedding)
    order = template_of.reshape(-1, count).t().flatten()  # all templates of a search embedding beside each other
    compare = correlate if embedding.device.type == "cpu" else correlate_by_product

    def compared(search: Tensor, kernel: Tensor) -> Tensor:
        outputs = kernel.shape[1]
        # index_select, not indexing, of which several threads sum the gradient in no fixed order; of long rows: fast.
        flat = kernel.permute(0, 1, 3, 4, 2).flatten(1)
        chosen = flat.index_select(0, order).reshape(count, -1, *kernel.shape[3:], kernel.shape[2])
        response = compare(search, chosen.permute(0, 1, 4, 2, 3).to(search.dtype))
        by_template = response.reshape(count, -1, outputs, *response.shape[2:]).transpose(0, 1)
        return by_template.reshape(-1, outputs, *response.shape[2:])

    logits = compared(stage.search_classify(embedding), kernels.classify)
    deltas = compared(stage.search_regress(embedding), kernels.regress)
    return CoarseOutput((logits + stage.classify_bias[:, None, None]).float(), stage.refine(deltas).float())


def correlate_by_product(search: Tensor, kernels: Tensor) -> Tensor:
    """:func:`spm_export.model.coarse.correlate` as one batched product of unfolded windows: hundreds of groups, as
    there are in training, are slow as a grouped convolution on a GPU.
    """
    side = search.shape[-1] - kernels.shape[-1] + 1
    windows = F.unfold(search, kernels.shape[-1])  # [B, C * k * k, side * side]
    return torch.bmm(kernels.flatten(2), windows).reshape(len(kernels), kernels.shape[1], side, side)


def update_statistics(model: SPMTracker, maps: Maps, momentum: float) -> None:
    """Move the fine stage's running mean and variance towards these maps'.

    The normalisation itself always uses the running values, in training as in tracking: then a crop's features do not
    depend on its batch, and templates and searches are normalised alike.
    """
    for norm, value in ((model.fine.norm_deep, maps.deep), (model.fine.norm_shallow, maps.shallow)):
        move_statistics(norm, value, momentum)


@torch.no_grad()
def move_statistics(norm: nn.BatchNorm2d, x: Tensor, momentum: float) -> None:
    """Move a norm's running mean and variance towards those of ``x``."""
    variance, mean = torch.var_mean(x.float(), dim=(0, 2, 3))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance, momentum)


def normalized(model: SPMTracker, maps: Maps) -> Tensor:
    """Both maps as the fine stage samples them: conv4 then conv2, ``[B, 640, n, n]``."""
    parts = []
    for norm, value in ((model.fine.norm_deep, maps.deep), (model.fine.norm_shallow, maps.shallow)):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        parts.append(value * scale[:, None, None].to(value.dtype) + shift[:, None, None].to(value.dtype))
    return torch.cat(parts, dim=1)


def roi_features(model: SPMTracker, values: Tensor, boxes: Tensor, offset: int) -> Tensor:
    """Features ``[B, K, 640, 6, 6]`` inside boxes ``[B, K, 4]``, sampled as the model's ``crop_and_resize`` does.

    Bilinear sampling on a grid is separable: rows = A_y M, then (A_y M) A_x^T, with two non-zero entries per row of A.
    Unlike gathering, its gradient is a matrix product too: fast, and the same in every run.
    """
    batch, channels, height, width = values.shape
    cells, count = model.fine.cells, boxes.shape[1]
    cell = (boxes - model.fine.first_cell) / model.fine.stride - offset
    a_y = _sampling_matrix(cell[..., 1], cell[..., 3], height, cells).to(values.dtype)  # [B, K, 6, H]
    a_x = _sampling_matrix(cell[..., 0], cell[..., 2], width, cells).to(values.dtype)
    by_row = values.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
    rows = torch.bmm(a_y.reshape(batch, count * cells, height), by_row)  # [B, K * 6 (y), W * C]
    # The small matrix is repeated for each of the six rows: the large one would have to be transposed otherwise.
    a_x = a_x[:, :, None].expand(-1, -1, cells, -1, -1).reshape(-1, cells, width)
    out = torch.bmm(a_x, rows.reshape(-1, width, channels))  # [B * K * 6 (y), 6 (x), C]
    return out.reshape(batch, count, cells, cells, channels).permute(0, 1, 4, 2, 3)


def proposal_features(model: SPMTracker, maps: Maps, boxes: Tensor) -> Tensor:
    """Features ``[B, K, 640, 6, 6]`` inside ``boxes`` ``[B, K, 4]`` of search crops, or of template crops."""
    return roi_features(model, normalized(model, maps), boxes, maps.offset)


def fine(model: SPMTracker, targets: Tensor, proposals: Tensor, target_of: Tensor) -> tuple[Tensor, Tensor]:
    """Logits ``[M, 2]`` and deltas ``[M, 4]`` of M proposals ``[M, 640, 6, 6]``.

    Args:
        targets: ``[B, 640, 6, 6]``.
        target_of: ``[M]``, the target each proposal is compared with.
    """
    stage = model.fine
    half = targets.shape[1]
    weight = stage.relate.weight
    known = F.conv2d(targets, weight[:, :half], stage.relate.bias, padding=1)
    x = small_convolution(proposals, weight[:, half:])
    x = F.relu(x + known.index_select(0, target_of)).reshape(len(proposals), -1)
    x = F.relu(stage.linear2(F.relu(stage.linear1(x))))
    return stage.classify(x).float(), stage.regress(x).float()


def _sampling_matrix(low: Tensor, high: Tensor, size: int, cells: int) -> Tensor:
    """Weights ``[..., cells, size]`` of a map's cells in samples from ``low`` to ``high`` (``[...]``)."""
    steps = torch.arange(cells, dtype=low.dtype, device=low.device)
    at = low[..., None] + steps * ((high - low) / (cells - 1))[..., None]
    inside = (at >= 0) & (at <= size - 1)
    grid = torch.arange(size, dtype=low.dtype, device=low.device)
    return (1 - (at[..., None] - grid).abs()).clamp(min=0) * inside[..., None]
