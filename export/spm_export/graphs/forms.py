"""Which function builds which graph: the exporter's side of :mod:`spm_rt.bundle.forms`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import InlinePass

from spm_rt.bundle.forms import graph_precision
from spm_rt.precision import PRECISIONS
from spm_rt.settings import ModelSpec

from ..model.weights import Arrays
from .builder import DOMAIN, GraphBuilder, GraphOptions
from .fast import build_fast_relation, build_fast_search, build_plain_relation, build_plain_search, fast_weights
from .half import retype, typed_weights
from .int8 import Quantization, quantized_weights, quantizing
from .portable import Maker, Weights, build_relation, build_search, build_template

Builder = Callable[[Weights, GraphOptions, Maker], ir.Model]

BUILDERS: dict[tuple[str, str], Builder] = {
    ("template", "portable"): build_template,
    ("template", "fast_expanded"): build_template,
    ("search", "portable"): build_search,
    ("search", "plain"): build_plain_search,
    ("search", "fast"): build_fast_search,
    ("search", "fast_expanded"): build_fast_search,
    ("relation", "portable"): build_relation,
    ("relation", "fast"): build_fast_relation,
}
"""Stage and form of a graph -> what writes it. The flat form is made of the portable one."""
INT8_BUILDERS: dict[tuple[str, str], Builder] = {
    **BUILDERS,
    ("search", "fast"): build_plain_search,
    ("search", "fast_expanded"): build_plain_search,
    ("relation", "fast"): build_plain_relation,
    ("relation", "fast_expanded"): build_plain_relation,
}
"""The same in int8 bundles: ordinary convolutions are what :mod:`spm_export.graphs.int8` quantises."""


def bundle_weights(weights: Arrays, precision: str, plan: Quantization | None = None) -> dict[str, NDArray[Any]]:
    """The weights of all graphs of a bundle, in the types in which they are stored."""
    if not PRECISIONS[precision].for_cpus:
        return typed_weights(weights, precision)
    weights = fast_weights(weights)
    return quantized_weights(weights, plan) if plan else weights


def build_graph(
    stage: str,
    form: str,
    spec: ModelSpec,
    weights: Mapping[str, NDArray[Any]],
    *,
    opset: int = 17,
    targets: int = 1,
    precision: str = "float32",
    plan: Quantization | None = None,
) -> ir.Model:
    """One graph of a bundle, which is of ``precision``.

    Args:
        stage, form: a pair of :func:`spm_rt.bundle.forms.graphs_of` the precision.
        spec, opset, targets: as in :class:`~spm_export.graphs.builder.GraphOptions`.
        weights: of :func:`bundle_weights`.
        plan: what int8 needs.
    """
    if form == "flat":
        how: dict[str, Any] = {"opset": opset, "targets": targets, "precision": precision, "plan": plan}
        return inlined(build_graph(stage, "portable", spec, weights, **how))
    # What is computed once per target is not rounded: it decides about every frame that follows.
    make = quantizing(form, plan) if plan and graph_precision(stage, form, precision) == "int8" else GraphBuilder
    builders = INT8_BUILDERS if precision == "int8" else BUILDERS
    options = GraphOptions(spec, opset, targets, "expanded" if form == "fast_expanded" else "operator")
    model = builders[stage, form](weights, options, make)
    return model if PRECISIONS[precision].for_cpus else retype(model, precision)


def inlined(model: ir.Model) -> ir.Model:
    """A copy of a graph with its functions' bodies in place of the nodes that call them."""
    flat = ir.serde.from_proto(ir.serde.to_proto(model))
    InlinePass()(flat)
    flat.functions.clear()
    flat.graph.opset_imports.pop(DOMAIN, None)
    return flat
