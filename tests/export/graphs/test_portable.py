"""Each rewrite of the graphs against the plain reference, on its own."""

from __future__ import annotations

import copy

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from spm_export.graphs import portable as graphs
from spm_export.graphs.builder import LRN_FORMS, GraphBuilder
from spm_export.graphs.roi import call_roi_crop
from spm_export.model.coarse import correlate
from spm_export.model.network import SPMTracker, center_crop, crop_and_resize, decode, flatten_deltas
from spm_export.model.weights import graph_weights
from spm_rt.settings import MAX_LOG_SCALE, ModelSpec

from ...support.graphs.nodes import draw, evaluate
from ...support.graphs.regions import ROI_BOXES, roi_in_reference
from ...support.recorded import read_arrays

SPEC = ModelSpec()
OPS = read_arrays("ops")
Floats = NDArray[np.float32]
Arrays = dict[str, Floats]


@pytest.fixture(scope="module")
def weights(synthetic_model: SPMTracker) -> Arrays:
    return graph_weights(synthetic_model)


def close(found: Floats, wanted: Floats | torch.Tensor, relative: float) -> None:
    """Within a share of the largest magnitude."""
    expected = np.asarray(wanted)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= relative * np.abs(expected).max()


# Local response normalisation.


@pytest.mark.parametrize("form", LRN_FORMS)
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 300.0])
@pytest.mark.parametrize("shape", [(1, 96, 9, 9), (2, 256, 5, 4), (1, 3, 2, 2)])
def test_lrn(form: str, scale: float, shape: tuple[int, ...]) -> None:
    x = draw(*shape, scale=scale)
    (found,) = evaluate(lambda g, v: graphs.lrn(g, v[0]), x, lrn=form)
    wanted = F.local_response_norm(torch.from_numpy(x), size=5, alpha=1e-4, beta=0.75, k=1.0)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-12)


def test_expanded_lrn_has_no_power() -> None:
    g = GraphBuilder("lrn", 17)
    g.lrn = "expanded"
    graphs.lrn(g, g.input("x", (1, 8, 3, 3)))
    assert not {"LRN", "Pow"} & {node.op_type for node in g._tape.nodes}


# Backbone.


@pytest.mark.parametrize("cells", [SPEC.search_cells, SPEC.template_cells])
@torch.inference_mode()
def test_conv5_on_a_window_is_the_window_of_conv5(cells: int, weights: Arrays, synthetic_model: SPMTracker) -> None:
    deep = np.abs(draw(2, 384, 34, 34, scale=5))
    (found,) = evaluate(lambda g, v: graphs.top_cells(g, v[0], v[0], cells), deep, weights=weights)
    wanted = center_crop(F.relu(synthetic_model.backbone.conv5(torch.from_numpy(deep))), cells)
    close(found, wanted, 1e-5)


@pytest.mark.parametrize("form", LRN_FORMS)
@torch.inference_mode()
def test_backbone(form: str, weights: Arrays, synthetic_model: SPMTracker) -> None:
    crop = np.random.default_rng(1).uniform(0, 255, (1, 3, 271, 271)).astype(np.float32)
    shallow, deep = evaluate(lambda g, v: graphs.backbone(g, v[0]), crop, weights=weights, lrn=form)
    wanted = synthetic_model.features(torch.from_numpy(crop))
    close(shallow, wanted.shallow, 1e-5)
    close(deep, wanted.deep, 1e-5)


# Coarse stage.


@pytest.mark.parametrize("targets", [1, 2])
@torch.inference_mode()
def test_collapsed_head_is_the_plain_head(targets: int, weights: Arrays, synthetic_model: SPMTracker) -> None:
    template, search = np.abs(draw(targets, 256, 6, 6, seed=1)), np.abs(draw(targets, 256, 24, 24, seed=2))

    def both(g: GraphBuilder, v: list[ir.Value]) -> tuple[ir.Value, ...]:
        kernel, bias = graphs.head_kernel(g, v[0])
        return kernel, bias, *graphs.coarse_head(g, v[1], kernel, bias)

    kernel, bias, scores, boxes = evaluate(both, template, search, weights=weights, targets=targets)
    # In float64: sums of 9,216 products differ by more than the bound from one processor's float32 to another's.
    model = copy.deepcopy(synthetic_model).double()
    maps, own, weight, constant = (torch.from_numpy(array).double() for array in (search, template, kernel, bias))
    output = model.coarse(model.coarse.kernels(own), maps)
    wanted_scores, wanted_boxes = model.coarse_boxes(output)
    response = correlate(maps, weight) + constant[:, :, None, None]
    close(response[:, :10].numpy(), output.logits, 1e-5)
    close(response[:, 10:].numpy(), output.deltas, 1e-5)
    np.testing.assert_allclose(scores, wanted_scores, rtol=0, atol=1e-5)
    np.testing.assert_allclose(boxes, wanted_boxes, rtol=0, atol=1e-3)


@torch.inference_mode()
def test_head_kernel_is_the_one_composed_tap_by_tap(weights: Arrays, synthetic_model: SPMTracker) -> None:
    template = np.abs(draw(1, 256, 6, 6, seed=3))
    kernel, bias = evaluate(lambda g, v: graphs.head_kernel(g, v[0]), template, weights=weights)
    wanted_kernel, wanted_bias = synthetic_model.coarse.composed(torch.from_numpy(template))
    close(kernel, wanted_kernel, 1e-5)
    close(bias, wanted_bias, 1e-5)


def test_sigmoid_of_the_difference_is_the_softmax_even_far_out() -> None:
    logits = np.array([[-200, 200], [200, -200], [88, -10], [3, 3], [0, 0.5], [1e4, 1e4 - 2]], np.float32)
    (found,) = evaluate(lambda g, v: g.op("Sigmoid", g.op("Sub", *reversed(g.split(v[0], [1, 1], axis=1)))), logits)
    wanted = torch.from_numpy(logits).double().softmax(-1)[:, 1:]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


# Decoding.


def decode_in_graph(boxes: Floats, deltas: Floats, divisors: tuple[float, float, float, float]) -> Floats:
    def part(g: GraphBuilder, v: list[ir.Value]) -> ir.Value:
        low, high = g.split(v[0], [2, 2], axis=2)
        size = g.op("Add", g.op("Sub", high, low), g.constant(1.0))
        return graphs.decode(g, v[1], g.op("Add", low, g.op("Mul", size, g.constant(0.5))), size, divisors)

    return evaluate(part, boxes[None], deltas[None])[0][0]


@pytest.mark.parametrize(("divisors", "name"), [((1.0, 1.0, 1.0, 1.0), "dec_q1"), ((5.0, 5.0, 10.0, 10.0), "dec_q5")])
def test_decoding_in_the_graph_is_the_recorded_one(divisors: tuple[float, float, float, float], name: str) -> None:
    found = decode_in_graph(OPS["dec_boxes"], OPS["dec_deltas"], divisors)
    np.testing.assert_allclose(found, OPS[name], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 50.0, MAX_LOG_SCALE, -50.0, 0.0])
@pytest.mark.parametrize("channel", [2, 3])
def test_decoding_of_unusual_log_sizes(channel: int, value: float) -> None:
    boxes = np.array([[10, 20, 50, 90]], np.float32)
    deltas = np.array([[0.1, -0.2, 0.3, -0.4]], np.float32)
    deltas[0, channel] = value
    wanted = decode(torch.from_numpy(boxes), torch.from_numpy(deltas))
    assert wanted.isfinite().all()
    np.testing.assert_allclose(decode_in_graph(boxes, deltas, (1.0, 1.0, 1.0, 1.0)), wanted, rtol=1e-5, atol=1e-4)


def test_deltas_of_the_map_are_decoded_in_the_anchors_order(weights: Arrays, synthetic_model: SPMTracker) -> None:
    deltas = draw(1, 20, 19, 19, scale=0.3)

    def part(g: GraphBuilder, v: list[ir.Value]) -> ir.Value:
        flat = g.reshape(g.op("Transpose", v[0], perm=[0, 2, 3, 1]), [1, -1, 4])
        return graphs.decode(g, flat, g.weight("anchor_centers"), g.weight("anchor_sizes"))

    (found,) = evaluate(part, deltas, weights=weights)
    wanted = decode(synthetic_model.anchors, flatten_deltas(torch.from_numpy(deltas)))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3)


# RoI operator.


def roi_in_graph(deep: Floats, shallow: Floats, boxes: Floats, weights: Arrays, opset: int = 17) -> Floats:
    def part(g: GraphBuilder, v: list[ir.Value]) -> ir.Value:
        return call_roi_crop(g, *v, "roi")

    return evaluate(part, deep, shallow, boxes, weights=weights, opset=opset)[0]


@pytest.mark.parametrize("opset", [17, 20])
def test_roi_operator(opset: int, weights: Arrays, synthetic_model: SPMTracker) -> None:
    deep, shallow = np.abs(draw(1, 384, 34, 34, seed=1, scale=9)), np.abs(draw(1, 256, 34, 34, seed=2, scale=30))
    boxes = np.array([list(ROI_BOXES.values())], np.float32)
    found = roi_in_graph(deep, shallow, boxes, weights, opset)
    wanted = roi_in_reference(synthetic_model, deep, shallow, boxes)
    for name, mine, theirs in zip(ROI_BOXES, found, wanted, strict=True):
        np.testing.assert_array_equal(mine == 0, theirs == 0, err_msg=name)
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=5e-5 * np.abs(wanted).max(), err_msg=name)


def test_roi_operator_on_boxes_that_end_on_every_cell(weights: Arrays, synthetic_model: SPMTracker) -> None:
    deep, shallow = np.abs(draw(1, 384, 34, 34, seed=1)) + 1, np.abs(draw(1, 256, 34, 34, seed=2)) + 1
    ends = np.arange(34, dtype=np.float32) * 8
    boxes = np.stack([ends - 57.3, ends - 31.9, ends, ends], axis=1)[None].astype(np.float32)
    found = roi_in_graph(deep, shallow, boxes, weights)
    np.testing.assert_array_equal(found == 0, roi_in_reference(synthetic_model, deep, shallow, boxes) == 0)


def test_roi_operator_reads_each_targets_own_maps(weights: Arrays, synthetic_model: SPMTracker) -> None:
    deep, shallow = np.abs(draw(3, 384, 34, 34, seed=1, scale=9)), np.abs(draw(3, 256, 34, 34, seed=2, scale=30))
    boxes = (np.random.default_rng(3).uniform(-20, 200, (3, 4, 4))).astype(np.float32)
    found = roi_in_graph(deep, shallow, boxes, weights)
    close(found, roi_in_reference(synthetic_model, deep, shallow, boxes), 5e-5)


@torch.inference_mode()
def test_batch_norm_after_the_sampling_is_the_one_before_it(weights: Arrays, synthetic_model: SPMTracker) -> None:
    deep = np.abs(draw(1, 384, 34, 34, scale=9))
    box = torch.tensor([[[40.0, 50, 120, 160]]]) / 8
    wanted = crop_and_resize(synthetic_model.fine.norm_deep(torch.from_numpy(deep)), box, 6)[0, 0]
    plain = crop_and_resize(torch.from_numpy(deep), box, 6)[0, 0].numpy()
    found = plain * weights["roi_scale"][0, :384] + weights["roi_shift"][0, :384]
    close(found, wanted, 1e-5)


# Relation.


@torch.inference_mode()
def test_split_relation_is_the_whole_convolution(weights: Arrays, synthetic_model: SPMTracker) -> None:
    target, proposals = draw(1, 640, 6, 6, seed=1), draw(5, 640, 6, 6, seed=2)

    def part(g: GraphBuilder, v: list[ir.Value]) -> ir.Value:
        pads = {"pads": [1, 1, 1, 1]}
        half = g.op("Conv", v[0], g.weight("relate_target.weight"), g.weight("relate.bias"), **pads)
        return g.op("Add", g.op("Conv", v[1], g.weight("relate_proposal.weight"), **pads), half)

    (found,) = evaluate(part, target, proposals, weights=weights)
    pairs = torch.cat([torch.from_numpy(target).expand(5, -1, -1, -1), torch.from_numpy(proposals)], dim=1)
    close(found, synthetic_model.fine.relate(pairs), 1e-5)


def test_folded_weights_are_rounded_once(weights: Arrays, synthetic_model: SPMTracker) -> None:
    stage = synthetic_model.coarse
    wanted = (stage.template_classify.weight.detach().double() * stage.scale[0]).float().numpy()
    np.testing.assert_array_equal(weights["template_classify.weight"], wanted)
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
