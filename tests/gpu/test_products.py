"""Which of several ways a layer is computed in; the clock and cuDNN's fused convolution are stand-ins."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from spm_rt import Bundle
from spm_rt.backends.pytorch.backend import PyTorchBackend
from spm_rt.backends.pytorch.products import Fastest, without_groups


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ({"plain": 3, "near": 2, "wrong": 1, "other shape": 1, "refused": 1}, "near"),
        ({"plain": 1, "near": 2}, "plain"),
        ({}, "plain"),
    ],
)
def test_the_fastest_of_those_that_agree_is_taken_and_kept(times: dict[str, float], wanted: str) -> None:
    x, clock = torch.linspace(-5, 9, 50), []

    def refused() -> Any:
        raise RuntimeError("GET was unable to find an engine to execute this computation")

    def seconds(work: Any) -> float:
        (name,) = (name for name, way in ways.items() if way is work)
        clock.append(name)
        if name not in times:
            raise RuntimeError("operation not permitted when stream is capturing")
        return times[name]

    ways = {"plain": lambda: x, "near": lambda: x + 1e-5, "wrong": lambda: x + 0.01, "other shape": lambda: x[1:]}
    ways["refused"] = refused
    fastest = Fastest(torch, seconds)
    for _ in range(2):
        assert torch.equal(fastest("conv3", x.shape, ways), ways[wanted]())
    assert clock == ["plain", "near"]
    assert fastest.times == {("conv3", (50,)): {name: times[name] for name in clock if name in times}}
    assert fastest.chosen == {("conv3", (50,)): wanted}


def test_groups_are_zeros_in_one_kernel() -> None:
    x, weight = torch.randn(2, 6, 7, 7), torch.randn(8, 3, 3, 3)
    found = torch.nn.functional.conv2d(x, without_groups(torch, weight, 2))
    torch.testing.assert_close(found, torch.nn.functional.conv2d(x, weight, groups=2))


def fused(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    return torch.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups).relu()


@pytest.mark.parametrize("way", ["plain", "without groups", "at once", "at once without groups"])
def test_every_way_gives_the_same_maps(way: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cudnn_convolution_relu", fused)
    network = PyTorchBackend(bundle).network
    x = network.prepare(torch.rand(1, 3, 271, 271) * 255)
    with torch.inference_mode():
        wanted = network.features(x)
        calls: list[Any] = []
        network.fastest.seconds = lambda work: float(len(calls))
        monkeypatch.setattr(
            network.fastest, "_measured", lambda ways, _: calls.append(ways) or {way if way in ways else "plain": 0.0}
        )
        for found, maps in zip(network.features(x), wanted, strict=True):
            torch.testing.assert_close(found, maps, rtol=1e-4, atol=1e-4)
    assert [len(ways) for ways in calls] == [2, 2, 4]  # conv2, conv3, conv4; conv1 has one way


@pytest.mark.parametrize("last", [False, True])
def test_a_response_as_matrices_is_that_of_a_convolution_per_target(last: bool, bundle: Bundle) -> None:
    network = PyTorchBackend(bundle, channels_last=last).network
    torch.manual_seed(4)
    embedding = torch.randn(3, 256, 24, 24).contiguous(memory_format=network.order)
    kernel, bias = network.head_order(torch.randn(3, 30, 256, 6, 6)), torch.randn(3, 30)
    wanted, same = network._response(embedding, kernel, bias)
    assert same is bias
    found = network._matrix_response(embedding, kernel)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-3)
    decoded, like = (network.steps.decode(answer, bias) for answer in (found, wanted))
    torch.testing.assert_close(decoded, like, rtol=1e-5, atol=0.1)  # such deltas make boxes of thousands of pixels
