"""float16 on a CPU as GPUs compute it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional


def add_up_in_float32(patch: pytest.MonkeyPatch) -> None:
    """Convolutions of float16 numbers are added up in float32; PyTorch's own on CPUs take ten times as long."""
    plain = functional.conv2d

    def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, **how: object) -> Tensor:
        if x.dtype != torch.float16:
            return plain(x, weight, bias, **how)
        return plain(x.float(), weight.float(), None if bias is None else bias.float(), **how).half()

    patch.setattr(functional, "conv2d", conv2d)
