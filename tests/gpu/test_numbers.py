"""Half and bfloat conversions of the host build against PyTorch's."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import torch

from ..support.emulator.host_build import call

RNG = np.random.default_rng(21)
ALL = np.arange(1 << 16, dtype=np.uint16)


def floats() -> np.ndarray:
    """Floats of all magnitudes, ties between halves, subnormals, infinities and NaN."""
    random = RNG.integers(0, 1 << 32, 200_000, dtype=np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):
        halves = ALL.view(np.float16).astype(np.float32)
        ties = (halves[:-1] + halves[1:]) / 2
    special = np.array([0, -0.0, 65504, 65519.99, 65520, 1e30, -1e30, np.inf, -np.inf, np.nan, 6e-8, 2e-8], np.float32)
    return np.ascontiguousarray(np.concatenate([random, halves, ties, special]), np.float32)


@pytest.mark.parametrize(("name", "kind"), [("half", torch.float16), ("bfloat", torch.bfloat16)])
def test_every_value_is_read_and_floats_are_rounded_as_pytorch_does(
    name: str, kind: torch.dtype, built: ctypes.CDLL
) -> None:
    def values(bits: np.ndarray) -> np.ndarray:
        return torch.from_numpy(bits).view(kind).float().numpy()

    out = np.empty(ALL.size, np.float32)
    call(built, f"spm_from_{name}", ALL, out, ALL.size)
    np.testing.assert_array_equal(out, values(ALL))
    given = floats()
    bits = np.empty(given.size, np.uint16)
    call(built, f"spm_to_{name}", given, bits, given.size)
    np.testing.assert_array_equal(values(bits), torch.from_numpy(given).to(kind).float().numpy())
