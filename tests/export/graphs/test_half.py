"""Typed graphs: who is of which type, that they are compared with the reference, what CPU backends are told."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from spm_export.bundle import VERIFICATION, ExportOptions, export_bundle
from spm_export.cli import DEMO_BOX, main
from spm_export.graphs.builder import GraphBuilder
from spm_export.graphs.half import TYPES, numpy_type, retype, typed_weights
from spm_export.model.network import SPMTracker
from spm_export.proof.bounds import TOLERANCES, TYPED_TOLERANCES
from spm_export.proof.runners import AS_THEY_ARE, Runner, emulate
from spm_rt import BackendError, Bundle, BundleError, ExportError, Tracker
from spm_rt.bundle import MANIFEST, STAGES
from spm_rt.bundle.contract import FLOAT32_WEIGHTS
from spm_rt.bundle.forms import graphs_of
from spm_rt.bundle.self_test import OUTPUTS
from spm_rt.files import seal_manifest
from spm_rt.precision import PRECISIONS

from ...support.exports import Frames, alter_weight, export_quickly, verify_quickly
from ...support.graphs.nodes import draw
from ...support.graphs.sessions import run, session_of

Factory = pytest.TempPathFactory
HALVES = ("float16", "bfloat16")
ONNX_TYPES = {name: kind.value for name, kind in TYPES.items()}
INNER = {"head_kernel", "target_half", "shallow", "deep"}
IN_FLOAT32 = {*("LRN", "GridSample", "Sub", "Div", "Mul", "Sigmoid", "Exp", "Min", "MatMul", "ConvTranspose")}


@pytest.fixture(scope="module", params=HALVES)
def bundle(
    request: pytest.FixtureRequest, tmp_path_factory: Factory, default_model: SPMTracker, clip: Frames
) -> Bundle:
    """A typed bundle of the shipped weights that passed a verification on few inputs."""
    options = ExportOptions(opset=PRECISIONS[request.param].lowest_opset, precision=request.param)
    folder = tmp_path_factory.mktemp("typed") / request.param
    return Bundle.open(export_quickly(default_model, folder, options, clip, DEMO_BOX))


def read(bundle: Bundle, stage: str, variant: str) -> onnx.ModelProto:
    return onnx.load(bundle.graph(stage, variant=variant), load_external_data=False)


@pytest.mark.parametrize(("stage", "variant"), graphs_of("float16"))
def test_the_host_sees_float32_and_graphs_hand_on_the_precision(stage: str, variant: str, bundle: Bundle) -> None:
    graph = read(bundle, stage, variant).graph
    for value in (*graph.input, *graph.output):
        wanted = bundle.precision if value.name in INNER else "float32"
        assert value.type.tensor_type.elem_type == ONNX_TYPES[wanted], value.name


@pytest.mark.parametrize("stage", STAGES)
def test_products_are_of_the_precision_and_all_else_is_float32(stage: str, bundle: Bundle) -> None:
    graph = read(bundle, stage, "flat").graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output, *graph.input)}
    half = ONNX_TYPES[bundle.precision]
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            assert kinds[node.output[0]] == half, node.name
        if node.op_type in IN_FLOAT32:
            assert kinds[node.output[0]] == onnx.TensorProto.FLOAT, node.name


def test_weights_are_stored_once_in_the_precision(bundle: Bundle) -> None:
    for stage, variant in graphs_of("float16"):
        graph = read(bundle, stage, variant).graph
        kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
        for name, kind in kinds.items():
            wanted = "float32" if name in FLOAT32_WEIGHTS else bundle.precision
            assert kind == ONNX_TYPES[wanted], name
        # Only the head's composition casts weights: it is computed in float32.
        cast = {node.input[0] for node in graph.node if node.op_type == "Cast"} & kinds.keys()
        assert cast <= {"search_classify.weight", "search_regress.weight"}
    assert (bundle.path / "weights.safetensors").stat().st_size < 56_000_000


def test_the_functions_names_are_their_own(bundle: Bundle) -> None:
    """TensorRT's parser takes a value of the body and one of the graph for the same if they have one name."""
    for stage in ("template", "relation"):
        model = read(bundle, stage, "portable")
        (function,) = model.functions
        inside = {*function.input, *(name for node in function.node for name in (*node.input, *node.output, node.name))}
        outside = {name for node in model.graph.node for name in (*node.input, *node.output, node.name)}
        assert inside & outside == set()


def test_the_report_says_how_it_was_verified(bundle: Bundle) -> None:
    found = json.loads((bundle.path / VERIFICATION).read_text())
    assert found["passed"] is True
    assert bundle.precision in found["runner"]
    assert found["track"]["precision"] == bundle.precision
    forms = {"portable", "flat", *((AS_THEY_ARE,) if bundle.precision == "float16" else ())}
    assert {c["variant"] for c in found["tensors"]} == {*forms, "self_test"}
    flat = sum(check["variant"] == "flat" for check in found["tensors"])
    assert len(found["tensors"]) == flat + (len(forms) - 1) * len(TOLERANCES) + len(OUTPUTS)
    for check in found["tensors"]:
        allowed = TYPED_TOLERANCES[bundle.precision]
        key = f"{check['stage']}.{check['tensor']}"
        assert check["tolerance"] == allowed.get(key, allowed.get(check["tensor"]))[1]
    # It is half precision that was verified, and not float32 under another name.
    assert max(c["worst"] for c in found["tensors"] if c["tensor"] == "deep" and c["variant"] == "portable") > 1e-4


def test_a_cpu_backend_is_told_what_the_bundle_lacks(bundle: Bundle) -> None:
    holds = rf"a {bundle.precision} bundle holds its graphs as portable and flat .for GPUs"
    with pytest.raises(BundleError, match=holds):
        Tracker.load(bundle, "onnxruntime")
    with pytest.raises(BundleError, match="not as fast"):
        bundle.graph("search", variant="fast")


def test_a_precision_that_nobody_knows_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    manifest = json.loads((bundle.path / MANIFEST).read_bytes())
    manifest["precision"] = "float8"
    (tmp_path / MANIFEST).write_bytes(seal_manifest(manifest))
    with pytest.raises(BundleError, match=r"precision 'float8'; this version of spm_rt knows float32"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("precision", HALVES)
def test_altered_weights_are_refused(
    precision: str, default_model: SPMTracker, clip: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify_quickly(monkeypatch, slice(1), ["portable"])
    alter_weight(monkeypatch, "conv4.bias", 64)
    options = ExportOptions(opset=22, precision=precision)
    with pytest.raises(ExportError, match=r"portable search\.deep: worst relative error"):
        export_bundle(default_model, tmp_path / "b", options, clip[:2], DEMO_BOX, "clip")
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_needs_a_late_operator_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--precision", "bf16", "--opset", "17", "--out", str(tmp_path / "b")]) == 1
    assert "opset 17: bfloat16 graphs need operator set 22 or later" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--precision", "fp8", "--out", "b"])


def test_weights_beyond_the_range_are_refused() -> None:
    weights = {"conv1.weight": np.array([1e5], np.float32), "pixel_mean": np.array([1e6], np.float32)}
    with pytest.raises(ExportError, match=r"conv1\.weight: a weight of 1e\+05 does not fit float16"):
        typed_weights(weights, "float16")
    found = typed_weights(weights, "bfloat16")
    assert found["conv1.weight"].dtype == ml_dtypes.bfloat16
    assert found["pixel_mean"].dtype == np.float32
    assert typed_weights(weights, "float32") == weights


def rounded(array: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
    """Values as they are after a tensor of that precision held them."""
    return array.astype(numpy_type(precision)).astype(np.float32)


@pytest.mark.parametrize("precision", HALVES)
def test_an_emulated_graph_rounds_where_the_graph_does(precision: str) -> None:
    """Two products with a float32 island between them, against the same arithmetic in NumPy."""
    first, second, given = draw(8, 8), draw(8, 8, seed=1), draw(1, 8, seed=2)
    weights = typed_weights({"a.weight": first, "b.weight": second}, precision)
    g = GraphBuilder("small", 22, weights)
    x = g.input("crop", [1, 8])
    y = g.op("Relu", g.op("Gemm", x, g.weight("a.weight"), transB=1))
    y = g.op("Mul", y, g.constant(0.3))
    y = g.op("Gemm", y, g.weight("b.weight"), transB=1)
    model = retype(g.model({"shallow": (y, [1, 8])}, {}), precision)
    assert model.graph.outputs[0].dtype == TYPES[precision]
    found = run(session_of(ir.serde.to_proto(emulate(model))), {"crop": given})["shallow"]
    half = [rounded(w, precision) for w in (first, second)]
    hidden = np.maximum(rounded(rounded(given, precision) @ half[0].T, precision), 0)
    wanted = rounded(rounded(hidden * np.float32(0.3), precision) @ half[1].T, precision)
    step = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[precision]
    # Sums in another order may fall to the other side of a rounding: one step, in few places.
    assert np.abs(found - wanted).max() <= step * np.abs(wanted).max()
    assert (found == wanted).mean() > 0.7
    np.testing.assert_array_equal(found, rounded(found, precision))


def test_float32_graphs_stay_as_they_are(default_model: SPMTracker) -> None:
    g = GraphBuilder("small", 17, {"a.weight": np.eye(2, dtype=np.float32)})
    model = g.model({"boxes": (g.op("Gemm", g.input("crop", [1, 2]), g.weight("a.weight")), [1, 2])}, {})
    before = ir.serde.to_proto(model).SerializeToString()
    assert ir.serde.to_proto(retype(model, "float32")).SerializeToString() == before


def test_a_file_that_onnxruntime_cannot_run_is_named(bundle: Bundle) -> None:
    if bundle.precision == "bfloat16":
        path = bundle.graph("search")
        with pytest.raises(BackendError, match=r"search\.onnx: onnxruntime .* cannot load it"):
            Runner(str(path), path)
