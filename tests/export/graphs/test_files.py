"""The graph files of a bundle: what they hold, and that other forms of them agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from spm_export.bundle import ExportOptions, _write_graphs
from spm_export.graphs.builder import DOMAIN, OPSETS, GraphOptions
from spm_export.graphs.fast import fast_contract
from spm_export.graphs.forms import BUILDERS, INT8_BUILDERS, build_graph, bundle_weights
from spm_export.graphs.roi import PLUGIN
from spm_export.model.network import SPMTracker
from spm_export.model.weights import graph_weights
from spm_rt import Bundle
from spm_rt.bundle import FORMS, STAGES
from spm_rt.bundle.contract import contract
from spm_rt.bundle.forms import graphs_of
from spm_rt.precision import PRECISIONS
from spm_rt.settings import ModelSpec

from ...support.graphs.sessions import run, session_of

SPEC = ModelSpec()
TARGETS = (1, 2)
Arrays = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def weights(synthetic_model: SPMTracker) -> Arrays:
    return bundle_weights(graph_weights(synthetic_model), "float32")


def read(synthetic: Bundle, stage: str, variant: str, targets: int = 1) -> onnx.ModelProto:
    return onnx.load(synthetic.graph(stage, targets=targets, variant=variant), load_external_data=False)


def shapes_of(values: Any) -> dict[str, tuple[int | str, ...]]:
    return {value.name: tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim) for value in values}


GRAPHS = graphs_of("float32")
EVERY_GRAPH = [(stage, variant, targets) for stage, variant in GRAPHS for targets in TARGETS]


@pytest.mark.parametrize(("stage", "variant", "targets"), EVERY_GRAPH)
def test_the_checker_passes_and_names_and_shapes_are_the_contract(
    stage: str, variant: str, targets: int, synthetic: Bundle
) -> None:
    onnx.checker.check_model(str(synthetic.graph(stage, targets=targets, variant=variant)), full_check=True)
    graph = read(synthetic, stage, variant, targets).graph
    agreed = (fast_contract if FORMS[variant].for_cpus else contract)(SPEC, targets)[stage]
    assert shapes_of(graph.input) == agreed["inputs"]
    assert shapes_of(graph.output) == agreed["outputs"]
    types = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert types == {onnx.TensorProto.FLOAT}

    if variant == "flat":
        assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
        assert all(onnx.defs.has(node.op_type) for node in graph.node)

    # Every value has a name and a shape.
    known = {value.name for value in (*graph.value_info, *graph.output)}
    assert [output for node in graph.node for output in node.output if output not in known] == []
    assert all(node.name for node in graph.node)
    assert len({node.name for node in graph.node}) == len(graph.node)


@pytest.mark.parametrize(("stage", "variant"), [(stage, variant) for stage, variant in GRAPHS if stage != "search"])
def test_the_roi_operator_is_a_function_or_inlined(stage: str, variant: str, synthetic: Bundle) -> None:
    model = read(synthetic, stage, variant)
    ours = [node for node in model.graph.node if node.domain == DOMAIN]
    if not ours:
        assert variant in ("flat", "fast")
        assert len(model.functions) == 0
        assert {entry.domain for entry in model.opset_import} == {""}
        return
    assert (stage, variant) in (("template", "portable"), ("template", "fast_expanded"), ("relation", "portable"))
    assert [node.op_type for node in ours] == ["FusedRoiCrop"]
    assert [(f.domain, f.name) for f in model.functions] == [(DOMAIN, "FusedRoiCrop")]
    assert {entry.domain for entry in model.opset_import} == {"", DOMAIN}
    # What a plugin needs.
    found = {one.name: onnx.helper.get_attribute_value(one).decode() for one in ours[0].attribute}
    assert found == PLUGIN
    assert found.keys() == {"plugin_version", "plugin_namespace"}


@pytest.mark.parametrize("stage", ["template", "search"])
def test_lrn_is_one_operator_or_none(stage: str, synthetic: Bundle) -> None:
    counts = {v: sum(n.op_type == "LRN" for n in read(synthetic, stage, v).graph.node) for v in FORMS}
    assert counts == {v: 0 if v.endswith("expanded") else 2 for v in FORMS}


def test_large_weights_are_stored_once_for_all_graphs(synthetic: Bundle) -> None:
    places: dict[str, set[str]] = {}
    for stage, variant, targets in EVERY_GRAPH:
        path = synthetic.graph(stage, targets=targets, variant=variant)
        assert path.stat().st_size < 100_000
        for tensor in read(synthetic, stage, variant, targets).graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                facts = {entry.key: entry.value for entry in tensor.external_data}
                assert facts["location"] == "weights.safetensors"
                places.setdefault(tensor.name, set()).add(f"{facts['offset']}+{facts['length']}")
    assert len(places) > 20
    assert all(len(found) == 1 for found in places.values())


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(("stage", "variant"), GRAPHS)
def test_every_opset_builds_and_checks(stage: str, variant: str, opset: int, weights: Arrays) -> None:
    # The weights are not needed for that: their shapes are.
    empty = {name: np.broadcast_to(np.zeros(1, array.dtype), array.shape) for name, array in weights.items()}
    model = build_graph(stage, variant, SPEC, empty, opset=opset)
    assert model.graph.opset_imports[""] == opset
    assert len(model.graph) > 10


@pytest.mark.parametrize("options", [{"opset": 16}, {"opset": 24}, {"targets": 0}, {"lrn": "fast"}])
def test_options_that_cannot_be_written_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        GraphOptions(**options)


def inputs_for(stage: str, targets: int, *, fast: bool) -> Arrays:
    """Plausible inputs, a different one for each target."""
    rng = np.random.default_rng(targets)
    agreed = (fast_contract if fast else contract)(SPEC, targets)[stage]["inputs"]
    found = {}
    for name, shape in agreed.items():
        size = tuple(5 if d == "K" else d for d in shape)
        if name == "crop":
            found[name] = rng.uniform(0, 255, size)
        elif name in ("box", "proposals"):
            corner = rng.uniform(-20, 150, (*size[:-1], 2))
            found[name] = np.concatenate([corner, corner + rng.uniform(20, 120, corner.shape)], axis=-1)
        elif name in ("head_kernel", "head_bias", "target_half"):
            found[name] = rng.standard_normal(size) * 0.003
        else:
            found[name] = np.abs(rng.standard_normal(size)) * 5
    return {name: value.astype(np.float32) for name, value in found.items()}


def agree(found: Arrays, wanted: Arrays) -> None:
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        largest = np.abs(wanted[name]).max()
        assert np.abs(value - wanted[name]).max() <= 1e-5 * largest, name


@pytest.mark.parametrize("variant", ["portable", "fast_expanded"])
@pytest.mark.parametrize("stage", STAGES)
def test_several_targets_at_once_equal_single_ones(stage: str, variant: str, synthetic: Bundle) -> None:
    one, two = (session_of(onnx.load(synthetic.graph(stage, targets=t, variant=variant))) for t in TARGETS)
    given = inputs_for(stage, 2, fast=FORMS[variant].for_cpus)
    singles = [run(one, {name: array[t : t + 1] for name, array in given.items()}) for t in range(2)]
    together = run(two, given)
    agree(together, {name: np.concatenate([s[name] for s in singles]) for name in together})
    assert all(np.abs(a - b).max() > 0 for a, b in zip(singles[0].values(), singles[1].values(), strict=True))


@pytest.mark.parametrize("opset", [20, 23])
@pytest.mark.parametrize(("stage", "variant"), [pair for pair in GRAPHS if pair[1] in ("portable", "fast")])
def test_newer_opsets_compute_the_same(
    stage: str, variant: str, opset: int, synthetic: Bundle, weights: Arrays
) -> None:
    model = ir.serde.to_proto(build_graph(stage, variant, SPEC, weights, opset=opset))
    given = inputs_for(stage, 1, fast=FORMS[variant].for_cpus)
    usual = session_of(onnx.load(synthetic.graph(stage, variant=variant)))
    agree(run(session_of(model), given), run(usual, given))


def test_files_of_the_newest_opset_pass_the_checker(synthetic_model: SPMTracker, tmp_path: Path) -> None:
    table = _write_graphs(synthetic_model, tmp_path, ExportOptions(opset=OPSETS[-1]), lambda what: None)
    for graphs in table["1"].values():
        for name in graphs.values():
            onnx.checker.check_model(str(tmp_path / name), full_check=True)


@pytest.mark.parametrize("count", [1, 2, 9, 30])
def test_any_number_of_proposals_has_scores_and_boxes(count: int, synthetic: Bundle) -> None:
    session = session_of(onnx.load(synthetic.graph("relation")))
    given = inputs_for("relation", 1, fast=False)
    given["proposals"] = np.repeat(given["proposals"][:, :1], count, axis=1)
    found = run(session, given)
    assert found["scores"].shape == (1, count)
    assert found["boxes"].shape == (1, count, 4)
    np.testing.assert_allclose(found["scores"], np.repeat(found["scores"][:, :1], count, axis=1), atol=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_graph_of_the_table_has_a_builder_and_no_builder_is_left_over(precision: str) -> None:
    builders = INT8_BUILDERS if precision == "int8" else BUILDERS
    built = {pair for pair in graphs_of(precision) if pair[1] != "flat"}
    assert built <= builders.keys()
    if PRECISIONS[precision].for_cpus:
        assert built == builders.keys()
