"""Typed graphs: the three graphs with float16 or bfloat16 tensors, for GPUs.

TensorRT 11 and TensorRT for RTX know strongly typed networks only: what is computed in half precision says so in the
ONNX file. :func:`retype` takes a float32 graph of :mod:`spm_export.graphs.portable` and gives its tensors their types:

* products (Conv, Gemm) and what only passes their values on are of the bundle's precision;
* everything else stays float32: the mean taken off the pixels, LRN (its squares leave float16's range), RoI positions,
  samples, scale and shift, box decoding, scores, the head's bias, and the head's composition (once per target; TensorRT
  has no ConvTranspose in bfloat16);
* weights are stored once, in the bundle's precision, but for the small ones of the float32 parts;
* what the host sees is float32, what one graph hands to the next is of the bundle's precision
  (:func:`spm_rt.bundle.contract.tensor_type`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from spm_rt.bundle.contract import FLOAT32_WEIGHTS, HANDED_ON, tensor_type
from spm_rt.errors import ExportError

from .builder import DOMAIN

TYPES: dict[str, ir.DataType] = {
    "float32": ir.DataType.FLOAT,
    "float16": ir.DataType.FLOAT16,
    "bfloat16": ir.DataType.BFLOAT16,
}
LARGEST = {"float16": 65504.0, "bfloat16": 2.0**128 - 2.0**120}

PRODUCTS = ("Conv", "Gemm")
"""Operators that are computed in the bundle's precision (TensorRT adds up in float32 and rounds once)."""
PASSED_ON = ("Relu", "MaxPool", "Reshape", "Transpose", "Slice", "Split", "Concat", "Add")
"""Operators that have the precision of their inputs, float32 where they differ."""
_MAPS = ("deep", "shallow")


def numpy_type(precision: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16 if precision == "bfloat16" else precision)


def typed_weights(weights: Mapping[str, NDArray[Any]], precision: str) -> dict[str, NDArray[Any]]:
    """The graphs' weights in the types in which they are stored.

    Raises:
        ExportError: a weight does not fit the precision's range.
    """
    if precision == "float32":
        return dict(weights)
    limit, found = LARGEST[precision], {}
    for name, array in weights.items():
        largest = float(np.abs(array).max(initial=0.0))
        if name not in FLOAT32_WEIGHTS and largest > limit:
            raise ExportError(f"{name}: a weight of {largest:.3g} does not fit {precision} (at most {limit:.3g})")
        found[name] = array if name in FLOAT32_WEIGHTS else array.astype(numpy_type(precision))
    return found


def retype(model: ir.Model, precision: str) -> ir.Model:
    """Give a portable graph of :func:`typed_weights`, not yet named or inferred, its types in place; float32 stays."""
    if precision == "float32":
        return model
    half = TYPES[precision]
    for function in model.functions.values():
        _Typing(function.graph, half, _MAPS).run([half] * len(function.outputs))
    graph = model.graph
    for value in (*graph.inputs, *graph.outputs):
        value.dtype = TYPES[tensor_type(str(value.name), precision)]
    known = [str(value.name) for value in graph.inputs if value.name in HANDED_ON]
    _Typing(graph, half, known).run([TYPES[tensor_type(str(v.name), precision)] for v in graph.outputs])
    return model


class _Typing:
    """One pass over a graph or function body: who is of which type, and casts where types meet."""

    def __init__(self, graph: ir.Graph, half: ir.DataType, inputs: Sequence[str]) -> None:
        self.graph = graph
        self.half = half
        self.halves = {value for value in graph.inputs if value.name in inputs}
        self.halves |= {v for v in graph.initializers.values() if v.const_value is not None and v.dtype == half}
        self.casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def run(self, outputs: Sequence[ir.DataType]) -> None:
        for node in list(self.graph):
            self._node(node)
        for index, (value, wanted) in enumerate(zip(list(self.graph.outputs), outputs, strict=True)):
            if (value in self.halves) == (wanted == self.half):
                continue
            cast = self._cast(value, wanted, None)
            cast.name, cast.type, cast.shape = value.name, value.type, value.shape
            value.name, value.type, value.shape = f"{value.name}_uncast", None, None
            self.graph.outputs[index] = cast

    def _node(self, node: ir.Node) -> None:
        if node.domain == DOMAIN:  # the RoI operator: maps in, features out; boxes, scale and shift are float32
            wanted = [self.half if index < len(_MAPS) else ir.DataType.FLOAT for index in range(len(node.inputs))]
            gives_half = True
        else:
            data = node.inputs[:1] if node.op_type in ("Reshape", "Slice", "Split") else node.inputs
            all_half = all(value in self.halves for value in data)
            gives_half = node.op_type in PRODUCTS or (node.op_type in PASSED_ON and bool(data) and all_half)
            wanted = [self.half if gives_half and value in data else ir.DataType.FLOAT for value in node.inputs]
        for index, (value, kind) in enumerate(zip(node.inputs, wanted, strict=True)):
            if value is not None and (value in self.halves) != (kind == self.half):
                node.replace_input_with(index, self._cast(value, kind, node))
        if gives_half:
            self.halves.update(node.outputs)

    def _cast(self, value: ir.Value, kind: ir.DataType, before: ir.Node | None) -> ir.Value:
        if (value, kind) not in self.casts:
            node = ir.node("Cast", [value], {"to": kind.value}, name=f"cast_{len(self.casts)}")
            if before is None:
                self.graph.append(node)
            else:
                self.graph.insert_before(before, [node])
            self.casts[value, kind] = node.outputs[0]
            if kind == self.half:
                self.halves.add(node.outputs[0])
        return self.casts[value, kind]
