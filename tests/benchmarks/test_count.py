"""Multiply-adds, on graphs small enough to count by hand and on a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from onnx import helper

from spm_bench.profiling.multiply_adds import count_layers
from spm_rt.errors import BundleError

from ..support.bench import spm_bench
from ..support.graphs.nodes import save_graph, zero_weight


def test_counts_by_hand(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "grouped.weight"], ["a"], group=2, pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["a", "up.weight"], ["b"]),
        helper.make_node("Relu", ["b"], ["b2"]),
        helper.make_node("Flatten", ["b2"], ["c"]),
        helper.make_node("Gemm", ["c", "linear.weight"], ["d"], transB=1),
        helper.make_node("MatMul", ["p", "product"], ["e"]),
    ]
    shapes = {"grouped.weight": (6, 2, 3, 3), "up.weight": (6, 5, 2, 2), "linear.weight": (7, 210), "product": (8, 3)}
    weights = [zero_weight(name, *shape) for name, shape in shapes.items()]
    path = save_graph(tmp_path / "m.onnx", nodes, {"x": [1, 4, 5, 6], "p": [2, "K", 8]}, ["d", "e"], weights)
    layers = count_layers(path, proposals=9)
    assert [(layer.name, layer.macs) for layer in layers] == [
        ("grouped", 6 * 5 * 6 * (2 * 3 * 3)),
        ("up", 6 * 5 * 6 * (5 * 2 * 2)),
        ("linear", 7 * 210),
        ("product", 2 * 9 * 8 * 3),
    ]
    assert layers[0].shape == (1, 6, 5, 6)


def test_a_shape_that_stays_unknown_is_an_error(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save_graph(tmp_path / "m.onnx", nodes, {"x": ["rows", 4]}, ["y"], [zero_weight("w", 4, 2)])
    with pytest.raises(BundleError, match="MatMul"):
        count_layers(path, 9)


def test_a_frame_costs_less_than_allowed(default_bundle: Path) -> None:
    ran = spm_bench("count", default_bundle, "--json --limit 4.8")
    assert ran.status == 0
    report = json.loads(ran.out)
    layers = {layer["name"]: layer["macs"] for layer in report["graphs"]["search"]["layers"]}
    assert layers["conv1"] == 96 * 136 * 136 * 3 * 11 * 11
    assert layers["conv4"] == 384 * 34 * 34 * 192 * 3 * 3
    assert layers["head_kernel"] == 30 * 19 * 19 * 256 * 6 * 6
    relation = {layer["name"]: layer["macs"] for layer in report["graphs"]["relation"]["layers"]}
    assert relation["relate_proposal"] == 9 * 256 * 6 * 6 * 640 * 3 * 3
    assert report["frame_macs"] == sum(layers.values()) + sum(relation.values())
    assert report["frame_gmac"] <= 4.8
    assert report["released_gmac"] == pytest.approx(5.959, abs=1e-3)


def test_work_grows_with_the_proposals(default_bundle: Path) -> None:
    outcomes = [spm_bench("count", default_bundle, f"-k {k} --json") for k in (1, 6)]
    assert [ran.status for ran in outcomes] == [0, 0]
    one, six = (json.loads(ran.out)["graphs"]["relation"]["macs"] for ran in outcomes)
    assert six == 6 * one


def test_over_the_limit(default_bundle: Path) -> None:
    printed = spm_bench("count", default_bundle, "--limit 1")
    assert printed.status == 1
    assert "over the limit of 1" in printed.error
    assert "conv3" in printed.out
    assert "5.96" in printed.out
