"""int8 as TensorRT wants it said: signed codes, no zero points, the layers and ranges of the graphs for CPUs."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from spm_export.bundle import ExportOptions
from spm_export.calibration import Calibration
from spm_export.graphs.fast import build_plain_search
from spm_export.graphs.forms import bundle_weights
from spm_export.graphs.int8 import (
    LAYERS,
    Grid,
    Quantization,
    QuantizedBuilder,
    SignedBuilder,
    best_grid,
    quantize_weight,
    quantized_weights,
)
from spm_export.graphs.portable import GraphOptions, build_search, convolution
from spm_export.model.network import SPMTracker
from spm_export.model.weights import graph_weights
from spm_export.proof.compare import reference_outputs, sample_inputs
from spm_export.proof.runners import Runner
from spm_rt import Bundle
from spm_rt.bundle import STAGES
from spm_rt.results import Box

from ...support.exports import export_unverified
from ...support.graphs.nodes import draw

Frames = list[NDArray[np.uint8]]
Floats = NDArray[np.float32]


def compute(model: ir.Model, feeds: Mapping[str, Floats]) -> dict[str, Floats]:
    """All outputs, with products of rounded numbers in float32, as the verification has them."""
    runner = Runner(ir.serde.to_proto(model).SerializeToString(), Path(model.graph.name or ""), merge=False)
    return dict(zip(runner.outputs, runner.run(runner.outputs, feeds), strict=True))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, default_model: SPMTracker, calibration: Calibration) -> Bundle:
    """Not verified, for one target and for two; conv4 and linear2 are held to have lost too much."""
    plan = Quantization(calibration.plan.layers - {"conv4", "linear2"}, calibration.plan.grids)
    less = dataclasses.replace(calibration, plan=plan)
    folder = tmp_path_factory.mktemp("signed") / "bundle"
    options = ExportOptions(precision="int8", targets=(1, 2), calibration=less)
    return Bundle.open(export_unverified(default_model, folder, options))


@pytest.mark.parametrize("grid", [Grid(0.25, 0), Grid(0.25, 60), Grid(0.25, 127), Grid(0.25, 10), Grid(0.25, 200, 255)])
def test_signed_codes_reach_as_far_and_no_coarser(grid: Grid) -> None:
    assert grid.signed_scale <= grid.scale * grid.levels / 127
    assert 127 * grid.signed_scale == pytest.approx(max(grid.zero, grid.levels - grid.zero) * grid.scale)


def test_inputs_without_negative_values_have_the_same_codes() -> None:
    grid = best_grid(np.maximum(draw(5000), 0))
    assert grid.zero == 0
    assert grid.signed_scale == pytest.approx(grid.scale, rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_a_convolution_computes_with_rounded_numbers(shift: float) -> None:
    x, weight, bias = draw(1, 4, 9, 9) + np.float32(shift), draw(6, 4, 3, 3, seed=1), draw(6, seed=2)
    grid = best_grid(x.ravel())
    plan = Quantization(frozenset({"layer"}), {"layer.input": grid, "layer.output": Grid(0.1, 0)})
    g = SignedBuilder("part", 17, quantized_weights({"layer.weight": weight, "layer.bias": bias}, plan), plan)
    value = convolution(g, g.input("x", x.shape), "layer", 1)
    found = compute(g.model({"y": (g.op("Identity", value), [1, 6, 9, 9])}, {}), {"x": x})["y"]
    # Written out: tap by tap over the rounded input.
    scale = np.float32(grid.signed_scale)
    rounded = np.pad(np.clip(np.rint(x / scale), -128, 127) * scale, ((0, 0), (0, 0), (1, 1), (1, 1)))
    codes, scales = quantize_weight(weight)
    taps = codes * scales.reshape(-1, 1, 1, 1)
    wanted = np.zeros_like(found) + bias.reshape(1, -1, 1, 1)
    for row, column in itertools.product(range(3), repeat=2):
        part = rounded[0, :, row : row + 9, column : column + 9]
        wanted[0] += np.einsum("oc,chw->ohw", taps[:, :, row, column], part)
    np.testing.assert_allclose(found, np.maximum(wanted, 0), atol=1e-4)


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("variant", ["portable", "flat"])
@pytest.mark.parametrize("stage", STAGES)
def test_the_graphs_follow_tensorrts_rules(stage: str, variant: str, targets: int, bundle: Bundle) -> None:
    """Signed, zero points of zero, one scale per input and one per output channel of a weight, on its first axis."""
    graph = onnx.load(bundle.graph(stage, targets=targets, variant=variant)).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type == "Constant":
            arrays[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    quantized = set()
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero = (arrays[name] for name in node.input[1:])
            assert (scale.ndim, zero.ndim, zero.dtype, int(zero)) == (0, 0, np.int8, 0)
        elif node.op_type in ("Conv", "Gemm") and node.input[1] in makers:
            weight = makers[node.input[1]]
            if weight.op_type != "DequantizeLinear":  # the head's kernel, which comes at run time: all in float32
                assert weight.op_type == "Reshape"
                assert makers[node.input[0]].op_type != "DequantizeLinear"
                continue
            codes, scales = (arrays[name] for name in weight.input)
            assert codes.dtype == np.int8
            assert scales.shape == codes.shape[:1]
            assert [(a.name, a.i) for a in weight.attribute] == [("axis", 0)]
            entry = makers[node.input[0]]
            assert (entry.op_type, makers[entry.input[0]].op_type) == ("DequantizeLinear", "QuantizeLinear")
            assert list(entry.input[1:]) == list(makers[entry.input[0]].input[1:])
            quantized.add(weight.input[0].removesuffix(".weight_int8"))
    assert quantized == set(LAYERS.get(stage, ())) - {"conv4", "linear2"}


def test_both_ways_compute_the_same(
    default_model: SPMTracker, calibration: Calibration, clip: Frames, clip_box: Box
) -> None:
    """Where inputs have no negative values, signed and unsigned codes are the same, and so are the graphs' outputs."""
    plan = Quantization(calibration.plan.layers - {"conv1", "relate_proposal"}, calibration.plan.grids)
    assert {plan.grids[f"{layer}.input"].zero for layer in plan.layers} == {0}
    weights = bundle_weights(graph_weights(default_model), "int8", plan)
    _, given = next(itertools.islice(sample_inputs(default_model, clip, clip_box), 2, 3))
    exact = reference_outputs(default_model, given)
    make = functools.partial(SignedBuilder, plan=plan)
    feeds = {"crop": given["search"], **{name: exact["template"][name] for name in ("head_kernel", "head_bias")}}
    found = compute(build_search(default_model.spec, weights, GraphOptions(), make), feeds)
    unsigned = functools.partial(QuantizedBuilder, plan=plan)
    other = compute(build_plain_search(default_model.spec, weights, GraphOptions(), unsigned), feeds)
    deep = found["deep"].reshape(1, 384, -1).transpose(0, 2, 1)
    # A value in the middle of two codes may go to either, here and there.
    assert np.abs(deep - other["deep"]).mean() < 1e-3 * np.abs(deep).mean()
    assert np.abs(found["deep"] - exact["search"]["deep"]).mean() > 2e-3 * np.abs(deep).mean()
    np.testing.assert_allclose(found["scores"], other["scores"], atol=0.02)
