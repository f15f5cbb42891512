"""A thin hand over onnx-ir's tape: operators by call, weights by name, outputs with names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from spm_rt.settings import ModelSpec

DOMAIN = "spm"
DOMAIN_VERSION = 1
PRODUCER = "spm_rt"

OPSETS = range(17, 24)
LRN_FORMS = ("operator", "expanded")
SPEC = ModelSpec()

Shape = Sequence[int | str]
Activation = bool | float
"""None, a ReLU, or one with a limit."""


@dataclasses.dataclass(frozen=True)
class GraphOptions:
    """How the graphs are written.

    Attributes:
        spec: of the model.
        opset: of the standard operators, 17 to 23.
        targets: T.
        lrn: ``operator`` (one LRN node) or ``expanded`` (basic operators without ``pow``).
    """

    spec: ModelSpec = SPEC
    opset: int = 17
    targets: int = 1
    lrn: str = "operator"

    def __post_init__(self) -> None:
        if self.opset not in OPSETS:
            raise ValueError(f"opset {self.opset}: {OPSETS[0]} to {OPSETS[-1]} can be written")
        if self.targets < 1:
            raise ValueError(f"targets {self.targets}: 1 or more")
        if self.lrn not in LRN_FORMS:
            raise ValueError(f"lrn {self.lrn!r}: one of {', '.join(LRN_FORMS)}")


class GraphBuilder:
    """Collects the nodes of one graph or function body; ``weights`` are what :meth:`weight` may refer to."""

    def __init__(self, name: str, opset: int, weights: Mapping[str, NDArray[Any]] | None = None) -> None:
        self.name = name
        self.opset = opset
        self._weights = weights or {}
        self._tape = ir.tape.Tape()
        self._inputs: list[ir.Value] = []
        self._initializers: dict[str, ir.Value] = {}
        self._functions: list[ir.Function] = []
        self._constants = 0
        # What the functions that write a stage's graph ask for (portable.begin).
        self.spec, self.targets, self.lrn = SPEC, 1, LRN_FORMS[0]
        self.outputs: Mapping[str, Shape] = {}

    def input(self, name: str, shape: Shape | None = None) -> ir.Value:
        """A float32 input; the shape is left open in a function."""
        value = ir.val(name, dtype=ir.DataType.FLOAT, shape=shape) if shape is not None else ir.val(name)
        self._inputs.append(value)
        return value

    def op(
        self, kind: str, *inputs: ir.Value | None, name: str | None = None, domain: str = "", **attributes: Any
    ) -> ir.Value:
        """One node with one output, which is called ``name`` if that is given."""
        value = self._tape.op(
            kind, list(inputs), attributes or None, domain=domain, version=DOMAIN_VERSION if domain else self.opset
        )
        if name:
            value.name = name
        return value

    def layer(
        self, kind: str, x: ir.Value, name: str, *, activation: Activation = False, **attributes: Any
    ) -> ir.Value:
        """A Conv or Gemm on ``NAME.weight`` and, where there is one, ``NAME.bias``; with its activation."""
        bias = [self.weight(f"{name}.bias")] if f"{name}.bias" in self._weights else []
        return self.activated(self.op(kind, x, self.weight(f"{name}.weight"), *bias, **attributes), activation)

    def activated(self, x: ir.Value, activation: Activation) -> ir.Value:
        if activation is True:
            return self.op("Relu", x)
        return self.clipped(x, activation) if activation else x

    def clipped(self, x: ir.Value, limit: float) -> ir.Value:
        """``min(max(x, 0), limit)``"""
        return self.op("Clip", x, self.constant(0.0), self.constant(limit))

    def add(self, x: ir.Value, y: ir.Value, name: str) -> ir.Value:
        """``x + y``, known as ``name`` to those who round it."""
        return self.op("Add", x, y)

    def split(self, value: ir.Value, sizes: Sequence[int], axis: int) -> Sequence[ir.Value]:
        return self._tape.op_multi_out(
            "Split", [value, self.constant(sizes)], {"axis": axis}, num_outputs=len(sizes), version=self.opset
        )

    def slice(self, value: ir.Value, start: int, end: int, axes: Sequence[int], name: str | None = None) -> ir.Value:
        """``value[start:end]`` along each of ``axes``."""
        ends = [self.constant([v] * len(axes)) for v in (start, end)]
        return self.op("Slice", value, *ends, self.constant(axes), name=name)

    def reshape(self, value: ir.Value, shape: Sequence[int], name: str | None = None) -> ir.Value:
        return self.op("Reshape", value, self.constant(shape), name=name)

    def weight(self, name: str) -> ir.Value:
        """The named weight as an initializer."""
        if name not in self._initializers:
            tensor = ir.tensor(self._weights[name], name=name)
            self._initializers[name] = self._tape.initializer(tensor)
        return self._initializers[name]

    def weight_shape(self, name: str) -> tuple[int, ...]:
        return self._weights[name].shape

    def constant(self, value: Sequence[int] | Sequence[float] | float | NDArray[Any]) -> ir.Value:
        """A small constant: integers become int64, everything else float32."""
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        self._constants += 1
        return self.op("Constant", name=f"constant_{self._constants}", value=ir.tensor(array))

    def call(self, function: ir.Function, *inputs: ir.Value, name: str, **attributes: Any) -> ir.Value:
        """One node of our own domain whose body is ``function``."""
        if function not in self._functions:
            self._functions.append(function)
        return self.op(function.name, *inputs, name=name, domain=function.domain, **attributes)

    def function(self, outputs: Sequence[ir.Value], attributes: Sequence[ir.Attr]) -> ir.Function:
        """What was collected, as a function of our own domain."""
        return ir.Function(DOMAIN, self.name, graph=self._graph(outputs), attributes=attributes)

    def model(self, outputs: Mapping[str, tuple[ir.Value, Shape]], metadata: Mapping[str, str]) -> ir.Model:
        """What was collected, as a model whose outputs have these names and shapes."""
        values = []
        for name, (value, shape) in outputs.items():
            value.name = name
            value.shape = ir.Shape(shape)
            value.dtype = ir.DataType.FLOAT
            values.append(value)
        graph = self._graph(values)
        if self._functions:
            graph.opset_imports[DOMAIN] = DOMAIN_VERSION
        return ir.Model(
            graph, ir_version=8, producer_name=PRODUCER, functions=self._functions, metadata_props=dict(metadata)
        )

    def _graph(self, outputs: Sequence[ir.Value]) -> ir.Graph:
        return ir.Graph(
            self._inputs,
            outputs,
            nodes=self._tape.nodes,
            initializers=self._tape.initializers,
            opset_imports={"": self.opset},
            name=self.name,
        )
