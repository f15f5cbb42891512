"""The three ONNX graphs, written operator by operator (docs/reference/graphs.md has their contract).

``T`` targets are the leading axis of every tensor, ``K`` proposals per target, ``N`` anchors. Crops are BGR 0..255,
boxes x1, y1, x2, y2 in crop pixels. Every rewrite against the reference model is exact algebra, and tested:

* coarse stage: between the search branch's 3 x 3 convolution and the correlation there is nothing but linear algebra,
  so both compose into one 6 x 6 convolution per target (``template`` makes its kernel, ``search`` applies it);
* fine stage: the relation convolution over target and proposal is split; the target's half is computed once;
* conv5 is computed only on the window of conv4 that its crop reads;
* a softmax of two classes is a sigmoid of their difference;
* batch norm after the sampling instead of before it: bilinear weights add up to one (outside stays zero).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from spm_rt.bundle.contract import contract
from spm_rt.settings import MAX_LOG_SCALE, ModelSpec

from . import light
from .builder import GraphBuilder, GraphOptions, Shape
from .roi import call_roi_crop

LRN: dict[str, Any] = {"size": 5, "alpha": 1e-4, "beta": 0.75, "bias": 1.0}

Weights = Mapping[str, NDArray[Any]]

Maker = Callable[[str, int, Weights], GraphBuilder]
"""Makes the builder that a graph is written with, from name, operator set and weights."""
Agreed = Callable[[ModelSpec, int], Mapping[str, Mapping[str, Mapping[str, Shape]]]]
"""The contract of a number of targets: stage -> ``inputs`` or ``outputs`` -> name -> shape."""


def build_template(weights: Weights, options: GraphOptions, make: Maker = GraphBuilder) -> ir.Model:
    """What is computed once per target: the head's kernel and bias, and the target's half of the relation."""
    g, (crop, box) = begin("template", weights, options, make)
    shallow, deep = backbone(g, crop)
    kernel, bias = head_kernel(g, top_cells(g, shallow, deep, g.spec.template_cells))
    roi = call_roi_crop(g, deep, shallow, g.reshape(box, [g.targets, 1, 4]), "target_features")
    half = g.op("Conv", roi, g.weight("relate_target.weight"), g.weight("relate.bias"), pads=[1, 1, 1, 1])
    return finish(g, {"head_kernel": kernel, "head_bias": bias, "target_half": half})


def build_search(weights: Weights, options: GraphOptions, make: Maker = GraphBuilder) -> ir.Model:
    """What is computed in every frame: features, and the coarse stage's scores and boxes."""
    g, (crop, kernel, bias) = begin("search", weights, options, make)
    shallow, deep = backbone(g, crop)
    scores, boxes = coarse_head(g, top_cells(g, shallow, deep, g.spec.search_cells), kernel, bias)
    return finish(g, {"scores": scores, "boxes": boxes, "shallow": shallow, "deep": deep})


def build_relation(weights: Weights, options: GraphOptions, make: Maker = GraphBuilder) -> ir.Model:
    """What is computed for the proposals: the relation network's scores and boxes."""
    g, (shallow, deep, target_half, proposals) = begin("relation", weights, options, make)
    roi = call_roi_crop(g, deep, shallow, proposals, "proposal_features")
    x = relate(g, roi, target_half, ("proposal_half", "relation_features"))
    return finish(g, relation_head(g, x, proposals))


def begin(
    stage: str, weights: Weights, options: GraphOptions, make: Maker, agreed: Agreed = contract
) -> tuple[GraphBuilder, list[ir.Value]]:
    """A builder for a stage's graph, and the inputs that the contract names."""
    g = make(stage, options.opset, weights)
    g.spec, g.targets, g.lrn = options.spec, options.targets, options.lrn
    sides = agreed(options.spec, options.targets)[stage]
    g.outputs = sides["outputs"]
    return g, [g.input(name, shape) for name, shape in sides["inputs"].items()]


def finish(g: GraphBuilder, outputs: Mapping[str, ir.Value]) -> ir.Model:
    """The graph with the outputs that the contract names."""
    return g.model({name: (outputs[name], shape) for name, shape in g.outputs.items()}, {"spm_rt": g.name})


def backbone(g: GraphBuilder, crop: ir.Value, first: str = "conv1") -> tuple[ir.Value, ir.Value]:
    """conv2 (after its LRN) and conv4 of raw crops; ``first`` names the weights of the first layer."""
    if g.spec.backbone != "alexnet":
        return light.backbone(g, crop)
    # conv1 pads with zeros after the mean is taken off, so the mean cannot be folded into its bias.
    x = g.op("Sub", crop, g.weight("pixel_mean"), name="mean_free")
    x = convolution(g, x, first, strides=[2, 2])
    x = lrn(g, pool(g, x))
    shallow = lrn(g, pool(g, convolution(g, x, "conv2", group=2)))
    deep = convolution(g, convolution(g, shallow, "conv3"), "conv4", group=2)
    return shallow, deep


def top_cells(g: GraphBuilder, shallow: ir.Value, deep: ir.Value, cells: int) -> ir.Value:
    """The central cells of conv5, from the window of conv4 that they see (one cell more on each side)."""
    if g.spec.backbone != "alexnet":
        return light.top_cells(g, shallow, deep, cells)
    first = (g.spec.cells - cells) // 2 - 1
    window = g.slice(deep, first, first + cells + 2, [2, 3])
    return convolution(g, window, "conv5", 0, group=2)


def lrn(g: GraphBuilder, x: ir.Value) -> ir.Value:
    """Local response normalisation over 5 channels, as one operator or written out.

    Written out: ``t = 1 + alpha * mean of the squares``, ``x / t^0.75 = x / (sqrt(t) * sqrt(sqrt(t)))``; the mean over
    neighbouring channels is an average pool over the channel axis, which counts its padding as the LRN does.
    """
    if g.lrn == "operator":
        return g.op("LRN", x, **LRN)
    size, alpha, bias = LRN["size"], LRN["alpha"], LRN["bias"]
    squares = g.op("Unsqueeze", g.op("Mul", x, x), g.constant([1]))
    mean = g.op(
        "AveragePool", squares, kernel_shape=[size, 1, 1], pads=[size // 2, 0, 0, size // 2, 0, 0], count_include_pad=1
    )
    t = g.op("Add", g.op("Mul", g.op("Squeeze", mean, g.constant([1])), g.constant(alpha)), g.constant(bias))
    root = g.op("Sqrt", t)
    return g.op("Div", x, g.op("Mul", root, g.op("Sqrt", root)))


def head_kernel(g: GraphBuilder, embedding: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The coarse head as one convolution: kernel ``[T, 30, 256, 6, 6]`` and bias ``[T, 30]``.

    A correlation with kernel ``k`` after a convolution with weights ``w`` is one with their full convolution; ONNX's
    ConvTranspose computes exactly that, with ``w`` in the layout in which it already is.
    """
    if g.spec.head == "pixelwise":
        return light.head_kernel(g, embedding)
    cells, anchors, targets, width = g.spec.template_cells, g.spec.anchors_per_cell, g.targets, g.spec.head_channels
    kernels, biases = [], []
    for branch, outputs in (("classify", 2 * anchors), ("regress", 4 * anchors)):
        own = convolution(g, embedding, f"template_{branch}", 0, activation=False)
        own = g.reshape(own, [targets * outputs, width, cells - 2, cells - 2], name=f"{branch}_kernel")
        full = g.op("ConvTranspose", own, g.weight(f"search_{branch}.weight"))
        kernels.append(g.reshape(full, [targets, outputs, g.spec.top_channels, cells, cells]))
        # The search branch's own bias, seen through the kernel: sum over its taps and channels.
        through = g.op("ReduceSum", own, g.constant([2, 3]), keepdims=0)
        # No MatMul: TensorRT for RTX has none in float32 for compute capability 7.5.
        through = g.op("Mul", through, g.weight(f"search_{branch}.bias"))
        through = g.op("ReduceSum", through, g.constant([1]), keepdims=0)
        biases.append(g.op("Add", g.reshape(through, [targets, outputs]), g.weight(f"head_bias.{branch}")))
    return g.op("Concat", *kernels, axis=1), g.op("Concat", *biases, axis=1)


def coarse_head(g: GraphBuilder, embedding: ir.Value, kernel: ir.Value, bias: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Correlation with each target's kernel, then scores ``[T, N]`` and boxes ``[T, N, 4]``."""
    t, anchors = g.targets, g.spec.anchors_per_cell
    outputs = 6 * anchors
    head = (light.response if g.spec.head == "pixelwise" else response)(g, embedding, kernel, bias)
    logits = g.slice(head, 0, 2 * anchors, [1], name="logits")
    deltas = g.slice(head, 2 * anchors, outputs, [1], name="deltas")
    background, foreground = g.split(logits, [anchors, anchors], axis=1)
    scores = g.op("Sigmoid", g.op("Sub", foreground, background))
    scores = g.reshape(g.op("Transpose", scores, perm=[0, 2, 3, 1]), [t, -1])
    flat = g.reshape(g.op("Transpose", deltas, perm=[0, 2, 3, 1]), [t, -1, 4])
    return scores, decode(g, flat, g.weight("anchor_centers"), g.weight("anchor_sizes"))


def response(g: GraphBuilder, embedding: ir.Value, kernel: ir.Value, bias: ir.Value) -> ir.Value:
    """Background and foreground of the anchors, then their deltas: ``[T, 30, 19, 19]``."""
    t, spec = g.targets, g.spec
    outputs, size, cells = 6 * spec.anchors_per_cell, spec.search_cells, spec.response_cells
    inputs = spec.top_channels
    if t > 1:  # one group per target
        embedding = g.reshape(embedding, [1, t * inputs, size, size])
    k = spec.template_cells
    kernels, biases = g.reshape(kernel, [t * outputs, inputs, k, k]), g.reshape(bias, [t * outputs])
    head = g.op("Conv", embedding, kernels, biases, group=t, kernel_shape=[k, k])
    return g.reshape(head, [t, outputs, cells, cells]) if t > 1 else head


def decode(
    g: GraphBuilder,
    deltas: ir.Value,
    center: ir.Value,
    size: ir.Value,
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> ir.Value:
    """Boxes from deltas ``[T, n, 4]`` and the centres and sizes they move (docs/notes/model.md, "Box decoding")."""
    shift, log_scale = g.split(deltas, [2, 2], axis=2)
    if weights != (1.0, 1.0, 1.0, 1.0):
        shift = g.op("Div", shift, g.constant(list(weights[:2])))
        log_scale = g.op("Div", log_scale, g.constant(list(weights[2:])))
    limit = g.constant(MAX_LOG_SCALE)
    # Not finite becomes the limit: a comparison with NaN is false, and so is one of an infinite magnitude.
    finite = g.op("Less", g.op("Abs", log_scale), g.constant(np.array(np.inf, np.float32)))
    log_scale = g.op("Min", g.op("Where", finite, log_scale, limit), limit)
    new_center = g.op("Add", g.op("Mul", shift, size), center)
    half = g.op("Mul", g.op("Mul", g.op("Exp", log_scale), size), g.constant(0.5))
    return g.op("Concat", g.op("Sub", new_center, half), g.op("Add", new_center, half), axis=2)


def relate(
    g: GraphBuilder, features: ir.Value, target_half: ir.Value, names: Sequence[str | None] = (None, None)
) -> ir.Value:
    """The relation convolution on RoI features ``[T * K, 640, 6, 6]``, target's half added: ``[T * K, 9216]``.

    ``names`` are given to the proposals' half and to the result.
    """
    cells, targets, width = g.spec.roi_cells, g.targets, g.spec.relation_channels
    own_half = g.layer("Conv", features, "relate_proposal", pads=[1, 1, 1, 1])
    own_half.name = names[0]
    if targets > 1:
        own_half = g.reshape(own_half, [targets, -1, width, cells, cells])
        target_half = g.reshape(target_half, [targets, 1, width, cells, cells])
    x = g.op("Relu", g.op("Add", own_half, target_half))
    return g.reshape(x, [-1, width * cells**2], name=names[1])


def relation_head(
    g: GraphBuilder, x: ir.Value, proposals: ir.Value, first: ir.Value | None = None
) -> dict[str, ir.Value]:
    """The relation network's linear layers on ``[T * K, 9216]``: ``scores`` ``[T, K]`` and ``boxes`` ``[T, K, 4]``.

    ``first`` stands for the first layer's weight where the inputs come in another order.
    """
    if first is None:
        x = g.layer("Gemm", x, "linear1", activation=True, transB=1)
    else:
        x = g.op("Relu", g.op("Gemm", x, first, g.weight("linear1.bias"), transB=1))
    x = g.layer("Gemm", x, "linear2", activation=True, transB=1)
    logits = g.reshape(g.layer("Gemm", x, "classify", transB=1), [g.targets, -1, 2], name="logits")
    deltas = g.reshape(g.layer("Gemm", x, "regress", transB=1), [g.targets, -1, 4], name="deltas")
    background, foreground = g.split(logits, [1, 1], axis=2)
    scores = g.reshape(g.op("Sigmoid", g.op("Sub", foreground, background)), [g.targets, -1])
    low, high = g.split(proposals, [2, 2], axis=2)
    size = g.op("Add", g.op("Sub", high, low), g.constant(1.0))
    center = g.op("Add", low, g.op("Mul", size, g.constant(0.5)))
    return {"scores": scores, "boxes": decode(g, deltas, center, size, g.spec.fine_weights)}


def convolution(
    g: GraphBuilder, x: ir.Value, name: str, pad: int | None = None, *, activation: bool = True, **attributes: Any
) -> ir.Value:
    """A layer's convolution and ReLU; by default padded so that it keeps the map's size, apart from strides."""
    if pad is None:
        pad = g.weight_shape(f"{name}.weight")[2] // 2
    return g.layer("Conv", x, name, activation=activation, pads=[pad] * 4, **attributes)


def pool(g: GraphBuilder, x: ir.Value) -> ir.Value:
    return g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
