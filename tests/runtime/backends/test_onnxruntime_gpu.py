"""ONNX Runtime's GPU context with OrtValues on the CPU, and what its providers are asked for."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from spm_rt import BackendError, Bundle, MultiTracker
from spm_rt.backends import load_backend
from spm_rt.backends.onnxruntime.gpu import GRAPH_VARIABLE, DeviceContext, provider_options
from spm_rt.bundle import STAGES
from spm_rt.results import Box

Frames = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def sessions(bundle: Bundle) -> dict[str, Any]:
    return sessions_of(bundle, 1)


def sessions_of(bundle: Bundle, targets: int) -> dict[str, Any]:
    """The graphs that a GPU gets, on the CPU; templates are made one by one."""
    stages = STAGES if targets == 1 else STAGES[1:]
    files = {stage: str(bundle.graph(stage, targets=targets, variant="portable")) for stage in stages}
    make = onnxruntime.InferenceSession
    return {stage: make(file, providers=["CPUExecutionProvider"]) for stage, file in files.items()}


def test_features_that_stay_where_they_are_give_the_same(bundle: Bundle, sessions: dict[str, Any]) -> None:
    contexts: list[Any] = [
        DeviceContext(sessions, onnxruntime, bundle.spec, 1, "cpu"),
        load_backend(bundle, "onnxruntime").context(),
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


class DeviceBackend:
    """As the backend on CUDA, with OrtValues on the CPU."""

    name = description = "onnxruntime"

    def __init__(self, bundle: Bundle, targets: int) -> None:
        self._bundle, self._targets, self._sessions = bundle, targets, sessions_of(bundle, targets)

    def context(self) -> DeviceContext:
        return DeviceContext(self._sessions, onnxruntime, self._bundle.spec, self._targets, "cpu")


def test_the_multi_tracker_runs_on_it(synthetic_bundle: Path, clip: Frames, clip_box: Box) -> None:
    """As on the CPU's contexts, while targets come, go, and change their slots."""
    bundle = Bundle.open(synthetic_bundle)
    made = functools.cache(lambda targets: DeviceBackend(bundle, targets))
    both = [MultiTracker(made, (1, 2), bundle.spec, bundle.settings), MultiTracker.load(bundle, "onnxruntime")]
    boxes = [clip_box, (10.0, 20.0, 60.0, 60.0), (250.0, 100.0, 60.0, 60.0)]
    found: list[list[Any]] = []
    for multi in both:
        ids = [multi.add(clip[0], box) for box in boxes]
        results = [multi.update(clip[1]), multi.update(clip[2])]
        multi.remove(ids[0])
        results += [multi.update(clip[3])]
        multi.remove(ids[2])
        results += [multi.update(clip[4])]
        found.append([(id, *result.box) for frame in results for id, result in frame.items()])
    np.testing.assert_allclose(found[0], found[1], atol=0.01)


def test_all_stages_for_two_targets_agree(synthetic_bundle: Path) -> None:
    bundle, rng = Bundle.open(synthetic_bundle), np.random.default_rng(2)
    template_context = DeviceContext(sessions_of(bundle, 1), onnxruntime, bundle.spec, 1, "cpu")
    contexts: list[Any] = [
        DeviceContext(sessions_of(bundle, 2), onnxruntime, bundle.spec, 2, "cpu"),
        load_backend(bundle, "onnxruntime", targets=2).context(),
    ]
    for slot in (1, 0):
        template_context.crop[:] = rng.uniform(0, 255, template_context.crop.shape)
        template_context.set_template(np.array([[90, 90, 180, 180]], np.float32))
        for context in contexts:
            context.put_template(slot, template_context.template())
    crop = rng.uniform(0, 255, contexts[0].crop.shape)
    low = rng.uniform(20, 90, (2, 9, 2))
    proposals = np.concatenate([low, low + rng.uniform(30, 120, low.shape)], axis=2).astype(np.float32)
    found = []
    for context in contexts:
        context.crop[:] = crop
        found.append([array.copy() for array in (*context.search(), *context.relate(proposals))])
    for got, wanted in zip(found[0], found[1], strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-3)


def test_slots_that_nobody_has_hold_zeros(synthetic_bundle: Path) -> None:
    bundle = Bundle.open(synthetic_bundle)
    context = DeviceContext(sessions_of(bundle, 2), onnxruntime, bundle.spec, 2, "cpu")
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
