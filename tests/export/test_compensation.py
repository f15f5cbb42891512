"""Weights of int8 layers that make up for each other's rounding."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from spm_export.calibration.compensation import Moments, compensated
from spm_export.calibration.rounding import quantized
from spm_export.graphs import int8
from spm_export.graphs.int8 import EQUALIZED, Grid, Quantization
from spm_export.graphs.quantizable import LIGHT
from spm_export.model.backbones import SameConv2d
from spm_export.model.network import SPMTracker

from ..support.graphs.nodes import draw

Floats = NDArray[np.float32]
NONE = np.zeros(8, np.float32)
STEP = 6 / 255


def smooth(seed: int) -> torch.Tensor:
    """Positive maps ``[1, 8, 32, 32]`` whose neighbouring cells are nearly alike, as behind an activation."""
    coarse = torch.from_numpy(draw(1, 8, 6, 6, seed=seed)).abs()
    return F.interpolate(coarse, size=(32, 32), mode="bilinear") + torch.from_numpy(draw(1, 8, 32, 32, seed=seed)) / 20


def layer(kernel: int, groups: int, stride: int = 1) -> SameConv2d:
    module = SameConv2d(8, 8, kernel, stride=stride, groups=groups)
    module.weight.data = torch.from_numpy(draw(*module.weight.shape, seed=1))
    return module.requires_grad_(False)


@pytest.mark.parametrize(("kernel", "groups", "stride"), [(1, 1, 1), (3, 8, 1), (5, 8, 2), (3, 1, 2)])
def test_outputs_change_less_and_not_on_average(kernel: int, groups: int, stride: int) -> None:
    module, rng = layer(kernel, groups, stride), np.random.default_rng(0)
    seen = Moments.of(module, smooth(0), rng)
    for seed in range(1, 12):
        seen += Moments.of(module, smooth(seed), rng)
    weight, x = module.weight.numpy(), smooth(20)
    exact = F.conv2d(x, module.weight, groups=groups)

    def error(rounded: int8.RoundedWeight) -> torch.Tensor:
        changed = F.conv2d(x, torch.from_numpy(rounded.values), torch.from_numpy(rounded.shift), groups=groups)
        return (changed - exact)[0]

    found = compensated(weight, seen, STEP, 16, NONE)
    assert np.abs(found.codes).max() <= 16
    alone, together = error(int8.quantize_weight(weight, 16)), error(found)
    assert together.square().mean() < 0.35 * alone.square().mean()
    assert together.mean().abs() < 0.1 * alone.mean((1, 2)).abs().mean()


def test_moments_are_those_of_what_a_padded_layer_reads() -> None:
    """A map of which one place is read."""
    module, x = layer(5, 2, stride=4), torch.from_numpy(draw(1, 8, 4, 4))
    padded = F.pad(x, (0, 1, 0, 1))
    moments = Moments.of(module, padded[:, :, :4, :4], np.random.default_rng(0))
    window = padded.reshape(2, -1).double().numpy()
    np.testing.assert_allclose(moments.mean, window, atol=1e-12)
    np.testing.assert_allclose(moments.products / moments.count, window[:, :, None] * window[:, None], atol=1e-12)


def test_inputs_that_say_nothing_leave_each_weight_to_itself() -> None:
    weight = layer(3, 8).weight.numpy()
    seen = Moments(1, np.zeros((8, 9)), np.zeros((8, 9, 9)))
    found, alone = compensated(weight, seen, STEP, 64, NONE), int8.quantize_weight(weight, 64)
    np.testing.assert_array_equal(found.codes, alone.codes)
    np.testing.assert_array_equal(found.scales, alone.scales)
    assert not found.shift.any()


def test_a_channel_of_next_to_no_weight_keeps_a_step_for_its_bias() -> None:
    weight = layer(3, 8).weight.numpy().copy()
    weight[2] *= 1e-12
    least = int8.least_scales(np.full(8, 0.5, np.float32), Grid(STEP, 0))
    found = compensated(weight, Moments.of(layer(3, 8), smooth(0), np.random.default_rng(0)), STEP, 64, least)
    assert found.scales[2] == least[2]
    assert not found.codes[2].any()


def test_graphs_and_the_rounded_reference_take_these_weights_and_biases(light_model: SPMTracker) -> None:
    name = "blocks.0.0.depthwise"
    module = light_model.backbone.get_submodule(name)
    assert isinstance(module, SameConv2d)
    rounded = int8.quantize_weight(module.weight.data.numpy(), 64)._replace(shift=draw(32))
    plan = Quantization(frozenset({name}), {f"{name}.input": Grid(STEP, 0, 255)}, {}, LIGHT, {name: rounded})
    assert module.bias is not None
    weights = {f"{name}.weight": module.weight.data.numpy(), f"{name}.bias": module.bias.data.numpy().copy()}
    found = int8.quantized_weights(weights, plan)
    np.testing.assert_array_equal(found[f"{name}.weight_int8"], rounded.codes)
    np.testing.assert_array_equal(found[f"{name}.bias{EQUALIZED}"], weights[f"{name}.bias"] + rounded.shift)
    with quantized(light_model, plan):
        np.testing.assert_array_equal(module.weight.data.numpy(), rounded.values)
        np.testing.assert_array_equal(module.bias.data.numpy(), found[f"{name}.bias{EQUALIZED}"])
    np.testing.assert_array_equal(module.bias.data.numpy(), weights[f"{name}.bias"])
    untouched = dataclasses.replace(plan, layers=frozenset())
    assert int8.quantized_weights(weights, untouched).keys() == weights.keys()
