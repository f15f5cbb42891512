"""The PyTorch backend on the CPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from spm_rt import BackendError, Bundle, BundleError
from spm_rt.backends import load_backend
from spm_rt.backends.pytorch.backend import PyTorchBackend
from spm_rt.backends.pytorch.network import read_weights

from ...support.contexts import searched
from ...support.fakes.halves import add_up_in_float32


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_is_near(precision: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    add_up_in_float32(monkeypatch)
    backend = PyTorchBackend(bundle, precision=precision)
    contexts = [backend.context(), load_backend(bundle, "onnxruntime").context()]
    (scores, boxes), (wanted, _) = (searched(context) for context in contexts)
    np.testing.assert_allclose(scores, wanted, atol=0.02 if precision == "float16" else 0.1)
    assert np.isfinite(boxes).all()
    assert precision in backend.description


def test_positions_that_are_no_numbers_give_zeros(bundle: Bundle) -> None:
    network = PyTorchBackend(bundle).network
    deep, shallow = (torch.full((1, c, 34, 34), torch.nan) for c in (384, 256))
    boxes = torch.tensor([[[torch.nan, 10, 100, 90], [10, 10, torch.inf, 90], [300, 300, 400, 400]]])
    assert (network.steps.roi(deep, shallow, boxes) == 0).all()


# What cannot be had.


def test_a_machine_without_a_gpu_says_so(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match=r"device 'cuda': this PyTorch \(.*\) sees no GPU"):
        load_backend(bundle, "pytorch", device="cuda")


def test_unknown_precisions_are_refused(bundle: Bundle) -> None:
    with pytest.raises(
        BackendError,
        match=r"pytorch: precision 'int8' is unknown; there are: float32 \(fp32\), float16 \(fp16\), bfloat16",
    ):
        PyTorchBackend(bundle, precision="int8")


def test_damaged_weights_are_named(bundle: Bundle, tmp_path: Path) -> None:
    whole = bundle.path / "weights.safetensors"
    path = tmp_path / "weights.safetensors"
    for cut in (0, 4, 100, whole.stat().st_size - 1000):
        path.write_bytes(whole.read_bytes()[:cut])
        with pytest.raises(BundleError, match="not readable as safetensors"):
            read_weights(path, torch)
    shutil.copy(whole, path)
    assert read_weights(path, torch).keys() == read_weights(whole, torch).keys()
