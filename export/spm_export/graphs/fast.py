"""The graphs for CPUs: feature maps channels last, and in the fast form fewer multiplications.

They compute what :mod:`spm_export.graphs.portable` computes, to float32 rounding, verified with the same tolerances:

* conv1 without the rings of its kernel that are zero (the adapted ImageNet weights fill 7 x 7 of 11 x 11);
* feature maps go from one graph to the other channels last, ``[T, 34 * 34, C]``, so that a RoI sample is four
  contiguous rows: one Gather and one small product instead of GridSample;
* in the fast form, conv2, conv3, conv4 and the relation convolution by Winograd's algorithm
  (:mod:`spm_export.graphs.winograd`). The plain builders have ordinary convolutions: large products for matrix units,
  and layers that :mod:`spm_export.graphs.int8` can quantise.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from spm_rt.bundle.contract import contract
from spm_rt.settings import ModelSpec

from ..model.weights import Arrays
from . import portable
from .builder import GraphBuilder, GraphOptions
from .portable import Maker, Weights, begin, coarse_head, convolution, finish, relation_head
from .roi import roi_features
from .winograd import convolve, convolve_and_pool, convolve_patches

TRIMMED = "_trimmed"


def fast_contract(spec: ModelSpec, targets: int) -> dict[str, dict[str, dict[str, tuple[int | str, ...]]]]:
    """The contract with channels-last feature maps; the template graph is not concerned."""
    shapes = contract(spec, targets)
    cells = spec.cells**2
    for stage, side in (("search", "outputs"), ("relation", "inputs")):
        shapes[stage][side]["shallow"] = (targets, cells, spec.shallow_channels)
        shapes[stage][side]["deep"] = (targets, cells, spec.deep_channels)
    return shapes


def build_fast_search(weights: Weights, options: GraphOptions, make: Maker = GraphBuilder) -> ir.Model:
    """:func:`spm_export.graphs.portable.build_search`, for CPUs."""
    if options.spec.backbone != "alexnet":  # next to no 3 x 3 convolutions of many channels
        return build_plain_search(weights, options, make)
    g, (crop, head, bias) = begin("search", weights, options, make, fast_contract)
    spec, t = g.spec, g.targets
    x = g.op("Sub", crop, g.weight("pixel_mean"), name="mean_free")
    x = portable.lrn(g, portable.pool(g, convolution(g, x, f"conv1{TRIMMED}", strides=[2, 2])))
    size = spec.cells
    x = convolve_and_pool(g, x, "conv2", targets=t, size=2 * size, groups=2)
    x = portable.lrn(g, x)
    shallow = g.op("Transpose", x, perm=[0, 2, 3, 1])
    x = convolve(g, shallow, "conv3", targets=t, size=size)
    deep = convolve(g, x, "conv4", targets=t, size=size, groups=2)
    first = (size - spec.search_cells) // 2 - 1
    window = g.slice(deep, first, first + spec.search_cells + 2, [1, 2])
    embedding = convolution(g, g.op("Transpose", window, perm=[0, 3, 1, 2]), "conv5", 0, group=2)
    scores, boxes = coarse_head(g, embedding, head, bias)
    maps = {
        "shallow": g.reshape(shallow, [t, size * size, spec.shallow_channels]),
        "deep": g.reshape(deep, [t, size * size, spec.deep_channels]),
    }
    return finish(g, {"scores": scores, "boxes": boxes, **maps})


def build_plain_search(weights: Weights, options: GraphOptions, make: Maker = GraphBuilder) -> ir.Model:
    """:func:`build_fast_search` with ordinary convolutions."""
    g, (crop, head, bias) = begin("search", weights, options, make, fast_contract)
    shallow, deep = portable.backbone(g, crop, f"conv1{TRIMMED}")
    scores, boxes = coarse_head(g, portable.top_cells(g, shallow, deep, g.spec.search_cells), head, bias)
    maps = {
        name: g.reshape(g.op("Transpose", value, perm=[0, 2, 3, 1]), [g.targets, -1, channels])
        for name, value, channels in (
            ("shallow", shallow, g.spec.shallow_channels),
            ("deep", deep, g.spec.deep_channels),
        )
    }
    return finish(g, {"scores": scores, "boxes": boxes, **maps})


def build_fast_relation(weights: Weights, options: GraphOptions, make: Maker = GraphBuilder) -> ir.Model:
    """:func:`spm_export.graphs.portable.build_relation`, for CPUs."""
    g, (shallow, deep, target_half, proposals) = begin("relation", weights, options, make, fast_contract)
    cells, t, width, hidden = g.spec.roi_cells, g.targets, g.spec.relation_channels, g.spec.hidden_channels
    features = roi_features(g, deep, shallow, proposals)
    own_half = convolve_patches(g, features, "relate_proposal.weight", cells=cells)
    half = g.op("Transpose", g.reshape(target_half, [t, 1, width, cells * cells]), perm=[0, 1, 3, 2])
    own_half = g.reshape(own_half, [t, -1, cells * cells, width])
    x = g.reshape(g.op("Relu", g.op("Add", own_half, half)), [-1, width * cells**2])
    # The first linear layer reads (row, column, channel) here: its weight is turned when a library loads the graph.
    turned = g.reshape(g.weight("linear1.weight"), [hidden, width, cells * cells])
    turned = g.reshape(g.op("Transpose", turned, perm=[0, 2, 1]), [hidden, width * cells**2])
    return finish(g, relation_head(g, x, proposals, turned))


def build_plain_relation(weights: Weights, options: GraphOptions, make: Maker = GraphBuilder) -> ir.Model:
    """:func:`build_fast_relation` with an ordinary convolution."""
    g, (shallow, deep, target_half, proposals) = begin("relation", weights, options, make, fast_contract)
    features = g.op("Transpose", roi_features(g, deep, shallow, proposals), perm=[0, 2, 1])
    channels = g.spec.shallow_channels + g.spec.deep_channels
    maps = g.reshape(features, [-1, channels, g.spec.roi_cells, g.spec.roi_cells])
    return finish(g, relation_head(g, portable.relate(g, maps, target_half), proposals))


def fast_weights(weights: Arrays) -> Arrays:
    """The weights with those that only the fast graphs use."""
    if "conv1.weight" not in weights:
        return weights
    trimmed = trim_kernel(weights["conv1.weight"])
    return {**weights, f"conv1{TRIMMED}.weight": trimmed, f"conv1{TRIMMED}.bias": weights["conv1.bias"]}


def trim_kernel(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """A square kernel ``[O, C, k, k]`` without its outer rings that are exactly zero; its padding shrinks with it."""
    while kernel.shape[2] > 1 and not _ring(kernel).any():
        kernel = np.ascontiguousarray(kernel[:, :, 1:-1, 1:-1])
    return kernel


def _ring(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    sides = (kernel[:, :, 0], kernel[:, :, -1], kernel[:, :, :, 0], kernel[:, :, :, -1])
    return np.concatenate([side.ravel() for side in sides])
