"""Small graphs: parts that are built and run on their own, nodes that are written to a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper

from spm_export.graphs.builder import GraphBuilder, GraphOptions

from .sessions import run, session_of

Part = Callable[[GraphBuilder, list[ir.Value]], ir.Value | tuple[ir.Value, ...]]


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> NDArray[np.float32]:
    """Normally distributed numbers."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def evaluate(
    part: Part, *inputs: NDArray[np.float32], weights: Mapping[str, NDArray[Any]] | None = None, **options: Any
) -> list[NDArray[np.float32]]:
    """What ``part`` computes from inputs in ONNX Runtime, as a graph of its own with these :class:`GraphOptions`."""
    chosen = GraphOptions(**options)
    g = GraphBuilder("part", chosen.opset, weights)
    g.targets, g.lrn = chosen.targets, chosen.lrn
    values = [g.input(f"in{i}", array.shape) for i, array in enumerate(inputs)]
    found = part(g, values)
    outputs = found if isinstance(found, tuple) else (found,)
    model = g.model({f"out{i}": (g.op("Identity", value), []) for i, value in enumerate(outputs)}, {})
    for output in model.graph.outputs:  # left open
        output.shape = None
    seen = run(session_of(ir.serde.to_proto(model)), {f"in{i}": array for i, array in enumerate(inputs)})
    return [seen[f"out{i}"] for i in range(len(outputs))]


def zero_weight(name: str, *shape: int) -> TensorProto:
    return onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name)


def save_graph(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    outputs: list[str],
    weights: list[TensorProto],
) -> Path:
    """A model of opset 17 with these nodes; the shapes of its outputs are left open."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path
