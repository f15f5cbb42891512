"""The RoI kernel's arithmetic against the reference model's crop_and_resize and batch norm."""

from __future__ import annotations

import ctypes
import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spm_export.model.backbones import Features
from spm_export.model.network import FineStage, crop_and_resize
from spm_export.model.weights import _fine
from spm_rt.gpu.kernels import roi_fits, roi_launch
from spm_rt.models import LIGHT, MODELS
from spm_rt.settings import ModelSpec

from ..support.emulator.host_build import launch

Floats = NDArray[np.float32]
CELLS = 34
RNG = np.random.default_rng(20)

BORDER = [
    [0, 0, 264, 264],  # exactly the map's rim
    [0, 0, 264.0001, 264],
    [-1e-5, 10, 100, 90],
    [-40, -60, 120, 150],
    [200, 180, 330, 400],
    [-100, -100, 400, 400],
    [300, 300, 400, 400],  # wholly outside
    [-90, 20, -10, 100],
]
DEGENERATE = [
    [50, 60, 50, 60],  # a point
    [50, 60, 50, 120],  # a line
    [120, 100, 60, 40],  # inverted
    [264, 264, 264, 264],
    [8, 8, 8.0001, 8.0001],
    [-1e30, -1e30, 1e30, 1e30],
]
NO_NUMBERS = [[np.nan, 10, 100, 90], [10, 10, np.inf, 90]]  # the reference cannot index with these


def maps(targets: int, spec: ModelSpec) -> tuple[Floats, Floats]:
    channels = (spec.deep_channels, spec.shallow_channels)
    deep, shallow = (RNG.uniform(-1, 1, (targets, c, CELLS, CELLS)).astype(np.float32) for c in channels)
    return deep, shallow


def random_boxes(targets: int, count: int) -> Floats:
    center, size = RNG.uniform(20, 250, (targets, count, 2)), RNG.uniform(4, 160, (targets, count, 2))
    return np.concatenate([center - size / 2, center + size / 2], axis=-1).astype(np.float32)


def sampled(deep: Floats, shallow: Floats, boxes: Floats) -> Floats:
    """The reference without batch norm, ``[T * K, C, 6, 6]``."""
    given = torch.from_numpy(boxes) / 8
    both = [crop_and_resize(torch.from_numpy(m), given, 6) for m in (deep, shallow)]
    return torch.cat(both, dim=2).flatten(0, 1).numpy()


def ours(
    library: ctypes.CDLL,
    deep: NDArray[np.generic],
    shallow: NDArray[np.generic],
    boxes: Floats,
    scale: NDArray[np.generic],
    shift: NDArray[np.generic],
    *,
    data: str = "float32",
    last: bool = False,
    out_last: bool = False,
) -> NDArray[np.generic]:
    """The kernel on maps ``[T, C, H, W]``; channels last with ``last``; ``out_last`` is about what it gives."""
    channels = (deep.shape[1], shallow.shape[1])
    if last:
        deep, shallow = (np.ascontiguousarray(m.transpose(0, 2, 3, 1)) for m in (deep, shallow))
    targets, count = boxes.shape[:2]
    out = np.full((targets * count, sum(channels), 6, 6), 77, deep.dtype)
    kernel = roi_launch(targets * count, sum(channels), data)
    given = (deep, shallow, np.ascontiguousarray(boxes), scale, shift)
    launch(library, kernel, *given, count, *channels, CELLS, CELLS, last + 2 * out_last, out)
    return out.reshape(-1, 6, 6, sum(channels)).transpose(0, 3, 1, 2) if out_last else out


@pytest.fixture(params=MODELS)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return MODELS[request.param]


@pytest.mark.parametrize(("changed", "fits"), [({}, True), ({"deep_channels": 112}, False), ({"roi_cells": 7}, False)])
def test_which_models_the_kernel_is_for(changed: dict[str, int], fits: bool) -> None:
    assert roi_fits(dataclasses.replace(LIGHT, **changed)) == fits


@pytest.mark.parametrize(("last", "out_last"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("kind", ["random", "border", "degenerate"])
def test_samples_are_the_references_bit_by_bit(
    kind: str, last: bool, out_last: bool, library: ctypes.CDLL, spec: ModelSpec
) -> None:
    given = {"random": random_boxes(2, 60), "border": np.array([BORDER] * 2), "degenerate": np.array([DEGENERATE] * 2)}
    boxes = given[kind].astype(np.float32)
    deep, shallow = maps(2, spec)
    one = np.ones(spec.deep_channels + spec.shallow_channels, np.float32)
    got = ours(library, deep, shallow, boxes, one, 0 * one, last=last, out_last=out_last)
    np.testing.assert_array_equal(got, sampled(deep, shallow, boxes))


def test_batch_norm_is_the_references_within_a_millionth(library: ctypes.CDLL, spec: ModelSpec) -> None:
    torch.manual_seed(3)
    stage = FineStage(spec).eval()
    for norm in (stage.norm_deep, stage.norm_shallow):
        for tensor, low, high in (
            (norm.weight, 0.3, 1.0),
            (norm.bias, -0.5, 0.5),
            (norm.running_mean, -0.3, 0.3),
            (norm.running_var, 0.5, 2.0),
        ):
            assert tensor is not None
            tensor.data.uniform_(low, high)
    folded = _fine_weights(stage)
    boxes = np.concatenate([random_boxes(1, 100), np.array([BORDER + DEGENERATE], np.float32)], axis=1)
    deep, shallow = maps(1, spec)
    features = Features(torch.from_numpy(shallow), torch.from_numpy(deep), torch.empty(0))
    with torch.inference_mode():
        wanted = stage.roi_features(features, torch.from_numpy(boxes))[0].numpy()
    got = ours(library, deep, shallow, boxes - np.float32(spec.first_cell), *folded)
    assert np.abs(got - wanted).max() < 1e-6
    np.testing.assert_array_equal(got == 0, wanted == 0)  # zeros outside are exact, whatever the shift


def _fine_weights(stage: FineStage) -> tuple[Floats, Floats]:
    class Model:
        fine = stage

    weights = _fine(Model())  # type: ignore[arg-type]
    return weights["roi_scale"].reshape(-1), weights["roi_shift"].reshape(-1)


def test_what_lies_outside_is_zero_and_reads_nothing(library: ctypes.CDLL, spec: ModelSpec) -> None:
    deep, shallow = (np.full_like(m, np.nan) for m in maps(1, spec))
    boxes = np.array([[BORDER[6], BORDER[7], *NO_NUMBERS]], np.float32)
    one = np.ones(spec.deep_channels + spec.shallow_channels, np.float32)
    got = ours(library, deep, shallow, boxes, one, 5 * one)
    assert (got == 0).all()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_data_is_computed_in_float32(kind: torch.dtype, library: ctypes.CDLL, spec: ModelSpec) -> None:
    def bits_of(array: NDArray[np.generic]) -> NDArray[np.uint16]:
        return torch.from_numpy(array).to(kind).view(torch.uint16).numpy()

    deep, shallow = (torch.from_numpy(m).to(kind).float().numpy() for m in maps(1, spec))
    scale, shift = RNG.uniform(0.5, 1.5, (2, spec.deep_channels + spec.shallow_channels)).astype(np.float32)
    boxes = random_boxes(1, 40)
    data = str(kind).removeprefix("torch.")
    got = ours(library, bits_of(deep), bits_of(shallow), boxes, scale, shift, data=data)
    np.testing.assert_array_equal(got, bits_of(ours(library, deep, shallow, boxes, scale, shift)))
