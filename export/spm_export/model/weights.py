"""The tensors that the graphs are made of: the model's weights, after the algebra that needs no template.

All arithmetic that combines weights is done in float64 and rounded once.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .backbones import ConvNorm
from .coarse import CoarseStage, PixelStage
from .network import SPMTracker, make_anchors

Arrays = dict[str, NDArray[np.float32]]


def graph_weights(model: SPMTracker) -> Arrays:
    """Initializers of all graphs by name. Graphs that use the same name share one tensor in the bundle."""
    return {**_backbone(model), **_coarse(model), **_fine(model)}


def _backbone(model: SPMTracker) -> Arrays:
    mean = np.array(model.spec.pixel_mean_bgr, np.float32).reshape(1, 3, 1, 1)
    layers: Arrays = {}
    for name, module in model.backbone.named_modules():
        if isinstance(module, ConvNorm):
            layers |= _folded(model.backbone, name)
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            layers |= {f"{name}.weight": _array(module.weight), f"{name}.bias": _array(module.bias)}
    return {**layers, "pixel_mean": mean}


def _coarse(model: SPMTracker) -> Arrays:
    """The coarse stage's layers, and the anchors that its deltas move."""
    anchors = make_anchors(model.spec).astype(np.float32)
    size = anchors[:, 2:] - anchors[:, :2] + np.float32(1)
    stage = model.coarse
    layers = _pixel_head(stage) if isinstance(stage, PixelStage) else _convolution_head(stage)
    return {**layers, "anchor_centers": anchors[:, :2] + np.float32(0.5) * size, "anchor_sizes": size}


def _pixel_head(stage: PixelStage) -> Arrays:
    """The response's batch norm as scale and shift of the template's kernels; both outputs as one layer."""
    scale, shift = _norm(stage.norm)
    decide = (stage.classify, stage.regress)
    return {
        **_layers(stage, "template_project", "template_bias"),
        "head_scale": _single(scale.reshape(1, -1, 1)),
        "head_shift": _single(shift.reshape(1, -1)),
        **{name: value for part in ("mix", "gather", "tower") for name, value in _folded(stage, part).items()},
        "decide.weight": np.concatenate([_array(layer.weight) for layer in decide]),
        "decide.bias": np.concatenate([_array(layer.bias) for layer in decide]),
    }


def _convolution_head(stage: CoarseStage) -> Arrays:
    """The template's convolutions with the scale factors and ``refine`` folded in.

    ``refine`` is linear and acts on the 20 kernels only, so it mixes the template's convolutions once and for all
    instead of the response of every frame.
    """
    classify_scale, regress_scale = stage.scale
    refine = _double(stage.refine.weight)[:, :, 0, 0]
    regress = _double(stage.template_regress.weight)
    mixed = np.tensordot(refine, regress.reshape(len(refine), -1), 1).reshape(regress.shape)
    mixed_bias = refine @ _double(stage.template_regress.bias).reshape(len(refine), -1)
    return {
        "template_classify.weight": _single(_double(stage.template_classify.weight) * classify_scale),
        "template_classify.bias": _single(_double(stage.template_classify.bias) * classify_scale),
        "template_regress.weight": _single(mixed * regress_scale),
        "template_regress.bias": _single(mixed_bias.reshape(-1) * regress_scale),
        **_layers(stage, "search_classify", "search_regress"),
        "head_bias.classify": _array(stage.classify_bias),
        "head_bias.regress": _array(stage.refine.bias),
    }


def _fine(model: SPMTracker) -> Arrays:
    """Batch norms as scale and shift, and the relation convolution split into its target's and proposal's halves."""
    stage = model.fine
    scales, shifts = zip(*(_norm(norm) for norm in (stage.norm_deep, stage.norm_shallow)), strict=True)
    relate = _array(stage.relate.weight)
    half = relate.shape[1] // 2
    return {
        "roi_scale": _single(np.concatenate(scales).reshape(1, -1, 1, 1)),
        "roi_shift": _single(np.concatenate(shifts).reshape(1, -1, 1, 1)),
        "relate_target.weight": np.ascontiguousarray(relate[:, :half]),
        "relate_proposal.weight": np.ascontiguousarray(relate[:, half:]),
        "relate.bias": _array(stage.relate.bias),
        **_layers(stage, "linear1", "linear2", "classify", "regress"),
    }


def _folded(module: nn.Module, name: str) -> Arrays:
    """A convolution with its batch norm as one convolution."""
    layer = getattr(module, name)
    scale, shift = _norm(layer.norm)
    weight = _double(layer.convolution.weight) * scale[:, None, None, None]
    return {f"{name}.weight": _single(weight), f"{name}.bias": _single(shift)}


def _norm(norm: nn.BatchNorm2d) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A batch norm as scale and shift."""
    scale = _double(norm.weight) / np.sqrt(_double(norm.running_var) + norm.eps)
    return scale, _double(norm.bias) - _double(norm.running_mean) * scale


def _layers(module: nn.Module, *names: str) -> Arrays:
    """``NAME.weight`` and ``NAME.bias`` of layers as they are."""
    pairs = ((name, part) for name in names for part in ("weight", "bias"))
    return {f"{name}.{part}": _array(getattr(getattr(module, name), part)) for name, part in pairs}


def _array(tensor: torch.Tensor | None) -> NDArray[np.float32]:
    assert tensor is not None  # no layer of this network lacks a bias
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


def _double(tensor: torch.Tensor | None) -> NDArray[np.float64]:
    assert tensor is not None
    return tensor.detach().cpu().double().numpy()


def _single(array: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)
