"""``spm-bench profile``: operators found in the graph, their work, and the library's own times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from spm_bench.profiling.hooks import Event, profiler_hooks, read_profile
from spm_bench.profiling.multiply_adds import count_layers
from spm_bench.profiling.operators import name_operators, unmatched_work, work_from_shapes
from spm_rt.backends import load_backend
from spm_rt.backends.openvino import backend as openvino_backend
from spm_rt.bundle import Bundle

from ..support.bench import bench_report, spm_bench
from ..support.graphs.nodes import save_graph, zero_weight

Shapes = tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Conv, Relu, MatMul; and a product of constants, which a library computes at loading."""
    nodes = [
        helper.make_node("Conv", ["x", "first.weight"], ["a"], name="node_Conv_0"),
        helper.make_node("Relu", ["a"], ["b"], name="node_Relu_1"),
        helper.make_node("MatMul", ["transform", "second.weight"], ["w"], name="node_MatMul_2"),
        helper.make_node("MatMul", ["b", "w"], ["c"], name="node_MatMul_3"),
    ]
    shapes = {"first.weight": (6, 3, 3, 3), "transform": (8, 5), "second.weight": (5, 7)}
    weights = [zero_weight(name, *shape) for name, shape in shapes.items()]
    return save_graph(tmp_path / "m.onnx", nodes, {"x": [1, 3, 10, 10]}, ["c"], weights)


CONV, PRODUCT = 6 * 8 * 8 * 27, 6 * 8 * 8 * 7


def _event(name: str, operator: str, ms: float = 1.0, shapes: Shapes | None = None) -> Event:
    return Event(name, operator, "", ms, shapes)


@pytest.mark.parametrize(
    "name", ["node_Conv_0", "b_nchwc", "a_nchwc", "node_Conv_0/WithoutBiases", "fused node_Conv_0"]
)
def test_a_node_is_found_by_what_libraries_call_it(name: str, graph: Path) -> None:
    (operator,) = name_operators([[_event(name, "FusedConv")]], graph, 9)
    assert operator.layer == "first"
    assert operator.macs == CONV


def test_work_is_counted_once_and_not_for_constants(graph: Path) -> None:
    names = ("node_Conv_0 Convolution", "node_Conv_0 Add", "node_MatMul_3 MatMul", "reorder Reorder")
    call = [_event(*name.split()) for name in names]
    operators = name_operators([call], graph, 9)
    assert sum(operator.macs or 0 for operator in operators) == CONV + PRODUCT
    assert {operator.layer for operator in operators} == {"first", "second", ""}
    assert unmatched_work(operators, graph, 9) == 0
    assert unmatched_work(operators[:1], graph, 9) == PRODUCT


def test_times_are_medians_of_calls_and_sums_within_one(graph: Path) -> None:
    twice = [_event("r", "Reorder", 2.0), _event("r", "Reorder", 2.5)]
    calls = [[_event("node_Conv_0", "Conv", ms), *twice] for ms in (1.0, 3.0, 90.0)]
    operators = name_operators(calls, graph, 9)
    assert [(operator.name, operator.ms) for operator in operators] == [("r", 4.5), ("node_Conv_0", 3.0)]


@pytest.mark.parametrize(
    ("operator", "shapes", "macs"),
    [
        ("FusedConv", (((1, 3, 10, 10), (6, 3, 3, 3), (6,)), (1, 6, 8, 8)), CONV),
        ("QLinearConv", (((1, 3, 10, 10), (), (), (6, 3, 3, 3), (6,), ()), (1, 6, 8, 8)), CONV),
        ("FusedMatMul", (((4, 5), (5, 7)), (4, 7)), 4 * 5 * 7),
        ("FusedMatMul", (((5, 4), (5, 7)), (4, 7)), 4 * 5 * 7),
        ("MatMul", (((2, 4, 5), (2, 5, 7)), (2, 4, 7)), 2 * 4 * 5 * 7),
        ("FusedGemm", (((9, 256), (16,)), (9, 16)), 9 * 256 * 16),
        ("Add", (((4, 5), (4, 5)), (4, 5)), None),
        ("Conv", None, None),
    ],
)
def test_work_from_shapes(operator: str, shapes: Shapes | None, macs: int | None) -> None:
    assert work_from_shapes(_event("x", operator, 1.0, shapes)) == macs
    (found,) = name_operators([[_event("x", operator, 1.0, shapes)]], None, 9)
    assert found.macs == macs


def test_events_belong_to_the_run_in_which_they_fall(tmp_path: Path) -> None:
    def node(ts: int, name: str) -> dict[str, Any]:
        inputs, outputs = [{"float": [2, 3]}, {"float": []}], [{"float": [2, 3]}]
        facts = {"op_name": "Add", "input_type_shape": inputs, "output_type_shape": outputs}
        return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": 2000, "args": facts}

    runs = [{"cat": "Session", "name": "model_run", "ts": start, "dur": 90} for start in (100, 200)]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps([node(50, "early"), runs[1], node(110, "a"), node(210, "b"), runs[0], node(195, "gap")]))
    calls = read_profile(path)
    assert [[event.name for event in call] for call in calls] == [["a"], ["b"]]
    assert calls[0][0] == Event("a", "Add", "", 2.0, (((2, 3), ()), (2, 3)))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_hooks_leave_no_trace(backend: str, default_bundle: Path) -> None:
    library = pytest.importorskip(backend) if backend == "onnxruntime" else openvino_backend
    name = {"onnxruntime": "InferenceSession", "openvino": "shared_core"}[backend]
    before = getattr(library, name), Bundle.graph
    bundle = Bundle.open(default_bundle)
    with profiler_hooks() as hooks:
        assert getattr(library, name) is before[0]
        load_backend(bundle, backend, threads=1)
    assert Bundle.graph is before[1]
    with profiler_hooks(profile=True):
        assert getattr(library, name) is not before[0]
    assert (getattr(library, name), Bundle.graph) == before
    assert set(hooks.graphs) == {"template", "search", "relation"}
    assert all(path.parent == default_bundle for path in hooks.graphs.values())
    assert not hooks.sessions
    assert not hooks.requests


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_profile_of_a_bundle(backend: str, default_bundle: Path) -> None:
    pytest.importorskip(backend)
    words = "--frames 3 --threads 1 --stage template search relation --backend"
    report = bench_report("profile", default_bundle, words, backend)
    stages = report["backends"][backend]["stages"]
    assert list(stages) == ["template", "search", "relation"]
    for stage, figures in stages.items():
        assert figures["calls"] == 3
        assert figures["graph"].startswith(stage)
        assert sum(o["share"] for o in figures["operators"]) == pytest.approx(1)
        assert sum(kind["share"] for kind in figures["by_type"].values()) == pytest.approx(1)
        times = [o["ms"] for o in figures["operators"]]
        assert times == sorted(times, reverse=True)
        matched = sum(o["mmac"] or 0 for o in figures["operators"])
        assert figures["unmatched_mmac"] == pytest.approx(0, abs=0.02 * matched)
        if stage != "template":
            assert report["backends"][backend]["roofline"][stage]["mmac"] == pytest.approx(matched, rel=0.02)
    assert {"conv1_trimmed", "conv2", "conv3", "conv4", "conv5"} <= {o["layer"] for o in stages["search"]["operators"]}


def test_table(default_bundle: Path) -> None:
    words = "--backend onnxruntime --frames 2 --threads 1 --quiet --top 4 --stage search"
    ran = spm_bench("profile", default_bundle, words)
    assert ran.status == 0
    printed = ran.out
    for word in ("onnxruntime search (search_", "others", "by type: ", "million MAC", "roofline", "of peak", "conv2"):
        assert word in printed
    assert "onnxruntime relation (" not in printed


def test_constant_products_are_not_counted(graph: Path) -> None:
    assert [(layer.name, layer.macs) for layer in count_layers(graph, 9)] == [("first", CONV), ("second", PRODUCT)]
