"""int8: grids, weights, graphs against the rounded reference, the choice of layers, and what is refused.

First as libraries for CPUs have it, then as TensorRT wants it said: signed codes, no zero points.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.numpy import load_file
from torch.nn import functional as F

import spm_export.bundle as exporter
import spm_export.calibration as calibrate_module
from spm_export.bundle import ExportOptions, export_bundle
from spm_export.calibration import Calibration, calibrate, calibration_clips, calibration_steps
from spm_export.calibration.balancing import expected_error, make_plan
from spm_export.calibration.following import Sample, Seen, sampled
from spm_export.calibration.rounding import quantized, rounded_weight
from spm_export.cli import DEMO_BOX, main
from spm_export.graphs import int8
from spm_export.graphs.builder import GraphOptions
from spm_export.graphs.fast import build_plain_relation, build_plain_search
from spm_export.graphs.forms import build_graph, bundle_weights
from spm_export.graphs.int8 import Grid, Quantization, QuantizedBuilder, SignedBuilder, best_grid
from spm_export.graphs.portable import build_search, convolution
from spm_export.graphs.quantizable import ALEXNET, LIGHT, RELATION, Quantizable, quantizable
from spm_export.model.network import SPMTracker
from spm_export.model.weights import graph_weights
from spm_export.proof.bounds import TRACK_BOUNDS, tolerance
from spm_export.proof.compare import Arrays, TensorCheck, reference_outputs, sample_inputs
from spm_export.proof.runners import Runner
from spm_export.proof.verification import Verification
from spm_rt import Bundle, ExportError, SourceError, Tracker, TrackerSettings
from spm_rt.backends import load_backend
from spm_rt.bundle import STAGES
from spm_rt.bundle.forms import graphs_of
from spm_rt.frame.geometry import iou
from spm_rt.trackers.compare import follow_both

from ...support.exports import UNVERIFIED, Frames, export_quickly, export_unverified, verify_quickly
from ...support.graphs.nodes import draw
from ...support.graphs.sessions import run, session_of

Floats = NDArray[np.float32]
Refusal = Callable[..., str]
Case = tuple[Arrays, dict[str, Arrays]]
Calibrated = tuple[SPMTracker, Calibration]
Factory = pytest.TempPathFactory


@pytest.fixture(scope="module")
def int8_bundle(tmp_path_factory: Factory, default_model: SPMTracker, calibration: Calibration, clip: Frames) -> Path:
    folder, options = tmp_path_factory.mktemp("int8") / "bundle", int8_options(calibration)
    # Where another proposal wins, a frame's overlap is 0.9: the mean of a handful of frames may miss the bound.
    return export_quickly(default_model, folder, options, clip, DEMO_BOX, frames=16)


@pytest.fixture(scope="module")
def given(calibrated: Calibrated, clip: Frames) -> Arrays:
    """Crops, boxes and proposals of a frame of the clip."""
    return next(itertools.islice(sample_inputs(calibrated[0], clip, DEMO_BOX), 2, 3))[1]


@pytest.fixture(scope="module")
def case(calibrated: Calibrated, given: Arrays) -> Case:
    """Inputs of the search graphs on a frame of the clip, and what the reference gives there."""
    exact = reference_outputs(calibrated[0], given)
    return {"crop": given["search"], **{n: exact["template"][n] for n in ("head_kernel", "head_bias")}}, exact


def channels_last(maps: Floats) -> Floats:
    return maps.reshape(*maps.shape[:2], -1).transpose(0, 2, 1)


def int8_options(calibration: Calibration) -> ExportOptions:
    return ExportOptions(precision="int8", calibration=calibration)


@pytest.fixture
def refusal(tmp_path: Path, default_model: SPMTracker, clip: Frames, monkeypatch: pytest.MonkeyPatch) -> Refusal:
    """Exports with a calibration, compared in these forms, must be refused without a trace; gives the error's text."""

    def run(calibration: Calibration, *forms: str) -> str:
        verify_quickly(monkeypatch, variants=forms)
        monkeypatch.setattr(exporter, "MOST_RETURNED", 0)
        with pytest.raises(ExportError) as refused:
            export_bundle(default_model, tmp_path / "b", int8_options(calibration), clip[:3], DEMO_BOX, "clip")
        assert not (tmp_path / "b").exists()
        return str(refused.value)

    return run


@pytest.mark.parametrize("model", [ALEXNET, LIGHT])
def test_pairs_of_products_fit_into_sixteen_bits(model: Quantizable) -> None:
    assert np.iinfo(np.int16).max >= 2 * model.input_levels * model.weight_limit


@pytest.mark.parametrize(("shift", "zero_at_edge"), [(0.0, False), (-10.0, True), (10.0, True)])
def test_a_grid_holds_zero_and_rounds_to_half_a_step(shift: float, zero_at_edge: bool) -> None:
    values = draw(5000) + np.float32(shift)
    grid = best_grid(values)
    assert grid.rounded(np.zeros(1, np.float32))[0] == 0
    assert (grid.zero in (0, int8.INPUT_LEVELS)) == zero_at_edge
    codes = grid.codes(values)
    assert 0 <= codes.min() <= codes.max() <= int8.INPUT_LEVELS
    inside = (codes > 0) & (codes < int8.INPUT_LEVELS)
    assert inside.mean() > 0.9
    assert np.abs(grid.rounded(values) - values)[inside].max() <= grid.scale * 0.5001


def test_a_grid_of_nothing_but_zeros() -> None:
    assert best_grid(np.zeros(9, np.float32)) == Grid(1.0, 0)


def test_one_far_value_does_not_cost_all_the_others_their_digits() -> None:
    values = np.append(np.abs(draw(500_000)), np.float32(12)).astype(np.float32)
    assert best_grid(values).scale < 0.75 * 12 / int8.INPUT_LEVELS


def test_weights_are_rounded_channel_by_channel() -> None:
    weight = draw(4, 3, 5, 5) * np.array([1, 100, 1e-3, 0], np.float32).reshape(4, 1, 1, 1)
    codes, scales, _ = int8.quantize_weight(weight)
    assert codes.dtype == np.int8
    assert np.abs(codes).max() <= int8.WEIGHT_LIMIT
    error = np.abs(codes * scales.reshape(4, 1, 1, 1) - weight).reshape(4, -1)
    share = np.square(error).mean(axis=1) / np.maximum(np.square(weight).reshape(4, -1).mean(axis=1), 1e-12)
    assert share.max() < 1e-4
    assert (codes[3] == 0).all()


@pytest.mark.parametrize(("outputs", "integers"), [((), False), (("layer",), False), (("layer",), True)])
def test_a_quantised_convolution_computes_with_rounded_numbers(outputs: tuple[str, ...], integers: bool) -> None:
    x, weight, bias = draw(1, 4, 9, 9), draw(6, 4, 3, 3, seed=1), draw(6, seed=2)
    entry, out = best_grid(x.ravel()), Grid(0.11, 0)
    plan = Quantization(frozenset({"layer"}), {"layer.input": entry, "layer.output": out})
    weights = int8.quantized_weights({"layer.weight": weight, "layer.bias": bias}, plan)
    g = QuantizedBuilder("part", 17, weights, plan, outputs, integers)
    value = convolution(g, g.input("x", x.shape), "layer", 1)
    model = g.model({"y": (g.op("Identity", value), [1, 6, 9, 9])}, {})
    found = run(session_of(ir.serde.to_proto(model)), {"x": x})["y"]
    codes, scales, _ = int8.quantize_weight(weight)
    rounded = (entry.rounded(x), codes * scales.reshape(-1, 1, 1, 1), bias)
    exact = F.conv2d(*map(torch.from_numpy, rounded), padding=1).relu().numpy()
    wanted = out.rounded(exact) if outputs else exact
    # With outputs on a grid, a value halfway between two codes may go to either, and the bias has a step of its own.
    np.testing.assert_allclose(found, wanted, atol=0.111 if outputs else 1e-4)
    if outputs:
        assert np.abs(found - wanted).mean() < 0.01


def test_a_channel_of_next_to_no_weight_keeps_its_bias() -> None:
    x, weight, bias = draw(1, 4, 9, 9), draw(6, 4, 3, 3, seed=1), np.full(6, 0.5, np.float32)
    weight[2] *= 1e-12
    plan = Quantization(frozenset({"layer"}), {"layer.input": best_grid(x.ravel()), "layer.output": Grid(0.11, 0)})
    weights = int8.quantized_weights({"layer.weight": weight, "layer.bias": bias}, plan)
    g = QuantizedBuilder("part", 17, weights, plan, ("layer",), True)
    value = convolution(g, g.input("x", x.shape), "layer", 1)
    found = run(session_of(ir.serde.to_proto(g.model({"y": (g.op("Identity", value), [1, 6, 9, 9])}, {}))), {"x": x})
    np.testing.assert_allclose(found["y"][0, 2], 0.5, atol=0.06)


def test_onnx_runtime_leaves_the_weights_of_a_layer_between_two_rounded_ones_alone() -> None:
    weights = {name: np.ones((2, 2, 1, 1), np.float32) for name in ("before.weight", "middle.weight", "behind.weight")}
    weights["middle.weight"][1] = 0.001
    weights |= {name.replace("weight", "bias"): np.zeros(2, np.float32) for name in weights}
    grids = {"before.input": 1.0, "before.output": 1.0, "behind.input": 0.002, "behind.output": 0.01}
    plan = Quantization(frozenset({"before", "behind"}), {name: Grid(step, 0, 255) for name, step in grids.items()})
    g = QuantizedBuilder("part", 17, int8.quantized_weights(weights, plan), plan, ("before", "behind"), True)
    value = g.input("x", [1, 2, 4, 4])
    for layer in ("before", "middle", "behind"):
        value = g.layer("Conv", value, layer)
    model = g.model({"y": (g.op("Identity", value), [1, 2, 4, 4])}, {})
    found = run(session_of(ir.serde.to_proto(model)), {"x": np.full((1, 2, 4, 4), 50, np.float32)})["y"]
    # 200 ends at the next layer's 0.51; 0.001 * 200 is left.
    np.testing.assert_allclose(found, 0.51 + 0.2, atol=0.011)


def test_layers_that_were_not_chosen_stay_as_they_are() -> None:
    plan = Quantization(frozenset(), {})
    weights = int8.quantized_weights({"layer.weight": draw(6, 4, 3, 3)}, plan)
    assert set(weights) == {"layer.weight"}
    g = QuantizedBuilder("part", 17, weights, plan, ("layer",), True)
    convolution(g, g.input("x", (1, 4, 9, 9)), "layer", 1)
    assert [node.op_type for node in g._tape.nodes if node.op_type != "Constant"] == ["Conv", "Relu"]


def test_an_error_counts_by_the_weights_that_it_meets() -> None:
    """One channel reaches far and hardly counts: what it loses by a narrower range is given to the other one."""
    values = np.stack([draw(4000), 40 * draw(4000, seed=1)], axis=1)
    alike = best_grid(values)
    assert best_grid(values, importance=np.array([1, 1e-6], np.float32)).scale < 0.5 * alike.scale
    assert best_grid(values, importance=np.array([1, 1], np.float32)) == alike


@pytest.mark.parametrize("groups", [1, 2])
def test_balanced_channels_lose_less_and_the_expected_error_is_the_one_that_comes(groups: int) -> None:
    """conv5 of a small network, one of whose channels reaches thirty times as far as the others."""
    x, weight = draw(4, 8, 20, 20), draw(6, 8 // groups, 3, 3, seed=1)
    x[:, 5] *= 30
    weight[(3 if groups == 2 else 0) :, 5 % (8 // groups)] /= 30
    rows = np.ascontiguousarray(x.transpose(0, 2, 3, 1).reshape(-1, 8))
    seen = [Sample(rows, rows.min(axis=0), rows.max(axis=0))]
    plan = make_plan({"conv5.input": seen, "conv5.output": seen}, {"conv5": weight})
    ones = np.ones(8, np.float32)

    def error(grid: Grid, factors: Floats) -> float:
        spread = factors.reshape(-1, 1, 1)
        rounded = (grid.rounded(x / spread) * spread, rounded_weight(weight, factors))
        outputs = [F.conv2d(*map(torch.from_numpy, pair), groups=groups).numpy() for pair in (rounded, (x, weight))]
        return float(np.square(outputs[0] - outputs[1]).mean(axis=(0, 2, 3)).sum())

    balanced, plain = (plan.grids["conv5.input"], plan.factors["conv5"]), (best_grid(rows), ones)
    assert error(*balanced) < 0.3 * error(*plain)
    for pair in (balanced, plain):
        assert expected_error(seen, weight, *pair) == pytest.approx(error(*pair), rel=0.2)


def test_sampling_sees_every_layer_and_leaves_the_model_alone(calibrated: Calibrated) -> None:
    model, calibration = calibrated
    layers = calibration.plan.model.all_layers
    assert set(calibration.plan.grids) == {f"{layer}.{side}" for layer in layers for side in ("input", "output")}
    with pytest.raises(RuntimeError, match="stop"), sampled(model, Seen({}, {}), np.random.default_rng(0)):
        raise RuntimeError("stop")
    assert not any(module._forward_hooks for module in model.modules())


def test_rounding_the_reference_is_undone(calibrated: Calibrated) -> None:
    model, calibration = calibrated
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with quantized(model, calibration.plan):
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    biases = {name for name in changed if name.endswith("bias")}
    assert len(biases) == len(calibration.plan.rounded)
    assert len(changed - biases) == len(calibration.plan.layers)
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_channels_of_trained_layers_are_balanced(calibration: Calibration) -> None:
    assert all(calibration.plan.factors[layer].std() > 0.1 for layer in RELATION)


@torch.inference_mode()
def test_the_search_graph_computes_what_the_rounded_reference_computes(calibrated: Calibrated, case: Case) -> None:
    """Of five layers: where a value lies between two codes, either may come, and all values behind it differ."""
    model, calibration = calibrated
    feeds, exact = case
    known = calibration.plan.model.search
    plan = dataclasses.replace(calibration.plan, layers=frozenset({*known[:2], *known[-3:]}))
    weights = bundle_weights(graph_weights(model), "int8", plan)
    graph = build_plain_search(weights, GraphOptions(model.spec), functools.partial(QuantizedBuilder, plan=plan))
    # Merged, biases would be rounded too.
    session = Runner(ir.serde.to_proto(graph).SerializeToString(), Path("search"), merge=False).session
    found = run(session, feeds)
    with quantized(model, plan):
        features = model.features(torch.from_numpy(feeds["crop"]))
    deep = channels_last(features.deep.numpy())
    lost = np.abs(channels_last(exact["search"]["deep"]) - deep).mean()
    assert np.abs(found["deep"] - deep).mean() < 0.1 * lost
    assert np.abs(found["scores"] - exact["search"]["scores"]).max() < 0.1


@pytest.mark.parametrize("without", [set(), {"linear1"}, {"linear2"}])
def test_the_relation_graph_computes_what_the_rounded_reference_computes(
    without: set[str], calibrated: Calibrated, given: Arrays, case: Case
) -> None:
    """Factors become part of the RoI's scale and of linear1, whether that is rounded itself or not."""
    model, calibration = calibrated
    plan = dataclasses.replace(calibration.plan, layers=frozenset(RELATION) - without)
    with quantized(model, plan):
        rounded = reference_outputs(model, given)["relation"]
    exact = case[1]
    maps = {name: channels_last(exact["search"][name]) for name in ("shallow", "deep")}
    feeds = {**maps, "target_half": exact["template"]["target_half"], "proposals": given["proposals"]}
    weights = bundle_weights(graph_weights(model), "int8", plan)
    graph = build_plain_relation(weights, GraphOptions(model.spec), functools.partial(QuantizedBuilder, plan=plan))
    found = run(session_of(ir.serde.to_proto(graph)), feeds)
    lost = np.abs(rounded["boxes"] - exact["relation"]["boxes"]).mean()
    assert np.abs(found["boxes"] - rounded["boxes"]).mean() < 0.1 * lost


def test_onnx_runtime_computes_every_rounded_layer_of_search_in_integers(
    calibrated: Calibrated, case: Case, tmp_path: Path
) -> None:
    """Sums of rounded parts too; where activations have a limit, the end of the codes is it."""
    model, calibration = calibrated
    how = {"precision": "int8", "plan": calibration.plan}
    weights = bundle_weights(graph_weights(model), "int8", calibration.plan)
    graph = build_graph("search", "fast_expanded", model.spec, weights, **how)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "made.onnx")
    onnxruntime.InferenceSession(ir.serde.to_proto(graph).SerializeToString(), options, ["CPUExecutionProvider"])
    made = Counter(node.op_type for node in onnx.load(tmp_path / "made.onnx").graph.node)
    assert made["QLinearConv"] == len(calibration.plan.model.search) == len(calibration.plan.layers) - len(RELATION)
    sums = [name for name in calibration.plan.model.following if name.count(".") == 2]
    assert made["QLinearAdd"] == len(sums)
    assert made["Clip"] == 0


def test_layers_that_lose_accuracy_stay_float32(
    calibrated: Calibrated, clip: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, known = calibrated
    allowed = float(np.median([drift.overlap for drift in known.drifts]))
    monkeypatch.setattr(calibrate_module, "LAYER_IOU", allowed)
    steps: list[int] = []
    found = calibrate(model, TrackerSettings(), [("clip", lambda: clip[:3], DEMO_BOX)], lambda: steps.append(1))
    assert tuple(drift.layer for drift in found.drifts) == quantizable(model.spec).all_layers
    score = calibrate_module.LAYER_SCORE
    close = {drift.layer for drift in found.drifts if drift.overlap >= allowed and drift.score <= score}
    assert found.plan.layers == close
    assert 0 < len(close) < len(found.drifts)
    assert len(steps) == calibration_steps(model, 1)


def test_the_most_sensitive_layers_go_back_to_float32_while_something_drifts(
    tmp_path: Path, default_model: SPMTracker, calibration: Calibration, clip: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First an output, then boxes on the clip, then nothing."""
    tried: list[frozenset[str]] = []
    least_sensitive = [drift.layer for drift in sorted(calibration.drifts, key=lambda drift: -drift.overlap)]

    def verified(model: SPMTracker, bundle: Bundle, *_: object) -> Verification:
        layers = bundle.manifest["quantization"]["layers"]
        tried.append(frozenset(layer["layer"] for layer in layers if layer["chosen"]))
        track = dataclasses.replace(UNVERIFIED.track, close_share=0.9 if len(tried) == 2 else 1.0)
        return dataclasses.replace(UNVERIFIED, tensors=[output_off_by(1.9 if len(tried) == 1 else 0.9)], track=track)

    monkeypatch.setattr(exporter, "verify", verified)
    monkeypatch.setitem(TRACK_BOUNDS, "float32", TRACK_BOUNDS["int8"])
    export_bundle(default_model, tmp_path / "b", int8_options(calibration), clip[:2], DEMO_BOX, "clip")
    assert tried == [frozenset(least_sensitive[:count]) for count in (8, 7, 6)]
    weights = load_file(tmp_path / "b" / "weights.safetensors")
    assert not any(name.startswith(tuple(least_sensitive[6:])) and name.endswith("_int8") for name in weights)


def test_an_output_off_by_more_than_rounding_does_is_no_drift() -> None:
    assert dataclasses.replace(UNVERIFIED, tensors=[output_off_by(1.9)]).only_drifts
    assert not dataclasses.replace(UNVERIFIED, tensors=[output_off_by(2.1)]).only_drifts


def output_off_by(share: float) -> TensorCheck:
    return TensorCheck("fast", "search", "boxes", "absolute", 20 * share, 1.0, 20.0)


def test_a_clip_of_one_frame_is_refused(default_model: SPMTracker, clip: Frames) -> None:
    with pytest.raises(ExportError, match="second frame"):
        calibrate(default_model, TrackerSettings(), [("clip", lambda: clip[:1], DEMO_BOX)])


def test_an_int8_bundle_says_so_and_tracks_alike(int8_bundle: Path, default_bundle: Path, clip: Frames) -> None:
    bundle = Bundle.open(int8_bundle)
    assert bundle.manifest["precision"] == "int8"
    assert {d["layer"] for d in bundle.manifest["quantization"]["layers"]} >= {"conv1", "linear1"}
    for backend in ("onnxruntime", "openvino"):
        if backend == "openvino":
            pytest.importorskip("openvino")
        float32, int8 = (Tracker.load(path, backend, threads=1) for path in (default_bundle, int8_bundle))
        tracks = follow_both(float32, int8, clip[:8], DEMO_BOX)
        overlaps = iou(tracks.first, tracks.forced)
        assert overlaps.mean() > 0.95
        assert overlaps.min() < 1  # it did compute something else


def test_both_ways_of_saying_int8_are_verified(int8_bundle: Path) -> None:
    found = json.loads((int8_bundle / "verification.json").read_text())
    assert found["portable_track"]["passed"]
    assert found["portable_track"]["precision"] == "int8"
    assert 0.97 <= found["portable_track"]["mean_iou"] < 1
    assert found["portable_track"] != found["track"]
    compared = {(c["stage"], c["variant"], c["tolerance"]) for c in found["tensors"] if c["tensor"] == "boxes"}
    pairs = {(stage, variant) for stage, variant in graphs_of("int8") if stage != "template"}
    bounds = {"search": 20.0, "relation": 8.0}
    assert {c[:2] for c in compared} == pairs
    assert compared >= {(*pair, 0.02 if pair[1] == "plain" else bounds[pair[0]]) for pair in pairs}


def test_what_drifts_too_far_is_refused_with_its_figures(
    refusal: Refusal, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRACK_BOUNDS, "int8", (1.0, 0.9999, 1.0))
    message = refusal(calibration, "fast")
    assert re.search(r"mean IoU 0\.9.*allowed", message)
    assert "boxes on clip, portable graphs: mean IoU 0.9" in message


def test_a_broken_int8_graph_is_refused(refusal: Refusal, calibration: Calibration) -> None:
    grids = {**calibration.plan.grids, "conv4.input": Grid(1e-3, 0)}
    broken = dataclasses.replace(calibration, plan=Quantization(calibration.plan.layers, grids))
    assert "fast search.deep" in refusal(broken, "fast")


def test_a_broken_graph_for_tensorrt_is_refused(
    refusal: Refusal, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Grid, "signed_scale", 1e-3)
    message = refusal(calibration)
    assert "boxes on clip, portable graphs: mean IoU 0" in message
    assert {line.split()[0] for line in message.splitlines() if "worst" in line} == {"portable", "flat"}


def test_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--calibration", str(tmp_path), "--out", str(tmp_path / "b")]) == 1
    assert "--precision int8" in capsys.readouterr().err
    with pytest.raises(SourceError, match="no clips"):
        calibration_clips(tmp_path)


# As TensorRT wants it said.

LOST = frozenset({"conv4", "blocks.2.1.depthwise", "linear2"})


def compute(model: ir.Model, feeds: Mapping[str, Floats]) -> dict[str, Floats]:
    """All outputs, with products of rounded numbers in float32, as the verification has them."""
    runner = Runner(ir.serde.to_proto(model).SerializeToString(), Path(model.graph.name or ""), merge=False)
    return dict(zip(runner.outputs, runner.run(runner.outputs, feeds), strict=True))


@pytest.fixture(scope="module")
def signed_bundle(tmp_path_factory: Factory, calibrated: Calibrated) -> Bundle:
    """Not verified, for one target and for two; two layers are held to have lost too much."""
    model, calibration = calibrated
    plan = dataclasses.replace(calibration.plan, layers=calibration.plan.layers - LOST)
    less = dataclasses.replace(calibration, plan=plan)
    folder = tmp_path_factory.mktemp("signed") / "bundle"
    options = ExportOptions(precision="int8", targets=(1, 2), calibration=less)
    return Bundle.open(export_unverified(model, folder, options))


@pytest.mark.parametrize("grid", [Grid(0.25, 0), Grid(0.25, 60), Grid(0.25, 127), Grid(0.25, 10), Grid(0.25, 200, 255)])
def test_signed_codes_reach_as_far_and_no_coarser(grid: Grid) -> None:
    assert grid.signed_scale <= grid.scale * grid.levels / 127
    assert 127 * grid.signed_scale == pytest.approx(max(grid.zero, grid.levels - grid.zero) * grid.scale)


def test_inputs_without_negative_values_have_the_same_codes() -> None:
    grid = best_grid(np.maximum(draw(5000), 0))
    assert grid.zero == 0
    assert grid.signed_scale == pytest.approx(grid.scale, rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_a_signed_convolution_computes_with_rounded_numbers(shift: float) -> None:
    x, weight, bias = draw(1, 4, 9, 9) + np.float32(shift), draw(6, 4, 3, 3, seed=1), draw(6, seed=2)
    grid = best_grid(x.ravel())
    plan = Quantization(frozenset({"layer"}), {"layer.input": grid, "layer.output": Grid(0.1, 0)})
    g = SignedBuilder("part", 17, int8.quantized_weights({"layer.weight": weight, "layer.bias": bias}, plan), plan)
    value = convolution(g, g.input("x", x.shape), "layer", 1)
    found = compute(g.model({"y": (g.op("Identity", value), [1, 6, 9, 9])}, {}), {"x": x})["y"]
    # Written out: tap by tap over the rounded input.
    scale = np.float32(grid.signed_scale)
    rounded = np.pad(np.clip(np.rint(x / scale), -128, 127) * scale, ((0, 0), (0, 0), (1, 1), (1, 1)))
    codes, scales, _ = int8.quantize_weight(weight)
    taps = codes * scales.reshape(-1, 1, 1, 1)
    wanted = np.zeros_like(found) + bias.reshape(1, -1, 1, 1)
    for row, column in itertools.product(range(3), repeat=2):
        part = rounded[0, :, row : row + 9, column : column + 9]
        wanted[0] += np.einsum("oc,chw->ohw", taps[:, :, row, column], part)
    np.testing.assert_allclose(found, np.maximum(wanted, 0), atol=1e-4)


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("variant", ["portable", "flat"])
@pytest.mark.parametrize("stage", STAGES)
def test_the_graphs_follow_tensorrts_rules(stage: str, variant: str, targets: int, signed_bundle: Bundle) -> None:
    """Signed, zero points of zero, one scale per input and one per output channel of a weight, on its first axis."""
    graph = onnx.load(signed_bundle.graph(stage, targets=targets, variant=variant)).graph
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
    assert quantized == set(quantizable(signed_bundle.spec).layers.get(stage, ())) - LOST


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_libraries_for_cpus_compute_both_stages_rounded(
    backend: str, signed_bundle: Bundle, given: Arrays, case: Case
) -> None:
    pytest.importorskip(backend)
    context = load_backend(signed_bundle, backend, threads=1).context()
    context.crop[:] = given["template"]
    context.set_template(given["box"])
    context.crop[:] = given["search"]
    found = {"search": context.search(), "relation": context.relate(given["proposals"])}
    for stage, (scores, boxes) in found.items():
        for name, value in (("scores", scores), ("boxes", boxes)):
            error = np.abs(value - case[1][stage][name]).max()
            assert 0 < error < tolerance(stage, name, "int8")[1]


def test_both_ways_compute_the_same(default_model: SPMTracker, calibration: Calibration, clip: Frames) -> None:
    """Where inputs have no negative values, signed and unsigned codes are the same, and so are the graphs' outputs."""
    plan = Quantization(calibration.plan.layers - {"conv1", "relate_proposal"}, calibration.plan.grids)
    assert {plan.grids[f"{layer}.input"].zero for layer in plan.layers} == {0}
    weights = bundle_weights(graph_weights(default_model), "int8", plan)
    _, given = next(itertools.islice(sample_inputs(default_model, clip, DEMO_BOX), 2, 3))
    exact = reference_outputs(default_model, given)
    feeds = {"crop": given["search"], **{n: exact["template"][n] for n in ("head_kernel", "head_bias")}}
    make = functools.partial(SignedBuilder, plan=plan)
    found = compute(build_search(weights, GraphOptions(), make), feeds)
    unsigned = functools.partial(QuantizedBuilder, plan=plan)
    other = compute(build_plain_search(weights, GraphOptions(), unsigned), feeds)
    deep = found["deep"].reshape(1, 384, -1).transpose(0, 2, 1)
    # A value in the middle of two codes may go to either, here and there.
    assert np.abs(deep - other["deep"]).mean() < 1e-3 * np.abs(deep).mean()
    assert np.abs(found["deep"] - exact["search"]["deep"]).mean() > 2e-3 * np.abs(deep).mean()
    np.testing.assert_allclose(found["scores"], other["scores"], atol=0.02)
