"""Networks for the resident tracker on an emulated GPU: ONNX Runtime's sessions on addresses of "device" memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_rt import Bundle
from spm_rt.backends import load_backend
from spm_rt.gpu.driver import Device

from .driver import Emulator

Floats = NDArray[np.float32]


def view(address: int, shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    """Emulated device memory as an array."""
    kind = np.dtype(dtype)
    block = (ctypes.c_uint8 * (int(np.prod(shape)) * kind.itemsize)).from_address(address)
    return np.frombuffer(block, kind).reshape(shape)


class EmulatedNetworks:
    """See :class:`spm_rt.resident.frame_graph.Networks`. Each place has a context for one target, so results are a
    single tracker's to the bit. ``spoil`` adds to the fine scores while a graph is launched."""

    def __init__(
        self, bundle: Bundle, device: Device, emulator: Emulator, targets: int = 1, backend: Any = None
    ) -> None:
        spec, count = bundle.spec, bundle.settings.num_candidates
        self.device, self.stream, self._emulator = device, device.stream(), emulator
        self.targets, self.candidates = targets, count
        backend = backend or load_backend(bundle, "onnxruntime", threads=1)
        self._contexts: list[Any] = [backend.context() for _ in range(targets)]
        self.spoil = 0.0
        n, size = spec.anchor_count, spec.crop_size
        shapes = {
            "crop": (3, size, size),
            "scores": (n,),
            "boxes": (n, 4),
            "proposals": (count, 4),
            "fine_scores": (count,),
            "fine_boxes": (count, 4),
        }
        self._memory = {name: device.memory(4 * targets * int(np.prod(shape))) for name, shape in shapes.items()}
        self.addresses = {name: memory.address for name, memory in self._memory.items()}
        self.arrays = {name: view(self.addresses[name], (targets, *shape)) for name, shape in shapes.items()}

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
