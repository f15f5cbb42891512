"""The tensors that the graphs are made of: the model's weights, after the algebra that needs no template.

All arithmetic that combines weights is done in float64 and rounded once.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .network import SPMTracker, make_anchors

Arrays = dict[str, NDArray[np.float32]]


def graph_weights(model: SPMTracker) -> Arrays:
    """Initializers of all graphs by name. Graphs that use the same name share one tensor in the bundle."""
    return {**_backbone(model), **_coarse(model), **_fine(model)}


def _backbone(model: SPMTracker) -> Arrays:
    mean = np.array(model.spec.pixel_mean_bgr, np.float32).reshape(1, 3, 1, 1)
    return {**_layers(model.backbone, *(f"conv{i}" for i in range(1, 6))), "pixel_mean": mean}


def _coarse(model: SPMTracker) -> Arrays:
    """The template's convolutions with the scale factors and ``refine`` folded in.

    ``refine`` is linear and acts on the 20 kernels only, so it mixes the template's convolutions once and for all
    instead of the response of every frame.
    """
    stage = model.coarse
    classify_scale, regress_scale = stage.scale
    refine = _double(stage.refine.weight)[:, :, 0, 0]
    regress = _double(stage.template_regress.weight)
    mixed = np.tensordot(refine, regress.reshape(len(refine), -1), 1).reshape(regress.shape)
    mixed_bias = refine @ _double(stage.template_regress.bias).reshape(len(refine), -1)
    anchors = make_anchors(model.spec).astype(np.float32)
    size = anchors[:, 2:] - anchors[:, :2] + np.float32(1)
    return {
        "template_classify.weight": _single(_double(stage.template_classify.weight) * classify_scale),
        "template_classify.bias": _single(_double(stage.template_classify.bias) * classify_scale),
        "template_regress.weight": _single(mixed * regress_scale),
        "template_regress.bias": _single(mixed_bias.reshape(-1) * regress_scale),
        **_layers(stage, "search_classify", "search_regress"),
        "head_bias.classify": _array(stage.classify_bias),
        "head_bias.regress": _array(stage.refine.bias),
        "anchor_centers": anchors[:, :2] + np.float32(0.5) * size,
        "anchor_sizes": size,
    }


def _fine(model: SPMTracker) -> Arrays:
    """Batch norms as scale and shift, and the relation convolution split into its target's and proposal's halves."""
    stage = model.fine
    scales, shifts = [], []
    for norm in (stage.norm_deep, stage.norm_shallow):
        scale = _double(norm.weight) / np.sqrt(_double(norm.running_var) + norm.eps)
        scales.append(scale)
        shifts.append(_double(norm.bias) - _double(norm.running_mean) * scale)
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
