"""The RoI operator in both of its forms: a function of our own domain, and gathers for CPUs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from spm_rt.gpu.kernels import roi_fits
from spm_rt.settings import ModelSpec

from .builder import GraphBuilder

# With these two attributes (and not without them) TensorRT replaces the node by a plugin of its name, if there is one.
PLUGIN = {"plugin_version": "1", "plugin_namespace": "spm"}


def _plugin(spec: ModelSpec) -> dict[str, str]:
    return PLUGIN if roi_fits(spec) else {}


def fused_roi_crop(spec: ModelSpec, opset: int) -> ir.Function:
    """The RoI operator: crop both maps inside boxes, normalise, concatenate.

    ``FusedRoiCrop(deep [T, C, H, W], shallow [T, D, H, W], boxes [T, K, 4], scale, shift [1, C + D, 1, 1])`` gives
    ``[T * K, C + D, 6, 6]``: corner-aligned bilinear samples (``crop_and_resize`` of :mod:`spm_export.model.network`),
    times scale, plus shift, and zeros where a sample lies outside the map. Boxes are in crop pixels from the centre of
    the first cell on. The positions are computed in float32 in the reference's order, since their roundings decide
    what is inside.
    """
    g = GraphBuilder("FusedRoiCrop", opset)
    g.spec = spec
    deep, shallow, boxes, scale, shift = (g.input(n) for n in ("deep", "shallow", "boxes", "scale", "shift"))
    cells, last = spec.roi_cells, spec.cells - 1
    channels = spec.deep_channels + spec.shallow_channels
    positions, inside = sample_grid(g, boxes)
    # GridSample's corner-aligned coordinates: -1 is the first cell, 1 the last.
    normalized = g.op("Sub", g.op("Mul", positions, g.constant(2.0 / last)), g.constant(1.0))
    axes = _axes(g, normalized)
    spread = g.constant(np.zeros((cells, cells), np.float32))
    grid = _pair(g, (g.op("Add", axis, spread) for axis in axes))
    grid = g.reshape(grid, [0, -1, cells, 2], name="grid")
    mode = "linear" if opset >= 20 else "bilinear"
    # The mask below decides what is outside; the border mode keeps the last row and column what they are.
    samples = [g.op("GridSample", m, grid, align_corners=1, mode=mode, padding_mode="border") for m in (deep, shallow)]
    both = g.op("Add", g.op("Mul", g.op("Concat", *samples, axis=1), scale), shift)
    both = g.reshape(both, [0, channels, -1, cells * cells])
    both = g.op("Transpose", both, perm=[0, 2, 1, 3])
    mask = g.reshape(g.op("And", *_axes(g, inside)), [0, -1, 1, cells * cells], name="mask")
    masked = g.op("Where", mask, both, g.constant(0.0))
    features = g.reshape(masked, [-1, channels, cells, cells], name="features")
    attributes = _plugin(spec).items()
    return g.function([features], [ir.Attr(name, ir.AttributeType.STRING, value) for name, value in attributes])


def call_roi_crop(g: GraphBuilder, deep: ir.Value, shallow: ir.Value, boxes: ir.Value, name: str) -> ir.Value:
    """One node of :func:`fused_roi_crop` whose result is called ``name``."""
    scale, shift, boxes = g.weight("roi_scale"), g.weight("roi_shift"), _from_first_cell(g, boxes)
    return g.call(fused_roi_crop(g.spec, g.opset), deep, shallow, boxes, scale, shift, name=name, **_plugin(g.spec))


def sample_grid(g: GraphBuilder, boxes: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Sample positions ``[T, K, 2, 6]`` (x, then y; in cells) inside boxes ``[T, K, 4]``, and which lie on the map.

    Boxes are in crop pixels from the centre of the first cell on.
    """
    cells, last = g.spec.roi_cells, g.spec.cells - 1
    low, high = g.split(g.op("Div", boxes, g.constant(float(g.spec.stride))), [2, 2], axis=2)
    edge = g.constant(float(last))
    low, high = g.op("Div", low, edge), g.op("Div", high, edge)
    step = g.op("Div", g.op("Mul", g.op("Sub", high, low), edge), g.constant(float(cells - 1)))
    start = g.op("Unsqueeze", g.op("Mul", low, edge), g.constant([3]))
    steps = g.op("Mul", g.op("Unsqueeze", step, g.constant([3])), g.constant([float(i) for i in range(cells)]))
    positions = g.op("Add", start, steps, name="positions")  # [T, K, 2, 6]
    inside = g.op(
        "And", g.op("GreaterOrEqual", positions, g.constant(0.0)), g.op("LessOrEqual", positions, edge), name="inside"
    )
    return positions, inside


def _from_first_cell(g: GraphBuilder, boxes: ir.Value) -> ir.Value:
    return g.op("Sub", boxes, g.constant(g.spec.first_cell)) if g.spec.first_cell else boxes


def _axes(g: GraphBuilder, values: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Values ``[T, K, 2, 6]`` of both axes as ``[T, K, 1, 6]`` along x and ``[T, K, 6, 1]`` along y."""
    x, y = g.split(values, [1, 1], axis=2)
    return x, g.op("Transpose", y, perm=[0, 1, 3, 2])


def roi_features(g: GraphBuilder, deep: ir.Value, shallow: ir.Value, boxes: ir.Value) -> ir.Value:
    """Normalised RoI features ``[T * K, 36, 640]`` of channels-last maps: the RoI operator as gathers.

    Each sample is its four neighbours times four weights; outside, weights and shift are zero.
    """
    cells, size, targets = g.spec.roi_cells, g.spec.cells, g.targets
    positions, inside = sample_grid(g, _from_first_cell(g, boxes))  # [T, K, 2, 6] each: x, then y
    last = g.constant(float(size - 1))
    clamped = g.op("Min", g.op("Max", positions, g.constant(0.0)), last)
    low, high = g.op("Floor", clamped), g.op("Ceil", clamped)
    fraction = g.op("Sub", clamped, low)
    weight = _pair(g, (g.op("Sub", g.constant(1.0), fraction), fraction))
    weight = g.op("Mul", weight, g.op("Unsqueeze", g.op("Cast", inside, to=ir.DataType.FLOAT), g.constant([4])))
    index = _pair(g, (low, high))
    weight_x, weight_y = _outer(g, weight, cells)
    index_x, index_y = _outer(g, index, cells)
    index = g.op("Add", g.op("Mul", index_y, g.constant(float(size))), index_x)  # [T, K, 6, 6, 2, 2]
    if targets > 1:
        offset = np.arange(targets, dtype=np.float32).reshape(-1, 1, 1, 1, 1, 1) * size * size
        index = g.op("Add", index, g.constant(offset))
    index = g.reshape(g.op("Cast", index, to=ir.DataType.INT64), [-1, 4])
    weight = g.reshape(g.op("Mul", weight_y, weight_x), [-1, 1, 4])
    sampled = []
    for maps, channels in ((deep, g.spec.deep_channels), (shallow, g.spec.shallow_channels)):
        rows = g.op("Gather", g.reshape(maps, [-1, channels]), index, axis=0)  # [T * K * 36, 4, C]
        sampled.append(g.reshape(g.op("MatMul", weight, rows), [-1, cells * cells, channels]))
    features = g.op("Mul", g.op("Concat", *sampled, axis=2), g.reshape(g.weight("roi_scale"), [1, 1, -1]))
    mask = g.op("And", *_axes(g, inside))
    mask = g.reshape(g.op("Cast", mask, to=ir.DataType.FLOAT), [-1, cells * cells, 1])
    return g.op("Add", features, g.op("Mul", mask, g.reshape(g.weight("roi_shift"), [1, 1, -1])), name="roi_features")


def _pair(g: GraphBuilder, values: Iterable[ir.Value]) -> ir.Value:
    """Two values of four axes side by side on a fifth."""
    return g.op("Concat", *(g.op("Unsqueeze", value, g.constant([4])) for value in values), axis=4)


def _outer(g: GraphBuilder, values: ir.Value, cells: int) -> tuple[ir.Value, ir.Value]:
    """Values ``[T, K, 2, 6, 2]`` of both axes, shaped to meet in ``[T, K, 6 (y), 6 (x), 2 (y), 2 (x)]``."""
    x, y = g.split(values, [1, 1], axis=2)
    return g.reshape(x, [0, -1, 1, cells, 1, 2]), g.reshape(y, [0, -1, cells, 1, 2, 1])
