"""The crop of a frame that is on the GPU already, made there by our kernels (:mod:`spm_rt.gpu.kernels`).

The region is known on the host: it goes up as a record of 96 bytes, and what comes out is, bit for bit, what
:func:`spm_rt.frame.crop.crop_exact` gives. docs/notes/gpu.md says what has been run where.
"""

from __future__ import annotations

import ctypes
from typing import Any

from ..frame.geometry import Region
from . import kernels
from .device_frames import DeviceFrame
from .driver import Device, Module, Stream
from .kernels import nvrtc


def crop_module(device: Device) -> Module:
    """The kernels for a device, compiled at first use (about a second; then from the cache).

    Raises:
        BackendError: there is no compiler, or the device does not take its code.
    """
    return device.module(nvrtc.compiled("frame", f"sm_{device.capability}"))


class DeviceCrop:
    """Crops for ``slots`` targets, written where a network reads them.

    Args:
        device: the GPU.
        module: of :func:`crop_module`.
        out: address of float32 ``[slots, 3, size, size]``.
        slots, size: see there.
    """

    def __init__(self, device: Device, module: Module, out: int, slots: int, size: int) -> None:
        # What the mean's sums begin with is in the record too, and stays zero.
        self._records = device.pinned((slots,), kernels.STATE)
        self._states = device.memory(self._records.nbytes)
        step = self._records.itemsize
        self._kernels = []
        for slot in range(slots):
            state = self._states.address + slot * step
            sums = module.prepare(kernels.sum_launch(), [*_picture(size), state])
            form = kernels.InputForm().arguments
            given = [*_picture(size), state, *form, out + slot * 12 * size * size]
            crops = module.prepare(kernels.crop_launch(size), given)
            self._kernels.append((state, (sums, crops)))

    def __call__(self, frame: DeviceFrame, region: Region, slot: int, stream: Stream) -> None:
        """Put a crop on a stream. The frame must stay as it is until the stream's work is done."""
        if frame.stream is not None and frame.stream != stream.handle:
            stream.after(frame.stream)
        state, both = self._kernels[slot]
        record = self._records[slot : slot + 1]
        record["region"], record["scale"] = (region.x1, region.y1, region.x2, region.y2), region.scale
        stream.upload(record, state)
        facts = (frame.address, frame.row_step, frame.pixel_step, frame.height, frame.width, frame.channels)
        for kernel in both:
            for value, fact in zip(kernel.values, facts, strict=False):  # what comes behind them does not change
                value.value = fact
            kernel(stream.handle)


def _picture(size: int) -> list[Any]:
    """The kernels' first arguments: a frame's address, steps and shape, filled in later, and the crop's size."""
    numbers = (ctypes.c_longlong(), ctypes.c_longlong(), *(ctypes.c_int() for _ in range(3)), ctypes.c_int(size))
    return [ctypes.c_void_p(), *numbers]
