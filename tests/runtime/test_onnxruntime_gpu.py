"""ONNX Runtime's GPU context with OrtValues on the CPU, and what its providers are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from spm_rt import BackendError, Bundle
from spm_rt.backends import load_backend
from spm_rt.backends.onnxruntime_gpu import GRAPH_VARIABLE, DeviceContext, provider_options
from spm_rt.bundle import STAGES


@pytest.fixture(scope="module")
def bundle(default_bundle: Path) -> Bundle:
    return Bundle.open(default_bundle)


@pytest.fixture(scope="module")
def sessions(bundle: Bundle) -> dict[str, Any]:
    """The graphs that a GPU gets, on the CPU."""
    files = {stage: str(bundle.graph(stage, variant="portable")) for stage in STAGES}
    make = onnxruntime.InferenceSession
    return {stage: make(file, providers=["CPUExecutionProvider"]) for stage, file in files.items()}


def test_features_that_stay_where_they_are_give_the_same(bundle: Bundle, sessions: dict[str, Any]) -> None:
    contexts: list[Any] = [
        DeviceContext(sessions, onnxruntime, bundle.spec, 1, "cpu"), load_backend(bundle, "onnxruntime").context()
    ]
    rng = np.random.default_rng(1)
    crops = rng.uniform(0, 255, (2, *contexts[0].crop.shape))
    low = rng.uniform(20, 90, (1, 9, 2))
    proposals = np.concatenate([low, low + rng.uniform(30, 120, low.shape)], axis=2).astype(np.float32)
    found = []
    for context in contexts:
        context.crop[:] = crops[0]
        context.set_template(np.array([[90, 90, 180, 180]], np.float32))
        context.crop[:] = crops[1]
        arrays = [*context.search()]
        for count in (9, 3, 9):
            arrays += context.relate(proposals[:, :count])
        found.append([array.copy() for array in arrays])
    for got, wanted in zip(found[0], found[1], strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-3)


def test_the_cuda_provider_is_asked_for_float32_and_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GRAPH_VARIABLE, raising=False)
    options = provider_options("CUDAExecutionProvider", 1)
    assert options["device_id"] == "1"
    assert options["use_tf32"] == options["enable_cuda_graph"] == "0"
    monkeypatch.setenv(GRAPH_VARIABLE, "1")
    assert provider_options("CUDAExecutionProvider", 0)["enable_cuda_graph"] == "1"
    assert provider_options("CUDAExecutionProvider", 0, graph=False)["enable_cuda_graph"] == "0"


def test_the_tensorrt_provider_keeps_its_engines(tmp_path: Path) -> None:
    options = provider_options("TensorrtExecutionProvider", 0, graph=True, cache=tmp_path)
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == str(tmp_path)
    assert options["trt_engine_cache_enable"] == options["trt_cuda_graph_enable"] == "1"
    assert options["trt_int8_enable"] == "0"
    assert provider_options("TensorrtExecutionProvider", 0, cache=tmp_path, int8=True)["trt_int8_enable"] == "1"
    assert provider_options("CPUExecutionProvider", 0) == {"device_id": "0"}


def test_an_error_of_the_library_names_the_stage(bundle: Bundle, sessions: dict[str, Any]) -> None:
    class Broken:
        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def run_with_iobinding(self, binding: Any) -> None:
            raise RuntimeError("out of memory")

    given = {**sessions, "search": Broken(sessions["search"])}
    context = DeviceContext(given, onnxruntime, bundle.spec, 1, "cpu")
    with pytest.raises(BackendError, match="onnxruntime on cpu:0, search: out of memory"):
        context.search()
