"""Which node of a graph a profiled operator is, and how many multiply-adds that makes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .hooks import Event
from .multiply_adds import Layer, count_layers

MULTIPLYING = ("Conv", "Gemm", "MatMul", "FullyConnected", "InnerProduct", "Deconvolution")
"""Parts of the names of operators that multiply: FusedConv, QLinearConv, GroupConvolution, FusedMatMul, ..."""
PASSED = ("Relu", "Add", "Clip", "Sigmoid", "Transpose", "Reshape", "QuantizeLinear", "DequantizeLinear")
"""What libraries fuse into the multiplying node before it, which then has the last one's output."""
SUFFIXES = ("_nchwc", "/WithoutBiases", "_quant", "_token")
"""What libraries put behind a name when they rewrite a node."""


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator of a library's graph: its median time over the calls, and its work, if it multiplies."""

    name: str
    operator: str
    implementation: str
    layer: str
    ms: float
    macs: int | None


def name_operators(calls: Sequence[Sequence[Event]], graph: Path | None, proposals: int) -> list[Operator]:
    """Operators by name from the events of each call, the most expensive first.

    Without the file that was loaded, work is counted from the shapes in the profile alone.
    """
    times: dict[tuple[str, str], list[float]] = {}
    examples: dict[tuple[str, str], Event] = {}
    for number, call in enumerate(calls):
        for event in call:
            key = (event.name, event.operator)
            # Two events of one name in one call are one operator that ran twice.
            times.setdefault(key, [0.0] * len(calls))[number] += event.ms
            examples[key] = event
    nodes = _Nodes(graph, proposals) if graph is not None else None
    operators = []
    for key, values in times.items():
        event = examples[key]
        layer = nodes.find(event) if nodes is not None else None
        macs = layer.macs if layer is not None else work_from_shapes(event)
        named = (event.name, event.operator, event.implementation, layer.name if layer is not None else "")
        operators.append(Operator(*named, float(np.median(values)), macs))
    return sorted(operators, key=lambda operator: -operator.ms)


def unmatched_work(operators: Sequence[Operator], graph: Path | None, proposals: int) -> int:
    """Multiply-adds of the graph that no operator has been given; 0 without a graph."""
    if graph is None:
        return 0
    return sum(layer.macs for layer in count_layers(graph, proposals)) - sum(o.macs or 0 for o in operators)


def work_from_shapes(event: Event) -> int | None:
    """Multiply-adds by the shapes that the profile gives; None where it gives none, or nothing is multiplied.

    Inputs of one or no dimension (biases, scales, zero points) do not matter; the first two others are the operands.
    """
    if event.shapes is None or not any(part in event.operator for part in MULTIPLYING):
        return None
    operands = [shape for shape in event.shapes[0] if len(shape) > 1]
    made = event.shapes[1]
    if "Conv" in event.operator:
        return math.prod(made) * math.prod(operands[1][1:]) if len(operands) > 1 else None
    if not operands or len(made) < 2:
        return None
    # Either side may be transposed, and a side that the library has packed by itself is not shown.
    return math.prod(made) * (operands[0][-1] * operands[0][-2] // made[-2])


class _Nodes:
    """The multiplying nodes of a graph file, to be found by what a library calls them."""

    def __init__(self, graph: Path, proposals: int) -> None:
        import onnx
        import onnx.inliner

        model = onnx.inliner.inline_local_functions(onnx.load(str(graph), load_external_data=False))
        self._layers = {layer.node: layer for layer in count_layers(graph, proposals)}
        self._makers: Mapping[str, Any] = {name: node for node in model.graph.node for name in node.output}

    def find(self, event: Event) -> Layer | None:
        """The layer that an operator is, by its node's name or its output's."""
        if not any(part in event.operator for part in MULTIPLYING):
            return None
        name = event.name.removeprefix("fused ")
        for suffix in SUFFIXES:
            name = name.split(suffix)[0]
        if name in self._layers:
            return self._layers[name]
        # Named after its output: perhaps that of a node which was fused into it.
        node = self._makers.get(name)
        while node is not None and node.name not in self._layers and node.op_type in PASSED:
            node = self._makers.get(node.input[0])
        return None if node is None else self._layers.get(node.name)
