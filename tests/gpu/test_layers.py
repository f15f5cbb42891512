"""The kernels between the network's products against the reference, and bit for bit against PyTorch's operators."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch
from torch.nn import functional

from spm_export.model.backbones import AlexNet
from spm_export.model.network import decode, flatten_deltas, foreground_score, make_anchors
from spm_rt.backends.pytorch.kernels import Kernels
from spm_rt.backends.pytorch.operators import Operators
from spm_rt.gpu.kernels import layer_launches, source
from spm_rt.models import MODELS
from spm_rt.settings import ModelSpec

from ..support.emulator.driver import emulated_gpu
from ..support.emulator.networks import OnHost

KINDS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
DIGIT = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""Two roundings apart in float32, which may be one in the last digit of the others."""
ORDERS = {"first": torch.contiguous_format, "last": torch.channels_last}


class Both:
    """One step by the kernels and in PyTorch's operators, on maps of one type and order."""

    def __init__(self, spec: ModelSpec, kind: str, order: str) -> None:
        self.spec, self.kind, self.order = spec, KINDS[kind], ORDERS[order]
        anchors = torch.from_numpy(make_anchors(spec)).float()
        sizes = anchors[:, 2:] - anchors[:, :2] + 1
        centers = anchors[:, :2] + 0.5 * sizes
        mean = torch.tensor(spec.pixel_mean_bgr)
        tensors = {"pixel_mean": mean, "anchor_centers": centers, "anchor_sizes": sizes}
        self.plain = Operators(OnHost(), spec, self.kind, self.order, tensors)
        self.ours = Kernels(self.plain, 0, kind)

    def maps(self, *shape: int) -> torch.Tensor:
        x = (torch.randn(shape) * 3).to(self.kind)
        return x.contiguous(memory_format=self.order) if x.dim() == 4 else x

    def same(self, step: str, *given: Any, rtol: float = 0, **more: Any) -> torch.Tensor:
        """What the kernel gives, once both are found equal; arguments are copied, since steps may write to them."""
        found, wanted = (
            getattr(steps, step)(*(x.clone() if isinstance(x, torch.Tensor) else x for x in given), **more)
            for steps in (self.ours, self.plain)
        )
        torch.testing.assert_close(found, wanted, rtol=rtol, atol=0, equal_nan=True)
        return found


@pytest.fixture(params=["first", "last"])
def order(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=list(KINDS))
def both(request: pytest.FixtureRequest, order: str, library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Both:
    emulated_gpu(library, monkeypatch)
    torch.manual_seed(5)
    return Both(ModelSpec(), request.param, order)


SHAPES = [(1, 96, 136, 136), (2, 256, 17, 20), (2, 5, 1, 7), (1, 97, 8, 9)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pooling_and_norm_are_the_references(shape: tuple[int, ...], both: Both) -> None:
    x, bias = both.maps(*shape) * 40, torch.randn(shape[1])
    found = both.same("pool_norm", x, bias, rtol=DIGIT[both.kind])
    wanted = AlexNet.pool_and_normalize(functional.relu(x.float() + bias[:, None, None]))
    torch.testing.assert_close(found.float(), wanted, rtol=DIGIT[both.kind], atol=1e-6)
    assert found.is_contiguous(memory_format=both.order)


def test_what_is_no_number_stays_none(both: Both) -> None:
    x = both.maps(1, 6, 9, 9)
    x[0, 3, 4, 4] = torch.nan
    found = both.same("pool_norm", x, torch.zeros(6), rtol=DIGIT[both.kind])
    assert found.isnan().sum() == 5  # one window of four has it, in five channels' sums
    assert both.same("activate", x, torch.zeros(6)).isnan().sum() == 1


def test_maps_with_more_channels_than_there_is_room_for_are_normalised_too(both: Both) -> None:
    both.same("pool_norm", both.maps(1, 300, 5, 5), torch.zeros(300))


@pytest.mark.parametrize("shape", [(2, 384, 7, 5), (3, 100), (1, 1, 40, 40)], ids=str)
@pytest.mark.parametrize(("low", "high"), [(0.0, float("inf")), (0.0, 6.0), (-float("inf"), float("inf"))])
def test_bias_rectifier_and_limits(shape: tuple[int, ...], low: float, high: float, both: Both) -> None:
    x, other, bias = both.maps(*shape), both.maps(*shape), torch.randn(shape[1]) * 4
    for added in (None, other):
        found = both.same("activate", x, bias, low=low, high=high, other=added)
        wanted = x.float() + bias.reshape(-1, *[1] * (len(shape) - 2)) + (0 if added is None else added.float())
        torch.testing.assert_close(found.float(), wanted.clamp(low, high).to(both.kind).float(), rtol=0, atol=0)


def test_halves_of_the_relation_layer(both: Both) -> None:
    both.same("relate", both.maps(6, 13, 6, 6), torch.randn(2, 13, 6, 6).to(both.kind), 3)


@pytest.mark.parametrize("planes", [3, 4, 8])
def test_a_crop_is_prepared_for_the_first_layer(planes: int, both: Both) -> None:
    crop = torch.rand(2, 3, 19, 19) * 255
    found = both.same("prepare", crop, planes)
    wanted = crop - torch.tensor(both.spec.pixel_mean_bgr)[:, None, None]
    assert torch.equal(found[:, :3].float(), wanted.to(both.kind).float())
    assert (found[:, 3:] == 0).all()
    assert found.is_contiguous(memory_format=both.order)


# Decoding: exp differs in its last digit from library to library.


def near(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(found["scores"], wanted["scores"], rtol=0, atol=1e-6, equal_nan=True)
    torch.testing.assert_close(found["boxes"], wanted["boxes"], rtol=1e-6, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shared", [False, True], ids=["a bias per target", "one bias"])
def test_the_coarse_stage_is_decoded_as_the_reference_decodes(model: str, shared: bool, both: Both, order: str) -> None:
    spec = MODELS[model]
    both = Both(spec, str(both.kind).removeprefix("torch."), order)
    cells, a = spec.response_cells, spec.anchors_per_cell
    head, bias = both.maps(3, 6 * a, cells, cells), torch.randn(6 * a) if shared else torch.randn(3, 6 * a)
    head[0, 3 * a :, 2, 3] = torch.tensor([torch.nan, torch.inf, -torch.inf, 40.0, -40.0] * 9)[: 3 * a]
    found = both.ours.decode(head.clone(), bias)
    near(found, both.plain.decode(head, bias))
    wide = head.float() + bias.reshape(-1, 6 * a, 1, 1)
    boxes = decode(torch.from_numpy(make_anchors(spec)).float(), flatten_deltas(wide[:, 2 * a :]))
    near(found, {"scores": foreground_score(wide[:, : 2 * a]), "boxes": boxes})


def test_the_fine_stage_is_decoded_as_the_reference_decodes(both: Both) -> None:
    low = torch.rand(2, 70, 2) * 200
    proposals, values, bias = torch.cat([low, low + torch.rand(2, 70, 2) * 90], -1), both.maps(140, 6), torch.randn(6)
    values[3, 2:] = torch.tensor([1.0, 2.0, torch.nan, torch.inf])
    found = both.ours.decode_fine(values.clone(), bias, proposals)
    near(found, both.plain.decode_fine(values, bias, proposals))
    wide = (values.float() + bias).reshape(2, 70, 6)
    scores, boxes = wide[..., :2].softmax(-1)[..., 1], decode(proposals, wide[..., 2:], both.spec.fine_weights)
    near(found, {"scores": scores, "boxes": boxes})


def test_launches_are_those_that_the_text_counts_on() -> None:
    text = source("layers")
    names = [name for name in vars(layer_launches) if name.isupper() and name != "DATA_TYPES"]
    assert names
    for name in names:
        assert f"{name} = {getattr(layer_launches, name)}" in text
