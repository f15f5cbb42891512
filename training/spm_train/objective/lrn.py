"""Local response normalisation with its gradient in closed form: fewer passes over memory, and fewer small kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

SIZE, ALPHA, BETA = 5, 1e-4, 0.75


def local_response_norm(x: Tensor) -> Tensor:
    """``x * e ** -0.75`` of maps ``[B, C, H, W]``, with e = 1 + 1e-4 / 5 times the sum of squares over five channels.

    The same as ``local_response_norm(x, size=5, alpha=1e-4, beta=0.75, k=1.0)`` of PyTorch. The sum over channels is a
    1 x 1 convolution, which is several times faster.
    """
    out: Tensor = _LocalResponseNorm.apply(x)  # type: ignore[no-untyped-call]
    return out


class _LocalResponseNorm(torch.autograd.Function):
    """dx = g e^-0.75 - 2 * 0.75 * alpha / 5 * x * sum over five channels of (g y / e)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        # e ** -0.75 as a root and a product: a general power takes ten times as long.
        root = _sum_channels(x * x, ALPHA / SIZE, 1.0).rsqrt_()
        out = root.sqrt().mul_(root).mul_(x)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(x, root)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, root = ctx.saved_tensors
        scaled = root.sqrt().mul_(root).mul_(gradient)
        through = (scaled * x).mul_(root).mul_(root)
        out: Tensor = scaled.addcmul_(x, _sum_channels(through, -2 * BETA * ALPHA / SIZE, 0.0))
        return out


def _sum_channels(x: Tensor, factor: float, constant: float) -> Tensor:
    """``constant`` plus ``factor`` times the sum over each channel and the two on either side."""
    index = torch.arange(x.shape[1], device=x.device)
    band = ((index[:, None] - index).abs() <= SIZE // 2).to(x.dtype)[..., None, None]
    return F.conv2d(x, band * factor, x.new_full((x.shape[1],), constant) if constant else None)
