"""The TensorRT backend over an emulated driver and a stand-in for TensorRT whose engines are ONNX Runtime's."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spm_rt import BackendError, Bundle, Tracker
from spm_rt.backends import load_backend
from spm_rt.backends.tensorrt import TensorRtBackend, TensorRtNetworks
from spm_rt.bundle import STAGES
from spm_rt.engine_cache import CACHE_VARIABLE, engine_facts
from spm_rt.errors import EngineError
from spm_rt.resident import ResidentTracker
from spm_rt.tracker import Box

from .emulator import CUresult
from .engines import VERSION, Engines, machine_with, write_engine

Frames = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def bundle(default_bundle: Path) -> Bundle:
    return Bundle.open(default_bundle)


@pytest.fixture
def machine(built: ctypes.CDLL, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engines:
    """A GPU with engines in the cache."""
    return machine_with(bundle, built, monkeypatch, tmp_path / "engines")


def test_it_tracks_as_onnx_runtime_does(machine: Engines, bundle: Bundle, clip: Frames, clip_box: Box) -> None:
    found = []
    for backend in (load_backend(bundle, "onnxruntime"), TensorRtBackend(bundle)):
        tracker = Tracker(backend, bundle.spec, bundle.settings)
        tracker.init(clip[0], clip_box)
        found.append([tracker.update(frame).box for frame in clip[1:4]])
    np.testing.assert_allclose(found[1], found[0], atol=0.01)


def test_an_int8_bundle_hands_on_float32(machine: Engines, bundle: Bundle, tmp_path: Path) -> None:
    """The engines here are float32's: what is looked at are the buffers between them."""
    int8 = dataclasses.replace(bundle, manifest={**bundle.manifest, "precision": "int8"})
    for stage in STAGES:
        write_engine(tmp_path / "engines", int8, stage)
    contexts = [TensorRtBackend(one).context() for one in (int8, bundle)]
    sizes = [{name: memory.size for name, memory in context._memory.items()} for context in contexts]
    assert sizes[0] == sizes[1]
    assert sizes[0]["deep"] == 4 * 384 * 34 * 34


def test_a_search_is_one_launch(machine: Engines, bundle: Bundle) -> None:
    context = TensorRtBackend(bundle).context()
    context.crop[:] = 100
    context.set_template(np.array([[90, 90, 180, 180]], np.float32))
    context.search()
    machine.emulator.calls.clear()
    context.search()
    assert machine.emulator.calls == ["cuGraphLaunch", "cuStreamSynchronize"]


def test_fewer_proposals_fill_the_engines_places(machine: Engines, bundle: Bundle) -> None:
    contexts = [TensorRtBackend(bundle).context(), load_backend(bundle, "onnxruntime").context()]
    rng = np.random.default_rng(1)
    crop = rng.uniform(0, 255, contexts[0].crop.shape)
    low = rng.uniform(20, 90, (1, 5, 2))
    proposals = np.concatenate([low, low + rng.uniform(30, 120, low.shape)], axis=2).astype(np.float32)
    found = []
    for context in contexts:
        context.crop[:] = crop
        context.set_template(np.array([[90, 90, 180, 180]], np.float32))
        context.search()
        found.append(context.relate(proposals))
    for got, wanted in zip(found[0], found[1], strict=True):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, atol=1e-3)
    with pytest.raises(BackendError, match="12 proposals; the relation engine is for 9"):
        contexts[0].relate(np.zeros((1, 12, 4), np.float32))


def test_templates_are_copied_between_contexts(machine: Engines, bundle: Bundle) -> None:
    backend = TensorRtBackend(bundle)
    first, second = backend.context(), backend.context()
    for context, level in ((first, 50), (second, 200)):
        context.crop[:] = np.random.default_rng(level).uniform(0, 255, context.crop.shape)
        context.set_template(np.array([[90, 90, 180, 180]], np.float32))
    second.put_template(0, first.template())
    second.crop[:] = first.crop
    np.testing.assert_array_equal(second.search()[0], first.search()[0])


def test_the_resident_tracker_runs_on_its_engines(
    machine: Engines, bundle: Bundle, clip: Frames, clip_box: Box
) -> None:
    resident = ResidentTracker(TensorRtNetworks(TensorRtBackend(bundle)), bundle.spec, bundle.settings)
    plain = Tracker.load(bundle, "onnxruntime")
    for tracker in (resident, plain):
        tracker.init(clip[0], clip_box)
    for frame in clip[1:4]:
        np.testing.assert_allclose(resident.update(frame).box, plain.update(frame).box, atol=0.01)
    assert resident.graphs


# Failures.


@pytest.mark.parametrize(("refused", "message"), [
    ("deserialize", "cannot load it on Emulated GPU"),
    ("context", "no execution context for template"),
    ("address", "does not take an address for crop"),
    ("enqueue search", "search could not be enqueued"),
])
def test_what_tensorrt_refuses_is_named(refused: str, message: str, machine: Engines, bundle: Bundle) -> None:
    machine.refuse.add(refused)
    with pytest.raises(BackendError, match=message):
        TensorRtBackend(bundle)


def test_an_engine_with_other_tensors_is_refused(machine: Engines, bundle: Bundle) -> None:
    machine.extra_tensor = True
    with pytest.raises(BackendError, match=r"its tensors are .*surplus.*: not those of template"):
        TensorRtBackend(bundle)


@pytest.mark.filterwarnings("ignore:CUDA graphs")
def test_an_engine_that_gives_nonsense_is_refused(machine: Engines, bundle: Bundle) -> None:
    machine.nonsense = True
    with pytest.raises(BackendError, match="search gives nonsense"):
        TensorRtBackend(bundle)


def test_a_failed_capture_is_done_without(machine: Engines, bundle: Bundle, clip: Frames, clip_box: Box) -> None:
    machine.emulator.fail("cuStreamEndCapture", CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
    with pytest.warns(RuntimeWarning, match="CUDA graphs are not used: cuStreamEndCapture failed"):
        backend = TensorRtBackend(bundle)
    tracker = Tracker(backend, bundle.spec, bundle.settings)
    tracker.init(clip[0], clip_box)
    assert tracker.update(clip[1]).found
    assert "cuGraphLaunch" not in machine.emulator.calls


def test_a_full_gpu_is_named(machine: Engines, bundle: Bundle) -> None:
    machine.emulator.fail("cuMemAlloc", CUresult.CUDA_ERROR_OUT_OF_MEMORY, after=3)
    with pytest.raises(BackendError, match="the GPU's memory is full"):
        TensorRtBackend(bundle)


@pytest.mark.parametrize(("changed", "message"), [
    ({"target": "sm_86"}, "built for sm_86"), ({"version": "10.8.0.43"}, "with tensorrt 10.8.0.43"),
])
def test_engines_for_something_else_are_named(
    changed: dict[str, Any], message: str, machine: Engines, bundle: Bundle, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "others"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    for stage in STAGES:
        write_engine(folder, bundle, stage, **changed)
    with pytest.raises(EngineError, match=message):
        TensorRtBackend(bundle)


def test_an_altered_engine_is_not_loaded(machine: Engines, bundle: Bundle, tmp_path: Path) -> None:
    (path,) = (tmp_path / "engines").glob("search*.plan")
    path.write_bytes(b"seArch")
    with pytest.raises(EngineError, match="not the plan that was built"):
        TensorRtBackend(bundle)


def test_an_engine_with_the_plugin_is_taken_first(machine: Engines, bundle: Bundle, tmp_path: Path) -> None:
    wanted = write_engine(tmp_path / "engines", bundle, "relation", plugin_sha256="ab" * 32)
    backend = TensorRtBackend(bundle)
    facts = engine_facts(bundle, "relation", library="tensorrt", version=VERSION, target="sm_90", gpu="Emulated GPU")
    assert backend._choose(facts)[0] == wanted


@pytest.mark.parametrize("device", ["cpu", "cuda:first", "gpu"])
def test_other_devices_are_refused(device: str, bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="runs on NVIDIA GPUs; give cuda or cuda:1"):
        TensorRtBackend(bundle, device=device)
