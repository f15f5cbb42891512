"""TensorRT: engines from the user's own cache (docs/guide/engines.md), one stream and one set of buffers per context.

Features, kernels and target features stay on the device; per call one copy goes up and one comes back. Search and
relation are captured as CUDA graphs after a usual run, and the first captured result is compared with it. Tested over
an emulated driver and a stand-in for TensorRT; not run on a GPU (docs/notes/gpu.md).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle import STAGES, Bundle
from ...bundle.contract import TEMPLATE_NAMES, contract, stage_shapes, tensor_type
from ...bundle.self_test import SelfTest, observe
from ...cache.engine_facts import EngineFacts, rtx_refusal
from ...cache.engines import engine_folder, find_engine, read_engine
from ...errors import BackendError
from ...frame.geometry import Region
from ...gpu.capture import CapturedWork
from ...gpu.crop import DeviceCrop, crop_module
from ...gpu.device_frames import DeviceFrame, device_frame
from ...gpu.driver import Device, Memory, Module
from ...gpu.kernels import source
from .messages import library_log

Floats = NDArray[np.float32]

TF32_ALLOWED = {"search.scores": 2**-7, "search.boxes": 1.0, "relation.scores": 2**-7, "relation.boxes": 0.25}
"""How far engines with TF32 may be from the reference: as far as those in float16, which has as many digits."""


class TensorRtBackend:
    """The three engines of a bundle on one GPU, shared by all contexts.

    Args:
        bundle: a verified bundle; its engines must have been built (``spm-export BUNDLE --engine tensorrt``).
        device: ``cuda`` or ``cuda:INDEX``.
        threads: not used on GPUs.
        targets: leading axis of every tensor; engines are built for each number.
        precision: an engine's is its bundle's, whatever is said here.
        library: ``tensorrt`` or ``tensorrt_rtx``.

    Raises:
        EngineError: no engine that fits, or one that is damaged or somebody else's.
        BackendError: no driver, no GPU, or an engine that does not do what it should.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "cuda",
        threads: int | None = None,
        targets: int = 1,
        precision: str | None = None,
        library: str = "tensorrt",
    ) -> None:
        kind, _, index = device.partition(":")
        if kind != "cuda" or (index and not index.isdigit()):
            raise BackendError(f"device {device!r}: {library} runs on NVIDIA GPUs; give cuda or cuda:1")
        self._trt: Any = importlib.import_module(library)
        self.name = library.replace("_", "-")
        self.device = Device(int(index or 0))
        self.spec, self.targets, self.bundle = bundle.spec, targets, bundle
        self.precision = str(bundle.manifest["precision"])
        if library == "tensorrt_rtx":
            self._check_card()
        self._log = library_log(self._trt)
        self._runtime = self._trt.Runtime(self._log)
        self.graphs = True
        stages = STAGES if targets == 1 else STAGES[1:]  # templates are made one by one
        self._facts: dict[str, EngineFacts] = {}
        self.engines = {stage: self._load(stage, library) for stage in stages}
        self.count = self._facts["relation"].proposals
        inexact = [stage for stage, facts in self._facts.items() if facts.tf32]
        exactness = f" with TF32 in {', '.join(inexact)}" if inexact else ""
        version = self._trt.__version__
        self.description = f"{library} {version}, {self.device.name}, {self.precision}{exactness}"
        self._check_answers()

    def context(self) -> TensorRtContext:
        self.device.enter()
        return TensorRtContext(self)

    @functools.cached_property
    def crop_module(self) -> Module:
        """Our kernels, for frames that are on the GPU already."""
        return crop_module(self.device)

    @property
    def said(self) -> str:
        """The library's last errors, on one line."""
        return str(self._log.text())

    def _check_card(self) -> None:
        why = rtx_refusal(divmod(self.device.capability, 10), str(self._trt.__version__))
        if why:
            raise BackendError(
                f"{self.device.name}: {why}. Take --backend tensorrt, or pytorch, which needs no engines; `spm-export "
                "doctor` says which versions serve this card"
            )

    def _load(self, stage: str, library: str) -> Any:
        target, version = f"sm_{self.device.capability}", str(self._trt.__version__)
        here = {"library": library, "version": version, "target": target, "gpu": self.device.name}
        path, facts = find_engine(engine_folder(), self.bundle, stage, targets=self.targets, **here)
        self._facts[stage] = facts
        if facts.plugin_sha256 == hashlib.sha256(source("roi").encode()).hexdigest():
            from .python_plugin import register_python_plugin

            register_python_plugin(self._trt, self.device.capability)
        plan = read_engine(path, facts)
        self._log.clear()
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            where = f"{self.device.name} (compute capability {'.'.join(map(str, divmod(self.device.capability, 10)))})"
            raise BackendError(f"{path}: {library} {version} cannot load it on {where}: {self.said}")
        names = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
        sides = contract(self.spec, self.targets)[stage]
        if names != {*sides["inputs"], *sides["outputs"]}:
            raise BackendError(f"{path}: its tensors are {', '.join(sorted(names))}: not those of {stage}")
        return engine

    def _check_answers(self) -> None:
        """Run what was loaded on known inputs: finite, in range, the same twice, and what the reference gave.

        The last is for one target: for more there is no template here, since their engines are made one by one.
        """
        context = self.context()
        context.crop[:] = np.random.default_rng(0).uniform(0, 255, context.crop.shape)
        if self.targets == 1:
            context.set_template(np.array([[90, 90, 180, 180]], np.float32))
        first = [array.copy() for array in context.search()]
        again = context.search()
        sound = all(np.isfinite(a).all() and np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        if not sound or first[0].min() < 0 or first[0].max() > 1:
            raise BackendError(f"{self.description}: search gives nonsense, or not the same twice; build it again")
        expected = self._expected() if self.targets == 1 else None
        deviations = expected.deviations(observe(context, expected.positions, expected.proposals)) if expected else ""
        if deviations:
            raise BackendError(
                f"{self.description}: the engines do not give what the reference gave when {self.bundle.path} was "
                f"exported (self-test): {deviations}. Build them again; if that does not help, with another version of "
                "the library"
            )

    def _expected(self) -> SelfTest | None:
        """The bundle's self-test as far as these engines go: for the proposals they take, no more exact than TF32."""
        self_test = self.bundle.self_test
        if self_test is None:
            return None
        outputs = {name: a[: self.count] if name.startswith("relation") else a for name, a in self_test.outputs.items()}
        allowed = dict(self_test.allowed)
        if any(facts.tf32 for facts in self._facts.values()):
            allowed = {name: max(bound, TF32_ALLOWED[name]) for name, bound in allowed.items()}
        return dataclasses.replace(self_test, outputs=outputs, allowed=allowed)


class TensorRtContext:
    """One tracker's stream, buffers and execution contexts."""

    def __init__(self, backend: TensorRtBackend) -> None:
        self._backend, self.stream = backend, backend.device.stream()
        device = backend.device
        shapes: dict[str, tuple[int, ...]] = {}
        # What comes back lies side by side, so that it is one copy: boxes, then scores, [T, n, 4] and [T, n].
        self._answers: dict[str, tuple[Memory, Floats]] = {}
        for stage in STAGES:
            own = stage_shapes(backend.spec, backend.targets, stage, backend.count)
            if stage != "template":
                count = int(np.prod(own.pop("scores")) + np.prod(own.pop("boxes")))
                self._answers[stage] = device.memory(4 * count), device.pinned((count,), np.float32)
            shapes |= own
        self._memory = {name: device.memory(self._bytes(name, shape)) for name, shape in shapes.items()}
        self.addresses = {name: memory.address for name, memory in self._memory.items()}
        self.crop: Floats = device.pinned(shapes["crop"], np.float32)
        self._box, self._proposals = (device.pinned(shapes[name], np.float32) for name in ("box", "proposals"))
        self._executions = {stage: self._execution(stage) for stage in backend.engines}
        for memory in self._memory.values():  # slots that nobody uses are computed too: they must hold numbers
            self.stream.clear(memory)
        self.on_device = False
        self._cropper: DeviceCrop | None = None
        # Two graphs, captured when first needed: with the crop's upload in it, and for crops made on the device.
        self._search_with_upload = self._captured("search", (self.crop, "crop"))
        self._search = self._captured("search")
        self._relate = self._captured("relation", (self._proposals, "proposals"))

    def set_template(self, box: Floats) -> None:
        if not self.on_device:
            self.stream.upload(self.crop, self.addresses["crop"])
        self.make_template(box)

    def make_template(self, box: Floats) -> None:
        """The template of the crop that is on the device; ``box`` as for ``set_template``."""
        if "template" not in self._executions:
            raise BackendError("templates are made one by one: by a context of a backend for one target")
        self._box[:] = box
        self.stream.upload(self._box, self.addresses["box"])
        self.enqueue("template")
        self.stream.wait()

    def search(self) -> tuple[Floats, Floats]:
        (self._search if self.on_device else self._search_with_upload).run()
        return self._read("search")

    def relate(self, proposals: Floats) -> tuple[Floats, Floats]:
        count, room = proposals.shape[1], self._backend.count
        if count > room:
            library = self._backend.name
            raise BackendError(
                f"{count} proposals; the relation engine is for {room}. Build one for more: spm-export BUNDLE --engine "
                f"{library} --proposals {count}, and load with settings that ask for so many"
            )
        self._proposals[:, :count] = proposals
        self._proposals[:, count:] = proposals[:, -1:]
        self._relate.run()
        scores, boxes = self._read("relation")
        return scores[:, :count], boxes[:, :count]

    def device_frame(self, frame: Any) -> DeviceFrame:
        return device_frame(frame, index=self._backend.device.index, stream=self.stream.handle)

    def crop_device(self, frame: DeviceFrame, region: Region, slot: int = 0) -> None:
        if self._cropper is None:
            device, size = self._backend.device, self._backend.spec.crop_size
            crop = self.addresses["crop"]
            self._cropper = DeviceCrop(device, self._backend.crop_module, crop, self._backend.targets, size)
        self._cropper(frame, region, slot, self.stream)
        self.on_device = True

    def template(self) -> Mapping[str, NDArray[np.uint8]]:
        copies = {name: np.empty(self._memory[name].size, np.uint8) for name in TEMPLATE_NAMES}
        for name, array in copies.items():
            self.stream.download(self.addresses[name], array)
        self.stream.wait()
        return copies

    def put_template(self, slot: int, template: Mapping[str, NDArray[np.uint8]]) -> None:
        for name in TEMPLATE_NAMES:
            self.stream.upload(template[name], self.addresses[name] + slot * template[name].nbytes)
        self.stream.wait()

    def enqueue(self, stage: str) -> None:
        """Put a stage on the stream."""
        if not self._executions[stage].execute_async_v3(self.stream.handle):
            why = self._backend.said
            raise BackendError(f"{self._backend.description}: {stage} could not be enqueued: {why}")

    def answers(self, stage: str) -> dict[str, int]:
        """Addresses of a stage's ``boxes`` and ``scores``."""
        memory, host = self._answers[stage]
        return {"boxes": memory.address, "scores": memory.address + 4 * (host.size // 5 * 4)}

    def _captured(self, stage: str, *uploads: tuple[Floats, str]) -> CapturedWork:
        """A stage between its uploads (host arrays, and what they are called on the device) and its one download."""
        memory, host = self._answers[stage]

        def work() -> None:
            for array, name in uploads:
                self.stream.upload(array, self.addresses[name])
            self.enqueue(stage)
            self.stream.download(memory.address, host)

        return CapturedWork(work, self.capture, self.stream.wait, {stage: host}, self._backend)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record work as a graph; what is returned launches it."""
        return self.stream.capture(work).launch

    def _read(self, stage: str) -> tuple[Floats, Floats]:
        host, t = self._answers[stage][1], self._backend.targets
        split = host.size // 5 * 4
        return host[split:].reshape(t, -1), host[:split].reshape(t, -1, 4)

    def _bytes(self, name: str, shape: tuple[int, ...]) -> int:
        return int(np.prod(shape)) * (4 if tensor_type(name, self._backend.precision) == "float32" else 2)

    def _execution(self, stage: str) -> Any:
        execution = self._backend.engines[stage].create_execution_context()
        if execution is None:
            why = self._backend.said
            raise BackendError(f"{self._backend.description}: no execution context for {stage}: {why}")
        sides = contract(self._backend.spec, self._backend.targets)[stage]
        addresses = self.addresses if stage == "template" else {**self.addresses, **self.answers(stage)}
        for name in (*sides["inputs"], *sides["outputs"]):
            if not execution.set_tensor_address(name, addresses[name]):
                raise BackendError(f"{self._backend.description}: {stage} does not take an address for {name}")
        return execution


load = TensorRtBackend
"""See :class:`spm_rt.backends.protocol.Load`."""
