"""The TensorRT backend over an emulated driver and a stand-in for TensorRT whose engines are ONNX Runtime's."""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from spm_rt import BackendError, Bundle, Tracker
from spm_rt.backends import cuda_driver, load_backend
from spm_rt.backends import tensorrt as backend_module
from spm_rt.backends.tensorrt import TensorRtBackend, TensorRtNetworks
from spm_rt.bundle import STAGES
from spm_rt.contract import contract
from spm_rt.engine_cache import CACHE_VARIABLE, engine_facts, engine_path, seal_facts
from spm_rt.errors import EngineError
from spm_rt.kernels import nvrtc
from spm_rt.resident import ResidentTracker
from spm_rt.tracker import Box

from .emulator import CUresult, Emulator
from .networks import view
from .test_driver import driver_on

Frames = list[NDArray[np.uint8]]
VERSION = "11.4.0.106"


class Engines:
    """Stands in for the module ``tensorrt``: a plan is the name of a stage."""

    __version__ = VERSION

    def __init__(self, bundle: Bundle, emulator: Emulator) -> None:
        self.bundle, self.emulator = bundle, emulator
        self.refuse: set[str] = set()
        self.extra_tensor = self.nonsense = False
        engines = self

        class Logger:
            WARNING = 2

            def __init__(self, level: int) -> None:
                pass

        class Runtime:
            def __init__(self, logger: Logger) -> None:
                pass

            def deserialize_cuda_engine(self, plan: bytes) -> Any:
                return None if "deserialize" in engines.refuse else Engine(engines, plan.decode())

        self.Logger, self.Runtime = Logger, Runtime


class Engine:
    def __init__(self, engines: Engines, stage: str) -> None:
        self._engines, self.stage = engines, stage
        bundle = engines.bundle
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        file = str(bundle.graph(stage, variant="expanded"))
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        sides = contract(bundle.spec, 1)[stage]
        count = bundle.settings.num_candidates
        both = {**sides["inputs"], **sides["outputs"]}
        self.shapes = {name: tuple(count if n == "K" else int(n) for n in shape) for name, shape in both.items()}
        self.inputs, self.outputs = list(sides["inputs"]), list(sides["outputs"])
        self._names = [*both, *(["surplus"] if engines.extra_tensor else [])]
        self.num_io_tensors = len(self._names)

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def create_execution_context(self) -> Any:
        return None if "context" in self._engines.refuse else Execution(self._engines, self)


class Execution:
    def __init__(self, engines: Engines, engine: Engine) -> None:
        self._engines, self._engine = engines, engine
        self._places: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._places[name] = address
        return "address" not in self._engines.refuse

    def execute_async_v3(self, stream: int) -> bool:
        if f"enqueue {self._engine.stage}" in self._engines.refuse:
            return False
        assert self._places.keys() == self._engine.shapes.keys()
        self._engines.emulator.outside(stream, self._run)
        return True

    def _run(self) -> None:
        engine = self._engine
        arrays = {name: view(self._places[name], shape) for name, shape in engine.shapes.items()}
        found = engine.session.run(engine.outputs, {name: arrays[name] for name in engine.inputs})
        for name, value in zip(engine.outputs, found, strict=True):
            arrays[name][:] = np.nan if self._engines.nonsense else value


@pytest.fixture(scope="module")
def bundle(default_bundle: Path) -> Bundle:
    return Bundle.open(default_bundle)


@pytest.fixture
def machine(built: ctypes.CDLL, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engines:
    """A GPU with engines in the cache."""
    emulator = Emulator(built)
    driver = driver_on(emulator, monkeypatch)
    monkeypatch.setattr(cuda_driver, "Driver", lambda: driver)
    monkeypatch.setattr(nvrtc, "compiled", lambda unit, architecture: b"code")
    monkeypatch.setattr(backend_module, "_loggers", {})
    engines = Engines(bundle, emulator)
    monkeypatch.setitem(sys.modules, "tensorrt", engines)
    folder = tmp_path / "engines"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    for stage in STAGES:
        write_engine(folder, bundle, stage)
    return engines


def write_engine(folder: Path, bundle: Bundle, stage: str, **changed: Any) -> Path:
    made = {"library": "tensorrt", "version": VERSION, "target": "sm_90", "gpu": "Emulated GPU", **changed}
    facts, plan = engine_facts(bundle, stage, **made), stage.encode()
    facts = dataclasses.replace(facts, plan_sha256=hashlib.sha256(plan).hexdigest(), plan_bytes=len(plan))
    path = engine_path(folder, facts)
    path.write_bytes(plan)
    path.with_suffix(".json").write_bytes(seal_facts(facts))
    return path


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
