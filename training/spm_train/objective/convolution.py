"""The fine stage's 3 x 3 convolution of hundreds of small maps, with the gradient of its weights as one product."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def small_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """``conv2d(x, weight, padding=1)`` of maps ``[M, C, h, w]`` with weights ``[O, C, 3, 3]``.

    On a CPU, oneDNN takes five times as long for the gradient of the weights as for the convolution itself, where M is
    large and the maps are small.
    """
    if x.device.type != "cpu":
        return F.conv2d(x, weight, padding=1)
    out: Tensor = _SmallConvolution.apply(x, weight)  # type: ignore[no-untyped-call]
    return out


class _SmallConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = (value.to(gradient.dtype) for value in ctx.saved_tensors)
        (outputs, inputs), (height, width) = weight.shape[:2], x.shape[2:]
        for_x = F.conv_transpose2d(gradient, weight, padding=1) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return for_x, None
        padded = F.pad(gradient.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        moved = [padded[:, y : y + height, z : z + width] for y in (2, 1, 0) for z in (2, 1, 0)]
        taps = torch.cat(moved, dim=-1).reshape(-1, 9 * outputs)
        product = taps.t() @ x.permute(0, 2, 3, 1).reshape(-1, inputs)
        return for_x, product.reshape(3, 3, outputs, inputs).permute(2, 3, 0, 1)
