"""ONNX Runtime's GPU context with OrtValues on the CPU, and what its providers are asked for.

What it computes is compared in test_registry.py and in trackers/test_multi.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from spm_rt import BackendError, Bundle
from spm_rt.backends.onnxruntime.gpu import GRAPH_VARIABLE, DeviceContext, provider_options

from ...support.emulator.onnxruntime_gpu import DeviceBackend, sessions_of


@pytest.fixture(scope="module")
def sessions(bundle: Bundle) -> dict[str, Any]:
    return sessions_of(bundle, 1)


def test_slots_that_nobody_has_hold_zeros(synthetic_bundle: Path) -> None:
    context = DeviceBackend(Bundle.open(synthetic_bundle), 2).context()
    for name in ("head_kernel", "head_bias", "target_half"):
        context._values[name].update_inplace(np.full(context._put[name].shape, np.nan, np.float32))  # fresh memory
    template = {name: np.ones(array.shape[1:], np.float32) for name, array in context._put.items()}
    context.put_template(1, template)
    context.search()
    for name, value in template.items():
        np.testing.assert_array_equal(context._values[name].numpy(), np.stack([np.zeros_like(value), value]))
    with pytest.raises(BackendError, match="templates are made one by one"):
        context.set_template(np.zeros((2, 4), np.float32))


def test_the_cuda_provider_is_asked_for_float32_and_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GRAPH_VARIABLE, raising=False)
    options = provider_options("CUDAExecutionProvider", 1)
    assert options["device_id"] == "1"
    assert options["use_tf32"] == options["enable_cuda_graph"] == "0"
    monkeypatch.setenv(GRAPH_VARIABLE, "1")
    assert provider_options("CUDAExecutionProvider", 0)["enable_cuda_graph"] == "1"
    assert provider_options("CUDAExecutionProvider", 0, graph=False)["enable_cuda_graph"] == "0"


def test_the_tensorrt_provider_keeps_its_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = provider_options("TensorrtExecutionProvider", 0, graph=True, cache=tmp_path)
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == str(tmp_path)
    assert options["trt_engine_cache_enable"] == options["trt_cuda_graph_enable"] == "1"
    assert options["trt_int8_enable"] == "0"
    assert provider_options("TensorrtExecutionProvider", 0, cache=tmp_path, int8=True)["trt_int8_enable"] == "1"
    assert provider_options("CPUExecutionProvider", 0) == {"device_id": "0"}
    monkeypatch.setenv("SPM_RT_CACHE", str(tmp_path))
    kept = provider_options("TensorrtExecutionProvider", 0)["trt_engine_cache_path"]
    assert kept == str(tmp_path / "engines" / "onnxruntime")
    monkeypatch.setenv("SPM_RT_CACHE", "off")
    assert not [name for name in provider_options("TensorrtExecutionProvider", 0) if "cache" in name]


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
