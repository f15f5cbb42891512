"""The graphs for CPUs: Winograd's convolutions and channels-last features against the plain operators."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from spm_export.graphs import winograd
from spm_export.graphs.fast import fast_weights, trim_kernel
from spm_export.graphs.roi import roi_features
from spm_export.model.network import SPMTracker
from spm_export.model.weights import graph_weights

from ...support.graphs.nodes import draw, evaluate
from ...support.graphs.regions import ROI_BOXES, roi_in_reference

Floats = NDArray[np.float32]


def channels_last(maps: Floats) -> Floats:
    """``[T, C, H, W]`` as ``[T, H * W, C]``."""
    return np.ascontiguousarray(maps.reshape(*maps.shape[:2], -1).transpose(0, 2, 1))


def convolved(x: Floats, weights: dict[str, Floats], **how: int) -> torch.Tensor:
    """The ordinary convolution ``c`` with its ReLU."""
    kernel, bias = (torch.from_numpy(weights[f"c.{part}"]) for part in ("weight", "bias"))
    return F.conv2d(torch.from_numpy(x), kernel, bias, **how).relu()


@pytest.mark.parametrize("outputs", [1, 2, 3, 4])
def test_minimal_filtering_is_a_correlation(outputs: int) -> None:
    w = winograd.winograd(outputs)
    rng = np.random.default_rng(outputs)
    data, kernel = rng.standard_normal(w.tile), rng.standard_normal(3)
    found = w.output @ ((w.kernel @ kernel) * (w.input @ data))
    np.testing.assert_allclose(found, np.correlate(data, kernel), atol=1e-12)


def test_too_many_outputs_are_refused() -> None:
    with pytest.raises(ValueError, match="points"):
        winograd.winograd(9)


@pytest.mark.parametrize(("size", "step"), [(34, 4), (6, 3), (7, 3), (5, 4)])
def test_tiles_cover_a_padded_row(size: int, step: int) -> None:
    w = winograd.winograd(step)
    rng = np.random.default_rng(size)
    data, kernel = rng.standard_normal(size), rng.standard_normal(3)
    spread = winograd.tiled_input(w, size, size, 1) @ data
    products = spread * np.tile(w.kernel @ kernel, len(spread) // w.tile)
    np.testing.assert_allclose(
        winograd.tiled_output(w, size) @ products, np.correlate(np.pad(data, 1), kernel), atol=1e-12
    )


@pytest.mark.parametrize(
    ("targets", "size", "channels", "outputs", "groups"),
    [(1, 34, 32, 48, 1), (2, 34, 32, 48, 2), (3, 9, 8, 4, 1), (1, 6, 4, 4, 4)],
)
def test_convolution_of_maps(targets: int, size: int, channels: int, outputs: int, groups: int) -> None:
    x = draw(targets, channels, size, size)
    weights = {"c.weight": draw(outputs, channels // groups, 3, 3, seed=1), "c.bias": draw(outputs, seed=2)}
    part = functools.partial(winograd.convolve, targets=targets, size=size, groups=groups)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    (found,) = evaluate(lambda g, v: part(g, v[0], "c"), last, weights=weights)
    wanted = convolved(x, weights, padding=1, groups=groups).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("targets", "size", "channels", "outputs", "taps", "groups"),
    [(1, 68, 8, 12, 5, 2), (2, 12, 6, 4, 5, 1), (3, 8, 4, 4, 3, 4)],
)
def test_convolution_and_pool(targets: int, size: int, channels: int, outputs: int, taps: int, groups: int) -> None:
    x = draw(targets, channels, size, size)
    weights = {"c.weight": draw(outputs, channels // groups, taps, taps, seed=1), "c.bias": draw(outputs, seed=2) - 3}
    part = functools.partial(winograd.convolve_and_pool, targets=targets, size=size, groups=groups)
    (found,) = evaluate(lambda g, v: part(g, v[0], "c"), x, weights=weights)
    wanted = F.max_pool2d(convolved(x, weights, padding=taps // 2, groups=groups), 3, stride=2, padding=1).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-5 * np.abs(wanted).max())


def test_maps_that_do_not_divide_into_tiles_are_refused() -> None:
    part = functools.partial(winograd.convolve_and_pool, targets=1, size=10, groups=1)
    with pytest.raises(ValueError, match="c: maps of 10 cells"):
        evaluate(lambda g, v: part(g, v[0], "c"), draw(1, 2, 10, 10), weights={"c.weight": draw(2, 2, 3, 3)})


@pytest.mark.parametrize("count", [1, 2, 9])
def test_convolution_of_patches(count: int) -> None:
    x = draw(count, 24, 6, 6)
    weights = {"w": draw(16, 24, 3, 3, seed=1)}
    (found,) = evaluate(
        lambda g, v: winograd.convolve_patches(g, v[0], "w", cells=6), channels_last(x), weights=weights
    )
    wanted = channels_last(F.conv2d(torch.from_numpy(x), torch.from_numpy(weights["w"]), padding=1).numpy())
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("rings", [0, 1, 2, 5])
def test_rings_of_zeros_are_trimmed(rings: int) -> None:
    kernel = np.ones((2, 3, 11 - 2 * rings, 11 - 2 * rings), np.float32)
    kernel = np.pad(kernel, ((0, 0), (0, 0), (rings, rings), (rings, rings)))
    found = trim_kernel(kernel)
    assert found.shape[2:] == (11 - 2 * rings, 11 - 2 * rings)
    x = torch.from_numpy(draw(1, 3, 30, 30))
    there = F.conv2d(x, torch.from_numpy(kernel), padding=5, stride=2)
    here = F.conv2d(x, torch.from_numpy(found), padding=5 - rings, stride=2)
    torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)


def test_a_single_value_in_the_outer_ring_keeps_it_and_a_kernel_of_zeros_keeps_one_tap() -> None:
    kernel = np.zeros((2, 3, 11, 11), np.float32)
    assert trim_kernel(kernel).shape == (2, 3, 1, 1)
    kernel[1, 2, 10, 4] = 1e-30
    assert trim_kernel(kernel).shape == kernel.shape


def test_fast_weights_are_the_graph_weights_and_more(synthetic_model: SPMTracker) -> None:
    weights = graph_weights(synthetic_model)
    found = fast_weights(weights)
    assert weights.keys() < found.keys()
    assert all(found[name] is weights[name] for name in weights)


@pytest.mark.parametrize("targets", [1, 3])
def test_gathered_roi_features(targets: int, synthetic_model: SPMTracker) -> None:
    weights = graph_weights(synthetic_model)
    deep, shallow = np.abs(draw(targets, 384, 34, 34, seed=1)) * 9, np.abs(draw(targets, 256, 34, 34, seed=2)) * 30
    boxes = np.array([list(ROI_BOXES.values())] * targets, np.float32)
    boxes += 3 * np.arange(targets, dtype=np.float32)[:, None, None]
    maps = (channels_last(deep), channels_last(shallow))
    (found,) = evaluate(lambda g, v: roi_features(g, *v), *maps, boxes, weights=weights, targets=targets)
    wanted = roi_in_reference(synthetic_model, deep, shallow, boxes)
    found = found.transpose(0, 2, 1).reshape(wanted.shape)
    np.testing.assert_array_equal(found == 0, wanted == 0)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-5 * np.abs(wanted).max())
