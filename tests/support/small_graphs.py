"""Parts of graphs, built and run on their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from spm_export.graphs.builder import GraphBuilder

from .sessions import run, session_of

Part = Callable[[GraphBuilder, list[ir.Value]], ir.Value | tuple[ir.Value, ...]]


def evaluate(
    part: Part, *inputs: NDArray[np.float32], weights: Mapping[str, NDArray[Any]] | None = None, opset: int = 17
) -> list[NDArray[np.float32]]:
    """What ``part`` computes from inputs in ONNX Runtime, as a graph of its own."""
    g = GraphBuilder("part", opset, weights)
    values = [g.input(f"in{i}", array.shape) for i, array in enumerate(inputs)]
    found = part(g, values)
    outputs = found if isinstance(found, tuple) else (found,)
    model = g.model({f"out{i}": (g.op("Identity", value), []) for i, value in enumerate(outputs)}, {})
    for output in model.graph.outputs:  # left open
        output.shape = None
    seen = run(session_of(ir.serde.to_proto(model)), {f"in{i}": array for i, array in enumerate(inputs)})
    return [seen[f"out{i}"] for i in range(len(outputs))]
