"""Multiply-adds of an ONNX graph, layer by layer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from spm_rt.errors import BundleError


class Layer(NamedTuple):
    """One node that multiplies."""

    name: str
    operator: str
    shape: tuple[int, ...]
    macs: int
    node: str
    """the node's name in the graph with its functions inlined"""


def count_layers(path: Path, proposals: int) -> list[Layer]:
    """The multiplying nodes of a graph with their work, in order.

    What depends on constants alone (the transforms of Winograd's kernels) is left out: libraries compute it once, when
    they load the graph.

    The weights of the file at ``path`` are not read, only their shapes; ``proposals`` stands for the dimension ``K``.

    Raises:
        BundleError: a multiplying node's shape cannot be inferred.
    """
    import onnx
    import onnx.inliner
    import onnx.shape_inference

    model = onnx.load(str(path), load_external_data=False)
    for value in [*model.graph.input, *model.graph.output]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param == "K":
                dimension.dim_value = proposals
    model = onnx.inliner.inline_local_functions(model)
    # Stored shapes speak of K; they are inferred anew with its value.
    del model.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes: dict[str, tuple[int, ...]] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        sides = value.type.tensor_type.shape.dim
        shapes[value.name] = tuple(side.dim_value if side.HasField("dim_value") else -1 for side in sides)
    makers = {name: node for node in graph.node for name in node.output}
    constant = _constants(graph)
    layers = []
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or node.output[0] in constant:
            continue
        inputs, output = [shapes.get(name, (-1,)) for name in node.input], shapes.get(node.output[0], (-1,))
        if any(d < 1 for shape in (*inputs, output) for d in shape):
            what = f"the shapes of {node.op_type} {node.name}"
            raise BundleError(f"{path}: {what} cannot be inferred: {inputs} -> {output}")
        work = _multiply_adds(node, inputs, output)
        layers.append(Layer(_layer_name(node, makers), node.op_type, output, work, node.name))
    return layers


def _constants(graph: Any) -> set[str]:
    """Names of the values that no input of the graph has a part in."""
    constant = {tensor.name for tensor in graph.initializer} - {value.name for value in graph.input}
    for node in graph.node:  # in an order in which every node comes after what it reads
        if all(not name or name in constant for name in node.input):
            constant.update(node.output)
    return constant


def _multiply_adds(node: Any, inputs: list[tuple[int, ...]], output: tuple[int, ...]) -> int:
    """Work of one node from its shapes; a weight's shape already holds the division by the number of groups."""
    if node.op_type == "Conv":
        return math.prod(output) * math.prod(inputs[1][1:])
    if node.op_type == "ConvTranspose":
        return math.prod(inputs[0]) * math.prod(inputs[1][1:])
    if node.op_type == "MatMul":
        return math.prod(output) * inputs[0][-1]
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return math.prod(output) * inputs[0][0 if transposed else 1]


def _layer_name(node: Any, makers: dict[str, Any]) -> str:
    """The weight's name without ``.weight``, int8 or not; a computed weight is named after what it was made from."""
    return _source(str(node.input[1]), makers).removesuffix("_int8").removesuffix(".weight")


def _source(name: str, makers: dict[str, Any]) -> str:
    """What a value was before it got another shape or type, or the transform that Winograd's kernels go through."""
    while name in makers and makers[name].op_type in ("Reshape", "Unsqueeze", "Transpose", "Cast", "DequantizeLinear"):
        name = str(makers[name].input[0])
    if name in makers and makers[name].op_type == "MatMul":
        kernels = (_source(str(side), makers) for side in reversed(makers[name].input))
        return next((kernel for kernel in kernels if kernel.endswith(".weight")), name)
    return name
