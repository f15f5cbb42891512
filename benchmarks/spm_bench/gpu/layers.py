"""The kernels between the network's products, on the GPU, against PyTorch's operators in float32 on the CPU."""

from __future__ import annotations

from typing import Any

from spm_rt import Bundle
from spm_rt.backends.pytorch.kernels import Kernels
from spm_rt.backends.pytorch.network import Network, read_weights
from spm_rt.backends.pytorch.operators import Operators

LIMITS = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}
"""Largest error, as a share of the largest value: two roundings of the type, and what exp differs by."""
TARGETS, COUNT = 2, 5


def check_layers(bundle: Bundle, precision: str) -> dict[str, Any]:
    """Every kernel of the unit ``layers``, as the ``pytorch`` backend runs it on the GPU in one precision."""
    import torch

    from spm_rt.backends.pytorch.backend import PyTorchBackend

    weights = read_weights(bundle.path / "weights.safetensors", torch)
    plain = Network(torch, weights, bundle.spec, torch.device("cpu"), torch.float32).steps
    ours = PyTorchBackend(bundle, device="cuda", precision=precision).network.steps
    largest = layer_errors(plain, ours, torch)
    checks = {name: error <= LIMITS[precision] for name, error in largest.items()}
    return {"checks": {"our kernels": isinstance(ours, Kernels), **checks}, "largest_error": largest}


def layer_errors(plain: Operators, ours: Operators, torch: Any) -> dict[str, float]:
    """Largest error of each step, as a share of the largest value that it gives; infinite where one gives no numbers.

    Args:
        plain: in float32 on the CPU.
        ours: on any device and in any type.
        torch: the module.
    """
    generator = torch.Generator().manual_seed(3)
    device, spec, head = ours.mean.device, plain.spec, plain.spec.anchors_per_cell * 6

    def random(*shape: int, scale: float = 3.0) -> Any:
        return (torch.randn(shape, generator=generator) * scale).to(ours.data).float()

    def error(step: str, *given: Any, **more: Any) -> float:
        """Maps, of four axes, and rows of products go in as ``ours`` has them; all else is float32 for both."""
        wanted = getattr(plain, step)(*(_copied(x) for x in given), **more)
        there = [_given(x, ours, device, as_maps=_as_maps(step, k, x)) for k, x in enumerate(given)]
        others = {name: _given(x, ours, device, as_maps=True) for name, x in more.items()}
        return _distance(getattr(ours, step)(*there, **others), wanted, torch)

    cells, crop = spec.response_cells, torch.rand((TARGETS, 3, 67, 67), generator=generator) * 255
    low = torch.rand((TARGETS, COUNT, 2), generator=generator) * 150
    proposals = torch.cat([low, low + 10 + torch.rand((TARGETS, COUNT, 2), generator=generator) * 90], -1)
    halves = (random(TARGETS * COUNT, 64, 6, 6), random(TARGETS, 64, 6, 6))
    maps = random(TARGETS, 64, 19, 19)
    rows, bias = random(TARGETS * COUNT, 6, scale=1.0), random(6)
    return {
        "prepare": error("prepare", crop, 8),
        "pool and norm": error("pool_norm", random(TARGETS, 96, 37, 37, scale=40.0), random(96)),
        "activate": error("activate", maps, random(64), high=6.0, other=random(TARGETS, 64, 19, 19)),
        "activate rows": error("activate", random(9, 256), random(256)),
        "relate": error("relate", *halves, count=COUNT),
        "decode": error("decode", random(TARGETS, head, cells, cells, scale=1.0), random(TARGETS, head, scale=1.0)),
        "decode fine": error("decode_fine", rows, bias, proposals),
    }


def _copied(value: Any) -> Any:
    return value.clone() if hasattr(value, "clone") else value  # steps may write to what they are given


def _as_maps(step: str, index: int, value: Any) -> bool:
    return step != "prepare" and (index == 0 or value.dim() == 4)


def _given(value: Any, ours: Operators, device: Any, *, as_maps: bool) -> Any:
    if not hasattr(value, "clone"):
        return value
    there = value.clone().to(device)
    there = there.to(ours.data) if as_maps else there
    return there.contiguous(memory_format=ours.order) if as_maps and there.dim() == 4 else there


def _distance(found: Any, wanted: Any, torch: Any) -> float:
    if isinstance(wanted, dict):
        return max(_distance(found[name], wanted[name], torch) for name in wanted)
    found = found.float().cpu().reshape(wanted.shape)
    if not bool(torch.isfinite(found).all()):
        return float("inf")
    return float((found - wanted).abs().max() / wanted.abs().max())
