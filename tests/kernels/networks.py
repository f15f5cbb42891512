"""Networks for the resident tracker on an emulated GPU: ONNX Runtime's sessions on addresses of "device" memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_rt import Bundle
from spm_rt.backends import load_backend
from spm_rt.backends.cuda_driver import Device

from .emulator import Emulator

Floats = NDArray[np.float32]


def view(address: int, shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    """Emulated device memory as an array."""
    kind = np.dtype(dtype)
    block = (ctypes.c_uint8 * (int(np.prod(shape)) * kind.itemsize)).from_address(address)
    return np.frombuffer(block, kind).reshape(shape)


class EmulatedNetworks:
    """See :class:`spm_rt.resident.Networks`. ``spoil`` adds to the scores while a graph is launched."""

    def __init__(self, bundle: Bundle, device: Device, emulator: Emulator) -> None:
        spec, count = bundle.spec, bundle.settings.num_candidates
        self.device, self.stream, self._emulator = device, device.stream(), emulator
        self._context: Any = load_backend(bundle, "onnxruntime", threads=1).context()
        self.spoil = 0.0
        n, size = spec.anchor_count, spec.crop_size
        shapes = {"crop": (1, 3, size, size), "scores": (1, n), "boxes": (1, n, 4), "proposals": (1, count, 4),
                  "fine_scores": (1, count), "fine_boxes": (1, count, 4)}
        self._memory = {name: device.memory(4 * int(np.prod(shape))) for name, shape in shapes.items()}
        self.addresses = {name: memory.address for name, memory in self._memory.items()}
        self._arrays = {name: view(self.addresses[name], shape) for name, shape in shapes.items()}

    def set_template(self, box: Floats) -> None:
        self._context.crop[:] = self._arrays["crop"]
        self._context.set_template(box)

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
        self._context.crop[:] = self._arrays["crop"]
        scores, boxes = self._context.search()
        self._arrays["scores"][:] = scores
        self._arrays["boxes"][:] = boxes

    def _relate(self) -> None:
        scores, boxes = self._context.relate(self._arrays["proposals"])
        self._arrays["fine_scores"][:] = scores + (self.spoil if self._launched else 0)
        self._arrays["fine_boxes"][:] = boxes
