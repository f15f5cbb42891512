"""A stand-in for TensorRT whose engines are ONNX Runtime's, on addresses of emulated device memory."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import hashlib
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from spm_rt import Bundle
from spm_rt.bundle import STAGES
from spm_rt.bundle.contract import contract, stage_shapes, tensor_type
from spm_rt.cache.engine_facts import engine_facts
from spm_rt.cache.engines import engine_path, seal_facts
from spm_rt.store import VARIABLE

from ..fakes.tensorrt_builder import ILogger
from .driver import Emulator, emulated_gpu
from .networks import view

VERSION = "11.4.0.106"


class Engines:
    """Stands in for the module ``tensorrt``: a plan is a stage, its numbers of targets and proposals, or what
    tests/support/fakes/tensorrt_builder.py makes."""

    __version__ = VERSION

    def __init__(self, bundle: Bundle, emulator: Emulator, name: str = "tensorrt") -> None:
        self.bundle, self.emulator, self.__spec__ = bundle, emulator, ModuleSpec(name, None)
        self.refuse: set[str] = set()
        self.logger: Any = None
        self.extra_tensor = self.nonsense = False
        self.off: dict[str, float] = {}
        """Added to all that a stage gives."""
        engines = self

        class Runtime:
            def __init__(self, logger: Any) -> None:
                engines.logger = logger

            def deserialize_cuda_engine(self, plan: bytes) -> Any:
                stage, targets, proposals = _described(plan.decode())
                if engines.refuses("deserialize"):
                    return None
                return Engine(engines, stage, targets, proposals)

        self.ILogger, self.Runtime = ILogger, Runtime

    def refuses(self, what: str) -> bool:
        """Whether this is refused; the reason goes to the logger alone."""
        if what in self.refuse:
            self.logger.log(ILogger.Severity.ERROR, f"Error Code 6:\n no {what} today")
        return what in self.refuse


def _described(plan: str) -> tuple[str, int, int]:
    if plan.startswith("{"):
        shapes = json.loads(plan)["shapes"]
        stage = "relation" if "proposals" in shapes else "template" if "box" in shapes else "search"
        return stage, next(iter(shapes.values()))[0], shapes.get("proposals", (0, 0))[1]
    stage, targets, proposals = plan.split()
    return stage, int(targets), int(proposals)


@functools.cache
def session_of(file: str) -> onnxruntime.InferenceSession:
    """One per graph file and process, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


@functools.lru_cache(maxsize=32)
def _computed(
    file: str, outputs: tuple[str, ...], *inputs: tuple[str, np.dtype[Any], tuple[int, ...], bytes]
) -> list[NDArray[Any]]:
    """What a graph gives; not computed anew for what it was last given, such as the self-test of every backend."""
    feeds = {name: np.frombuffer(content, kind).reshape(shape) for name, kind, shape, content in inputs}
    found: list[NDArray[Any]] = session_of(file).run(outputs, feeds)
    return found


class Engine:
    """The graph file as it is: float16 as ONNX Runtime computes it, with tensors of two bytes at its borders."""

    def __init__(self, engines: Engines, stage: str, targets: int, count: int) -> None:
        self._engines, self.stage = engines, stage
        bundle = engines.bundle
        self.file = str(bundle.graph(stage, targets=targets))
        sides = contract(bundle.spec, targets)[stage]
        self.shapes = stage_shapes(bundle.spec, targets, stage, count)
        self.types = {name: np.dtype(tensor_type(name, bundle.precision)) for name in self.shapes}
        self.inputs, self.outputs = list(sides["inputs"]), list(sides["outputs"])
        self._names = [*self.shapes, *(["surplus"] if engines.extra_tensor else [])]
        self.num_io_tensors = len(self._names)

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def create_execution_context(self) -> Any:
        return None if self._engines.refuses("context") else Execution(self._engines, self)


class Execution:
    def __init__(self, engines: Engines, engine: Engine) -> None:
        self._engines, self._engine = engines, engine
        self._addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return "address" not in self._engines.refuse

    def execute_async_v3(self, stream: int) -> bool:
        if self._engines.refuses(f"enqueue {self._engine.stage}"):
            return False
        assert self._addresses.keys() == self._engine.shapes.keys()
        self._engines.emulator.outside(stream, self._run)
        return True

    def _run(self) -> None:
        engine = self._engine
        arrays = {name: view(self._addresses[name], engine.shapes[name], engine.types[name]) for name in engine.shapes}
        given = ((name, engine.types[name], engine.shapes[name], arrays[name].tobytes()) for name in engine.inputs)
        found = _computed(engine.file, tuple(engine.outputs), *given)
        for name, value in zip(engine.outputs, found, strict=True):
            arrays[name][:] = np.nan if self._engines.nonsense else value + self._engines.off.get(engine.stage, 0)


def machine_with(
    bundle: Bundle, built: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, folder: Path, library: str = "tensorrt"
) -> Engines:
    """A GPU, with engines for all the bundle's numbers of targets in ``folder``, whose name is ``engines``."""
    engines = Engines(bundle, emulated_gpu(built, monkeypatch), library)
    monkeypatch.setitem(sys.modules, library, engines)
    folder.mkdir(mode=0o700)
    monkeypatch.setenv(VARIABLE, str(folder.parent))
    for targets in bundle.targets:
        for stage in STAGES if targets == 1 else STAGES[1:]:
            write_engine(folder, bundle, stage, targets=targets, library=library)
    return engines


def write_engine(folder: Path, bundle: Bundle, stage: str, **changed: Any) -> Path:
    made = {"library": "tensorrt", "version": VERSION, "target": "sm_90", "gpu": "Emulated GPU", **changed}
    facts = engine_facts(bundle, stage, **made)
    plan = f"{stage} {facts.targets} {facts.proposals}".encode()
    facts = dataclasses.replace(facts, plan_sha256=hashlib.sha256(plan).hexdigest(), plan_bytes=len(plan))
    path = engine_path(folder, facts)
    path.write_bytes(plan)
    path.with_suffix(".json").write_bytes(seal_facts(facts))
    return path
