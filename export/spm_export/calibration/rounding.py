"""The reference model with some layers rounded as int8 rounds them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from ..graphs.int8 import Floats, Quantization, by_input_channel, quantize_weight
from ..graphs.quantizable import WEIGHT_LIMIT, quantizable
from ..model.network import SPMTracker


def quantized_modules(model: SPMTracker) -> dict[str, nn.Conv2d | nn.Linear]:
    """The layers that can be quantised; of ``relate`` only the proposals' half of its inputs is."""
    fine = model.fine
    found = {name: model.backbone.get_submodule(name) for name in quantizable(model.spec).search}
    relation = {"relate_proposal": fine.relate, "linear1": fine.linear1, "linear2": fine.linear2}
    return {name: module for name, module in {**found, **relation}.items() if isinstance(module, nn.Conv2d | nn.Linear)}


def quantized_part(name: str, values: Tensor) -> Tensor:
    """What of a layer's inputs ``[B, C, ...]`` or weight ``[O, C, ...]`` is quantised (:func:`quantized_modules`)."""
    return values[:, values.shape[1] // 2 :] if name == "relate_proposal" else values


@contextmanager
def quantized(model: SPMTracker, plan: Quantization) -> Iterator[None]:
    """While this lasts, the plan's layers have their weights and inputs rounded as int8 would round them."""

    def change(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        values = inputs[0].clone()
        part = quantized_part(name, values)
        part.copy_(torch.from_numpy(rounded_input(plan, name, part.numpy())))
        return (values,)

    with ExitStack() as stack:
        for name, module in quantized_modules(model).items():
            if name not in plan.layers:
                continue
            stack.callback(module.register_forward_pre_hook(functools.partial(change, name)).remove)
            stack.callback(setattr, module.weight, "data", module.weight.data)
            weight, found = module.weight.data.clone(), plan.rounded.get(name)
            part = quantized_part(name, weight)
            if found is None:
                own = np.ascontiguousarray(part.numpy())
                part.copy_(torch.from_numpy(rounded_weight(own, plan.factors.get(name), plan.model.weight_limit)))
            else:
                assert module.bias is not None
                part.copy_(torch.from_numpy(found.values))
                stack.callback(setattr, module.bias, "data", module.bias.data)
                module.bias.data = module.bias.data + torch.from_numpy(found.shift)
            module.weight.data = weight
        yield


def rounded_input(plan: Quantization, name: str, values: Floats) -> Floats:
    """What is left of a layer's input ``[B, C, ...]``."""
    grid, factors = plan.grids[f"{name}.input"], plan.factors.get(name)
    if factors is None:
        return grid.rounded(values)
    spread = factors.reshape(-1, *[1] * (values.ndim - 2))
    return grid.rounded(values / spread) * spread


def rounded_weight(weight: Floats, factors: Floats | None, limit: int = WEIGHT_LIMIT) -> Floats:
    """What is left of a layer's weight ``[O, C, ...]``."""
    spread = np.float32(1) if factors is None else by_input_channel(factors, weight.shape)
    return np.asarray(quantize_weight(weight * spread, limit).values / spread, np.float32)
