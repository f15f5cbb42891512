"""ONNX Runtime's GPU context with OrtValues on the CPU, and what its providers are asked for.

What it computes is compared in test_registry.py and in trackers/test_multi.py.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from spm_rt import BackendError, Bundle, Tracker, TrackResult
from spm_rt.backends.onnxruntime.gpu import GRAPH_VARIABLE, DeviceContext, captures, provider_options
from spm_rt.results import Box

from ...support.emulator.onnxruntime_gpu import DeviceBackend, sessions_of
from ...support.exports import Frames


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


def test_captured_graphs_give_every_tracker_its_own_boxes(bundle: Bundle, clip: Frames, clip_box: Box) -> None:
    """The number of proposals changes along the clip, and both trackers run through the same sessions."""

    def follow(trackers: list[Tracker]) -> list[list[TrackResult]]:
        boxes = (clip_box, (40.0, 60.0, 80.0, 70.0))
        for tracker, box in zip(trackers, boxes, strict=True):
            tracker.init(clip[0], box)
        return [[tracker.update(frame, candidates=True) for tracker in trackers] for frame in clip[1:6]]

    def two(backend: DeviceBackend) -> list[Tracker]:
        return [Tracker(backend, bundle.spec, bundle.settings) for _ in range(2)]

    backend = DeviceBackend(bundle, capturing=True)
    found, wanted = follow(two(backend)), follow(two(DeviceBackend(bundle)))
    assert found == wanted
    assert len({len(result.candidates or ()) for results in wanted for result in results}) > 1
    assert [len(session.captured) for session in backend.sessions.values()] == [2, 2, 2]


def test_more_proposals_than_usual_have_a_graph_of_their_own(bundle: Bundle) -> None:
    captured, plain = DeviceBackend(bundle, capturing=True).context(), DeviceBackend(bundle).context()
    proposals = np.tile(np.array([80, 80, 170, 190], np.float32), (1, bundle.settings.num_candidates + 2, 1))
    proposals += np.arange(proposals.shape[1], dtype=np.float32)[:, None]
    for context in (captured, plain):
        context.crop[:] = np.random.default_rng(1).uniform(0, 255, context.crop.shape)
        context.set_template(np.array([[90, 90, 180, 180]], np.float32))
        context.search()
    for count in (3, proposals.shape[1], 2, 5, proposals.shape[1]):
        for found, wanted in zip(
            captured.relate(proposals[:, :count]), plain.relate(proposals[:, :count]), strict=True
        ):
            assert found.shape[:2] == (1, count)
            np.testing.assert_array_equal(found, wanted)


def test_sessions_that_capture_graphs_run_for_one_thread_at_a_time(bundle: Bundle) -> None:
    backend = DeviceBackend(bundle, capturing=True)
    inside = [backend.context() for _ in range(2)]
    for context in inside:
        context.set_template(np.array([[90, 90, 180, 180]], np.float32))
    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            list(pool.map(lambda context: context.search(), inside))  # the stand-in raises where both are in it


def test_the_backend_knows_whether_graphs_are_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("CUDAExecutionProvider", "TensorrtExecutionProvider"):
        assert captures(provider_options(provider, 0, graph=True))
        assert not captures(provider_options(provider, 0, graph=False))
    assert not captures(provider_options("CPUExecutionProvider", 0, graph=True))


def test_an_error_of_the_library_names_the_stage(bundle: Bundle, sessions: dict[str, Any]) -> None:
    class Broken:
        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            raise RuntimeError("out of memory")

    given = {**sessions, "search": Broken(sessions["search"])}
    context = DeviceContext(given, onnxruntime, bundle.spec, 1, 9, "cpu")
    with pytest.raises(BackendError, match="onnxruntime on cpu:0, search: out of memory"):
        context.search()
