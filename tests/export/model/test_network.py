"""The PyTorch reference, operator by operator."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from spm_export.model import network
from spm_export.model.coarse import correlate
from spm_export.model.network import SPMTracker, crop_and_resize
from spm_rt import SettingsError
from spm_rt.frame.crop import crop_exact
from spm_rt.frame.geometry import search_region, xywh_to_xyxy
from spm_rt.results import Box
from spm_rt.settings import MAX_LOG_SCALE, ModelSpec

from ...support.exports import Frames
from ...support.recorded import read_arrays

OPS = read_arrays("ops")
RNG = torch.Generator().manual_seed(5)


def draw(*shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=RNG) * scale


# Sampling.


def test_samples_are_the_recorded_ones_and_exactly_zero_outside() -> None:
    maps, boxes = torch.from_numpy(OPS["car_map"]), torch.from_numpy(OPS["car_boxes"])
    found = crop_and_resize(maps, boxes[None], 6)[0].numpy()
    np.testing.assert_allclose(found, OPS["car_6x6"], rtol=1e-5, atol=1e-6)
    assert (OPS["car_6x6"] == 0).any()
    np.testing.assert_array_equal(found == 0, OPS["car_6x6"] == 0)


def test_first_and_last_samples_lie_on_the_edges() -> None:
    maps = torch.arange(63.0).reshape(1, 1, 7, 9)
    found = crop_and_resize(maps, torch.tensor([[[1.0, 2.0, 6.0, 5.0]]]), 4)[0, 0, 0]
    assert found[0, 0] == maps[0, 0, 2, 1]
    assert found[-1, -1] == maps[0, 0, 5, 6]


def test_each_box_is_sampled_from_its_own_map() -> None:
    maps, boxes = draw(3, 2, 7, 9), torch.rand(3, 4, 4, generator=RNG) * 6
    together = crop_and_resize(maps, boxes, 5)
    for b in range(3):
        for k in range(4):
            alone = crop_and_resize(maps[b : b + 1], boxes[b : b + 1, k : k + 1], 5)
            torch.testing.assert_close(together[b, k], alone[0, 0], rtol=0, atol=0)


def test_an_empty_box_samples_one_place() -> None:
    maps = draw(1, 2, 7, 9)
    found = crop_and_resize(maps, torch.tensor([[[3.0, 2.0, 3.0, 2.0]]]), 6)[0, 0]
    torch.testing.assert_close(found, maps[0, :, 2, 3, None, None].expand(2, 6, 6))


def test_an_inverted_box_is_a_mirrored_one() -> None:
    maps = draw(1, 2, 7, 9)
    there = crop_and_resize(maps, torch.tensor([[[1.0, 1.0, 6.0, 5.0]]]), 6)
    back = crop_and_resize(maps, torch.tensor([[[6.0, 5.0, 1.0, 1.0]]]), 6)
    torch.testing.assert_close(there, back.flip(-1, -2), rtol=1e-4, atol=1e-5)


# Anchors and boxes.


def test_anchors_are_the_recorded_ones() -> None:
    np.testing.assert_allclose(network.make_anchors(ModelSpec()), OPS["anchors"], rtol=0, atol=1e-9)


def test_anchors_of_another_response_are_centred_alike() -> None:
    small, whole = network.anchor_grid(ModelSpec(), 1, 63.5), network.make_anchors(ModelSpec())
    np.testing.assert_array_equal(small, whole[:5])


@pytest.mark.parametrize("smaller", [1, 2])
def test_smaller_crops_have_the_middle_cells_and_the_same_answers_there(
    smaller: int, either_model: SPMTracker, clip: Frames, clip_box: Box
) -> None:
    whole = either_model.spec
    less = smaller * 2 * whole.coarsest_stride
    model = network.with_crop(either_model, whole.crop_size - less)
    anchors = network.make_anchors(whole)
    np.testing.assert_array_equal(network.make_anchors(model.spec), anchors - less / 2)
    region = search_region(xywh_to_xyxy(clip_box), whole)
    crop = torch.from_numpy(crop_exact(clip[0], region, whole.crop_size))[None]
    inner = crop[..., less // 2 : -less // 2, less // 2 : -less // 2]
    found, exact = (one.features(given) for one, given in ((model, inner), (either_model, crop)))
    middle = slice(less // 2 // whole.stride, -less // 2 // whole.stride)
    cells = (slice(None), slice(None), *[slice(8, -8)] * 2)  # far from the edge, where zeros stand for what is not seen
    for name in ("shallow", "deep"):
        ours, wanted = getattr(found, name), getattr(exact, name)[..., middle, middle][cells]
        here, beside = ((maps[cells] - wanted).abs().mean() for maps in (ours, ours.roll(1, 3)))
        sees_all = name == "deep" and whole.backbone != "alexnet"  # of a crop, its edges too
        assert here < (0.8 if sees_all else 1e-4) * beside
    assert model.search_embedding(found).shape == either_model.search_embedding(exact).shape


@pytest.mark.parametrize("side", [0, 127, 206, 215, 272, 287])
def test_crops_without_the_same_cells_are_refused(side: int, either_model: SPMTracker) -> None:
    with pytest.raises(SettingsError, match=f"crop is {side}; it must be {either_model.spec.crop_size} less"):
        network.with_crop(either_model, side)


@pytest.mark.parametrize(("weights", "name"), [((1.0, 1.0, 1.0, 1.0), "dec_q1"), ((5.0, 5.0, 10.0, 10.0), "dec_q5")])
def test_decoded_boxes_are_the_recorded_ones(weights: tuple[float, float, float, float], name: str) -> None:
    found = network.decode(torch.from_numpy(OPS["dec_boxes"]), torch.from_numpy(OPS["dec_deltas"]), weights).numpy()
    np.testing.assert_allclose(found, OPS[name], rtol=1e-5, atol=1e-4)


def test_zero_deltas_enlarge_by_one_pixel() -> None:
    box = torch.tensor([10.0, 20.0, 30.0, 60.0])
    assert network.decode(box, torch.zeros(4)).tolist() == [10, 20, 31, 61]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3.0, MAX_LOG_SCALE])
def test_log_sizes_that_are_too_large_or_not_finite_become_the_limit(value: float) -> None:
    found = network.decode(torch.tensor([0.0, 0, 9, 9]), torch.tensor([0.0, 0, value, 0]))
    assert (found[2] - found[0]).item() == pytest.approx(10 * 255 / 32, rel=1e-5)


# Heads.


def test_scores_are_a_softmax_over_each_anchors_pair() -> None:
    logits = draw(2, 10, 3, 4)
    found = network.foreground_score(logits).reshape(2, 3, 4, 5)
    for a in range(5):
        torch.testing.assert_close(found[..., a], torch.sigmoid(logits[:, 5 + a] - logits[:, a]))


def test_deltas_are_in_the_order_of_the_anchors() -> None:
    deltas = draw(2, 20, 3, 4)
    found = network.flatten_deltas(deltas)
    assert found.shape == (2, 60, 4)
    torch.testing.assert_close(found[1, (2 * 4 + 1) * 5 + 3], deltas[1, 12:16, 2, 1])


def test_each_search_map_meets_its_own_kernels() -> None:
    search, kernels = draw(3, 4, 8, 9), draw(3, 2, 4, 3, 3)
    found = correlate(search, kernels)
    assert found.shape == (3, 2, 6, 7)
    for b in range(3):
        torch.testing.assert_close(found[b], F.conv2d(search[b : b + 1], kernels[b])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "cells", "first"), [(34, 24, 5), (34, 6, 14), (7, 4, 1), (6, 6, 0)])
def test_centre_is_rounded_down(size: int, cells: int, first: int) -> None:
    x = torch.arange(float(size)).expand(1, 1, size, size)
    found = network.center_crop(x, cells)
    assert found.shape == (1, 1, cells, cells)
    assert found[0, 0, 0, 0] == first


# The whole.


@torch.inference_mode()
def test_maps_have_the_documented_shapes(synthetic_model: SPMTracker) -> None:
    features = synthetic_model.features(torch.zeros(1, 3, 271, 271))
    assert [tuple(m.shape[1:]) for m in features] == [(256, 34, 34), (384, 34, 34), (256, 34, 34)]


@torch.inference_mode()
def test_the_mean_is_subtracted_before_padding(synthetic_model: SPMTracker) -> None:
    mean = synthetic_model.mean.expand(1, 3, 271, 271)
    found = synthetic_model.features(mean.clone())
    torch.testing.assert_close(found.shallow, synthetic_model.backbone(torch.zeros_like(mean)).shallow)


@torch.inference_mode()
def test_a_forward_pass_changes_nothing_in_the_model(synthetic_model: SPMTracker) -> None:
    before = {name for name in vars(synthetic_model) if name[0] != "_"}
    state = {name: value.clone() for name, value in synthetic_model.state_dict().items()}
    features = synthetic_model.features(draw(1, 3, 271, 271, scale=60))
    kernels = synthetic_model.coarse.kernels(synthetic_model.template_embedding(features))
    synthetic_model.coarse(kernels, synthetic_model.search_embedding(features))
    roi = synthetic_model.fine.roi_features(features, torch.tensor([[[50.0, 50, 120, 140]]]))
    synthetic_model.fine(roi[:, 0], roi)
    assert {name for name in vars(synthetic_model) if name[0] != "_"} == before
    for name, value in synthetic_model.state_dict().items():
        assert torch.equal(value, state[name]), name


@torch.inference_mode()
def test_targets_of_a_batch_do_not_meet(synthetic_model: SPMTracker) -> None:
    model = synthetic_model
    templates, searches = draw(2, 2, 3, 271, 271, scale=60) + 110
    proposals = torch.rand(2, 3, 4, generator=RNG) * 60 + torch.tensor([30.0, 30, 140, 140])

    def answer(rows: slice) -> list[Tensor]:
        first, found = model.features(templates[rows]), model.features(searches[rows])
        kernels = model.coarse.kernels(model.template_embedding(first))
        coarse = model.coarse(kernels, model.search_embedding(found))
        target = model.fine.roi_features(first, proposals[rows, :1])[:, 0]
        fine = model.fine(target, model.fine.roi_features(found, proposals[rows]))
        return [*coarse, *fine]

    together, alone = answer(slice(0, 2)), [answer(slice(b, b + 1)) for b in range(2)]
    for i, value in enumerate(together):
        torch.testing.assert_close(value, torch.cat([one[i] for one in alone]), rtol=1e-3, atol=1e-4)


@torch.inference_mode()
def test_outside_samples_are_zero_after_the_normalisation(synthetic_model: SPMTracker) -> None:
    features = synthetic_model.features(draw(1, 3, 271, 271, scale=60))
    boxes = torch.tensor([[[-400.0, 0, -300, 100], [265, 0, 400, 100]]])
    found = synthetic_model.fine.roi_features(features, boxes)
    assert not found.any()
