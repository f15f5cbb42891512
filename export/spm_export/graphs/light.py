"""The light model's parts of the graphs: EfficientNet-Lite0, and the pixel-wise coarse head.

What is here stands in for functions of :mod:`spm_export.graphs.portable`, where the specification says so. Batch norm
is folded into the layers before it, after the comparison into the template's kernels and their bias; the top map is
computed only on the window that is read.
"""

from __future__ import annotations

import onnx_ir as ir

from spm_rt.models import lite0
from spm_rt.models.lite0 import Layer, same_padding

from .builder import GraphBuilder


def backbone(g: GraphBuilder, crop: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The fine stage's two maps of raw crops, both of stride 8."""
    side = g.spec.crop_size
    x = g.op("Sub", crop, g.weight("pixel_mean"), name="mean_free")
    x, side = _layer(g, x, side, "stem", Layer("stem", 3, lite0.STEM_CHANNELS, 3, 2))
    for i, stage in enumerate(lite0.STAGES):
        for j in range(stage.blocks):
            before = x
            for layer in lite0.block_layers(i, j):
                x, side = _layer(g, x, side, f"blocks.{i}.{j}.{layer.name}", layer)
            x = g.add(before, x, f"blocks.{i}.{j}") if j else x
        if i == lite0.SHALLOW_STAGE:
            shallow = x
    scales = g.constant([1.0, 1.0, 2.0, 2.0])
    deep = g.op(
        "Resize", _point(g, x, "lateral_deep"), None, scales, mode="linear", coordinate_transformation_mode="half_pixel"
    )
    return _point(g, shallow, "lateral_shallow"), deep


def top_cells(g: GraphBuilder, shallow: ir.Value, deep: ir.Value, cells: int) -> ir.Value:
    """The central cells of the coarse stage's map, from the windows that they see (one cell more on each side)."""
    first = (g.spec.cells - cells) // 2 - 1
    windows = [g.slice(maps, first, first + cells + 2, [2, 3]) for maps in (shallow, deep)]
    x = _point(g, g.op("Concat", *windows, axis=1), "top_project")
    return g.layer("Conv", x, "top_depthwise", activation=lite0.LIMIT, group=g.spec.top_channels)


def head_kernel(g: GraphBuilder, embedding: ir.Value) -> tuple[ir.Value, ir.Value]:
    """A kernel per cell of the template ``[T, 36, C]``, and what is added to its response ``[T, 36]``."""
    t, cells = g.targets, g.spec.template_cells**2
    kernel = g.reshape(g.layer("Conv", embedding, "template_project"), [t, g.spec.top_channels, cells])
    bias = g.reshape(g.layer("Conv", embedding, "template_bias"), [t, cells])
    kernel = g.op("Mul", g.op("Transpose", kernel, perm=[0, 2, 1]), g.weight("head_scale"))
    scale = g.reshape(g.weight("head_scale"), [1, cells])
    return kernel, g.op("Add", g.op("Mul", bias, scale), g.weight("head_shift"))


def response(g: GraphBuilder, embedding: ir.Value, kernel: ir.Value, bias: ir.Value) -> ir.Value:
    """Background and foreground of the anchors, then their deltas: ``[T, 30, 19, 19]``."""
    spec, t = g.spec, g.targets
    size, cells, channels = spec.search_cells, spec.template_cells**2, spec.top_channels
    maps = g.op("MatMul", kernel, g.reshape(embedding, [t, channels, size * size]))
    maps = g.reshape(g.op("Add", maps, g.reshape(bias, [t, cells, 1])), [t, cells, size, size])
    x = _point(g, g.op("Concat", maps, embedding, axis=1), "mix")
    x = g.layer("Conv", x, "gather", activation=lite0.LIMIT, group=spec.head_channels)
    return g.layer("Conv", _point(g, x, "tower"), "decide")


def _layer(g: GraphBuilder, x: ir.Value, side: int, name: str, layer: Layer) -> tuple[ir.Value, int]:
    before, after = same_padding(side, layer.kernel, layer.stride)
    x = g.layer(
        "Conv",
        x,
        name,
        activation=lite0.LIMIT if layer.activated else False,
        pads=[before, before, after, after],
        strides=[layer.stride] * 2,
        group=layer.groups,
    )
    return x, -(-side // layer.stride)


def _point(g: GraphBuilder, x: ir.Value, name: str) -> ir.Value:
    return g.layer("Conv", x, name, activation=lite0.LIMIT)
