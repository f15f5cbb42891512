"""Networks for the resident tracker on an emulated GPU: ONNX Runtime's sessions on addresses of "device" memory."""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spm_rt import Bundle, TrackerSettings
from spm_rt.backends import load_backend
from spm_rt.backends.protocol import Backend
from spm_rt.bundle.contract import stage_shapes
from spm_rt.gpu.driver import Device
from spm_rt.gpu.kernels import InputForm
from spm_rt.resident import ResidentMultiTracker, ResidentTracker
from spm_rt.results import Box

from .driver import Emulator, emulated_gpu

Floats = NDArray[np.float32]


class OnHost:
    """``torch`` with a stream of an emulated GPU."""

    class cuda:
        @staticmethod
        def current_stream(device: Any) -> Any:
            return type("Stream", (), {"cuda_stream": 8})

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("torch"), name)


def view(address: int, shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    """Emulated device memory as an array."""
    kind = np.dtype(dtype)
    block = (ctypes.c_uint8 * (int(np.prod(shape)) * kind.itemsize)).from_address(address)
    return np.frombuffer(block, kind).reshape(shape)


class EmulatedNetworks:
    """See :class:`spm_rt.backends.protocol.Networks`. Each slot has a context for one target, so results are a
    single tracker's to the bit. ``spoil`` adds to the fine scores while a graph is launched."""

    def __init__(self, bundle: Bundle, device: Device, emulator: Emulator, targets: int, backend: Backend) -> None:
        spec, count = bundle.spec, bundle.settings.num_candidates
        self.device, self.stream, self._emulator = device, device.stream(), emulator
        self.targets, self.candidates, self.input_form = targets, count, InputForm()
        self._contexts: list[Any] = [backend.context() for _ in range(targets)]
        self.spoil = 0.0
        search, relation = (stage_shapes(spec, targets, stage, count) for stage in ("search", "relation"))
        shapes = {name: search[name] for name in ("crop", "scores", "boxes")}
        shapes |= {"proposals": relation["proposals"]}
        shapes |= {f"fine_{name}": relation[name] for name in ("scores", "boxes")}
        self._memory = {name: device.memory(4 * int(np.prod(shape))) for name, shape in shapes.items()}
        self.addresses = {name: memory.address for name, memory in self._memory.items()}
        self.arrays = {name: view(self.addresses[name], shape) for name, shape in shapes.items()}

    def set_template(self, box: Floats) -> None:
        assert self.targets == 1
        self._contexts[0].crop[:] = self.arrays["crop"]
        self._contexts[0].set_template(box)

    def template(self) -> Any:
        return self._contexts[0].template()

    def put_template(self, slot: int, template: Any) -> None:
        self._contexts[slot].put_template(0, template)

    def search(self) -> None:
        self._emulator.outside(self.stream.handle, self._search)

    def relate(self) -> None:
        self._emulator.outside(self.stream.handle, self._relate)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        graph = self.stream.capture(work)

        def launch() -> None:
            self._launched = True
            graph.launch()
            self._launched = False

        return launch

    _launched = False

    def _search(self) -> None:
        for slot, context in enumerate(self._contexts):
            context.crop[:] = self.arrays["crop"][slot]
            scores, boxes = context.search()
            self.arrays["scores"][slot], self.arrays["boxes"][slot] = scores[0], boxes[0]

    def _relate(self) -> None:
        for slot, context in enumerate(self._contexts):
            scores, boxes = context.relate(self.arrays["proposals"][slot : slot + 1])
            self.arrays["fine_scores"][slot] = scores[0] + (self.spoil if self._launched else 0)
            self.arrays["fine_boxes"][slot] = boxes[0]


@functools.cache
def _one_thread(path: Path) -> Backend:
    """ONNX Runtime on one thread, loaded once per bundle: its sessions are shared by all contexts."""
    return load_backend(Bundle.open(path), "onnxruntime", threads=1)


class ResidentMachine:
    """An emulated GPU and trackers on it; ``made`` has all networks in the order in which they were made."""

    def __init__(self, built: ctypes.CDLL, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bundle, self.emulator = bundle, emulated_gpu(built, monkeypatch)
        self.device = Device(0)
        self.backend = _one_thread(bundle.path)
        self.made: list[EmulatedNetworks] = []

    def networks(self, targets: int) -> EmulatedNetworks:
        self.made.append(EmulatedNetworks(self.bundle, self.device, self.emulator, targets, self.backend))
        return self.made[-1]

    def tracker(self, settings: TrackerSettings | None = None, **options: Any) -> ResidentTracker:
        return ResidentTracker(self.networks(1), self.bundle.spec, settings or self.bundle.settings, **options)

    def started(self, frame: Any, box: Box) -> ResidentTracker:
        tracker = self.tracker()
        tracker.init(frame, box)
        return tracker

    def several(self, sizes: tuple[int, ...] = (1, 2, 4), **options: Any) -> ResidentMultiTracker:
        return ResidentMultiTracker(self.networks, sizes, self.bundle.spec, self.bundle.settings, **options)
