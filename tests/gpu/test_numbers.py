"""Half and bfloat conversions of the host build against NumPy's and PyTorch's."""

from __future__ import annotations

import ctypes

import numpy as np
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


def test_every_half_has_its_value(built: ctypes.CDLL) -> None:
    out = np.empty(ALL.size, np.float32)
    call(built, "spm_from_half", ALL, out, ALL.size)
    np.testing.assert_array_equal(out, ALL.view(np.float16).astype(np.float32))


def test_floats_round_to_halves_as_numpy_rounds_them(built: ctypes.CDLL) -> None:
    given = floats()
    out = np.empty(given.size, np.uint16)
    call(built, "spm_to_half", given, out, given.size)
    with np.errstate(over="ignore", invalid="ignore"):
        np.testing.assert_array_equal(out.view(np.float16), given.astype(np.float16))


def test_every_bfloat_has_its_value(built: ctypes.CDLL) -> None:
    out = np.empty(ALL.size, np.float32)
    call(built, "spm_from_bfloat", ALL, out, ALL.size)
    np.testing.assert_array_equal(out, torch.from_numpy(ALL).view(torch.bfloat16).float().numpy())


def test_floats_round_to_bfloats_as_pytorch_rounds_them(built: ctypes.CDLL) -> None:
    given = floats()
    out = np.empty(given.size, np.uint16)
    call(built, "spm_to_bfloat", given, out, given.size)
    got = torch.from_numpy(out).view(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(got, torch.from_numpy(given).bfloat16().float().numpy())
