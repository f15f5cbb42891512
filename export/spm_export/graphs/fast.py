"""The search and relation graphs in the form that is fastest on CPUs: fewer multiplications, channels last.

They compute what :mod:`spm_export.graphs.portable` computes, to float32 rounding, and are held to the same tolerances:

* conv1 without the rings of its kernel that are zero (the adapted ImageNet weights fill 7 x 7 of 11 x 11);
* conv2, conv3, conv4 and the relation convolution by Winograd's algorithm (:mod:`spm_export.graphs.winograd`);
* feature maps go from one graph to the other channels last, ``[T, 34 * 34, C]``, so that a RoI sample is four
  contiguous rows: one Gather and one small product instead of GridSample.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from spm_rt.bundle.contract import contract
from spm_rt.settings import ModelSpec

from ..model.weights import Arrays
from .builder import GraphBuilder
from .portable import GraphOptions, Weights, coarse_head, convolution, decode_proposals, judge, lrn, pool, sample_grid
from .winograd import convolve, convolve_and_pool, convolve_patches

SHALLOW, DEEP = 256, 384


def fast_contract(spec: ModelSpec, targets: int) -> dict[str, dict[str, dict[str, tuple[int | str, ...]]]]:
    """The contract with channels-last feature maps; the template graph is not concerned."""
    shapes = contract(spec, targets)
    cells = (spec.crop_size // spec.stride + 1) ** 2
    for stage, side in (("search", "outputs"), ("relation", "inputs")):
        shapes[stage][side]["shallow"] = (targets, cells, SHALLOW)
        shapes[stage][side]["deep"] = (targets, cells, DEEP)
    return shapes


def build_fast_search(spec: ModelSpec, weights: Weights, options: GraphOptions) -> ir.Model:
    """:func:`spm_export.graphs.portable.build_search`, for CPUs."""
    g = GraphBuilder("search", options.opset, weights)
    shapes, t = fast_contract(spec, options.targets)["search"], options.targets
    crop, head, bias = (g.input(name, shape) for name, shape in shapes["inputs"].items())
    x = g.op("Sub", crop, g.weight("pixel_mean"), name="mean_free")
    pad = np.shape(weights["conv1_trimmed.weight"])[2] // 2
    x = lrn(g, pool(g, convolution(g, x, "conv1_trimmed", pad, strides=[2, 2])), options)
    size = spec.crop_size // spec.stride + 1
    x = convolve_and_pool(g, x, "conv2", targets=t, size=2 * size, channels=96, outputs=SHALLOW, taps=5, groups=2)
    x = lrn(g, x, options)
    shallow = g.op("Transpose", x, perm=[0, 2, 3, 1])
    x = convolve(g, shallow, "conv3", targets=t, size=size, channels=SHALLOW, outputs=DEEP)
    deep = convolve(g, x, "conv4", targets=t, size=size, channels=DEEP, outputs=DEEP, groups=2)
    first = (size - spec.search_cells) // 2 - 1
    window = g.slice(deep, first, first + spec.search_cells + 2, [1, 2])
    embedding = convolution(g, g.op("Transpose", window, perm=[0, 3, 1, 2]), "conv5", 0, group=2)
    scores, boxes = coarse_head(g, spec, embedding, head, bias, t)
    maps = {"shallow": g.reshape(shallow, [t, size * size, SHALLOW]), "deep": g.reshape(deep, [t, size * size, DEEP])}
    outputs = {"scores": scores, "boxes": boxes, **maps}
    return g.model({name: (outputs[name], shape) for name, shape in shapes["outputs"].items()}, {"spm_rt": g.name})


def build_fast_relation(spec: ModelSpec, weights: Weights, options: GraphOptions) -> ir.Model:
    """:func:`spm_export.graphs.portable.build_relation`, for CPUs."""
    cells, channels = spec.roi_cells, SHALLOW + DEEP
    g = GraphBuilder("relation", options.opset, weights)
    shapes, t = fast_contract(spec, options.targets)["relation"], options.targets
    shallow, deep, target_half, proposals = (g.input(name, shape) for name, shape in shapes["inputs"].items())
    features = roi_features(g, spec, deep, shallow, proposals, t)
    own_half = convolve_patches(g, features, "relate_proposal.weight", cells=cells, channels=channels, outputs=256)
    half = g.op("Transpose", g.reshape(target_half, [t, 1, 256, cells * cells]), perm=[0, 1, 3, 2])
    own_half = g.reshape(own_half, [t, -1, cells * cells, 256])
    x = g.reshape(g.op("Relu", g.op("Add", own_half, half)), [-1, 256 * cells**2])
    # The first linear layer reads (row, column, channel) here: its weight is turned when a library loads the graph.
    turned = g.reshape(g.weight("linear1.weight"), [256, 256, cells * cells])
    turned = g.reshape(g.op("Transpose", turned, perm=[0, 2, 1]), [256, 256 * cells**2])
    scores, deltas = judge(g, x, t, turned)
    outputs = {"scores": scores, "boxes": decode_proposals(g, spec, proposals, deltas)}
    return g.model({name: (outputs[name], shape) for name, shape in shapes["outputs"].items()}, {"spm_rt": g.name})


def roi_features(
    g: GraphBuilder, spec: ModelSpec, deep: ir.Value, shallow: ir.Value, boxes: ir.Value, targets: int
) -> ir.Value:
    """Normalised RoI features ``[T * K, 36, 640]`` of channels-last maps: the RoI operator as gathers.

    Each sample is its four neighbours times four weights; outside, weights and shift are zero.
    """
    cells, size = spec.roi_cells, spec.crop_size // spec.stride + 1
    positions, inside = sample_grid(g, spec, boxes)  # [T, K, 2, 6] each: x, then y
    last = g.constant(float(size - 1))
    clamped = g.op("Min", g.op("Max", positions, g.constant(0.0)), last)
    low, high = g.op("Floor", clamped), g.op("Ceil", clamped)
    fraction = g.op("Sub", clamped, low)
    weight = g.op(
        "Concat",
        *(g.op("Unsqueeze", v, g.constant([4])) for v in (g.op("Sub", g.constant(1.0), fraction), fraction)),
        axis=4,
    )
    weight = g.op("Mul", weight, g.op("Unsqueeze", g.op("Cast", inside, to=ir.DataType.FLOAT), g.constant([4])))
    index = g.op("Concat", g.op("Unsqueeze", low, g.constant([4])), g.op("Unsqueeze", high, g.constant([4])), axis=4)
    weight_x, weight_y = _outer(g, weight, cells)
    index_x, index_y = _outer(g, index, cells)
    index = g.op("Add", g.op("Mul", index_y, g.constant(float(size))), index_x)  # [T, K, 6, 6, 2, 2]
    if targets > 1:
        offset = np.arange(targets, dtype=np.float32).reshape(-1, 1, 1, 1, 1, 1) * size * size
        index = g.op("Add", index, g.constant(offset))
    index = g.reshape(g.op("Cast", index, to=ir.DataType.INT64), [-1, 4])
    weight = g.reshape(g.op("Mul", weight_y, weight_x), [-1, 1, 4])
    sampled = []
    for maps, channels in ((deep, DEEP), (shallow, SHALLOW)):
        rows = g.op("Gather", g.reshape(maps, [-1, channels]), index, axis=0)  # [T * K * 36, 4, C]
        sampled.append(g.reshape(g.op("MatMul", weight, rows), [-1, cells * cells, channels]))
    features = g.op("Mul", g.op("Concat", *sampled, axis=2), g.reshape(g.weight("roi_scale"), [1, 1, -1]))
    x, y = g.split(inside, [1, 1], axis=2)
    mask = g.op("And", x, g.op("Transpose", y, perm=[0, 1, 3, 2]))
    mask = g.reshape(g.op("Cast", mask, to=ir.DataType.FLOAT), [-1, cells * cells, 1])
    return g.op("Add", features, g.op("Mul", mask, g.reshape(g.weight("roi_shift"), [1, 1, -1])), name="roi_features")


FAST_BUILDERS = {"search": build_fast_search, "relation": build_fast_relation}


def fast_weights(weights: Arrays) -> Arrays:
    """The weights with those that only the fast graphs use."""
    trimmed = trim_kernel(weights["conv1.weight"])
    return {**weights, "conv1_trimmed.weight": trimmed, "conv1_trimmed.bias": weights["conv1.bias"]}


def trim_kernel(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """A square kernel ``[O, C, k, k]`` without its outer rings that are exactly zero; its padding shrinks with it."""
    while kernel.shape[2] > 1 and not _ring(kernel).any():
        kernel = np.ascontiguousarray(kernel[:, :, 1:-1, 1:-1])
    return kernel


def _ring(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    sides = (kernel[:, :, 0], kernel[:, :, -1], kernel[:, :, :, 0], kernel[:, :, :, -1])
    return np.concatenate([side.ravel() for side in sides])


def _outer(g: GraphBuilder, values: ir.Value, cells: int) -> tuple[ir.Value, ir.Value]:
    """Values ``[T, K, 2, 6, 2]`` of both axes, shaped to meet in ``[T, K, 6 (y), 6 (x), 2 (y), 2 (x)]``."""
    x, y = g.split(values, [1, 1], axis=2)
    return g.reshape(x, [0, -1, 1, cells, 1, 2]), g.reshape(y, [0, -1, cells, 1, 2, 1])
