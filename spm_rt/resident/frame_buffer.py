"""Where frames lie on the device for trackers that do everything there."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FrameError
from ..frame.crop import check_frame
from ..gpu.device_frames import DeviceFrame, device_frame, is_device_array
from ..gpu.driver import Device, Stream


class FrameBuffer:
    """Where every frame lies when a graph reads it: a graph's addresses cannot change from frame to frame.

    Args:
        device: the GPU.
        shape: height, width, channels.
    """

    def __init__(self, device: Device, shape: tuple[int, int, int]) -> None:
        height, width, channels = self.shape = shape
        self._memory = device.memory(height * width * channels)
        self._pinned: NDArray[np.uint8] | None = None
        self._device = device
        row = width * channels
        self.arguments = (
            self._memory.address,
            ctypes.c_longlong(row),
            ctypes.c_longlong(channels),
            *(ctypes.c_int(n) for n in self.shape),
        )
        """What the kernels want to know of a frame: address, steps in bytes, height, width, channels."""

    @classmethod
    def fitting(cls, frame: DeviceFrame, device: Device, last: FrameBuffer | None) -> FrameBuffer:
        """The last buffer if frames of this shape fit it, else a new one."""
        return last if last is not None and last.shape == frame.shape else cls(device, frame.shape)

    def bring(self, frame: DeviceFrame, stream: Stream) -> None:
        """Copy a frame here: from the host by way of pinned memory, or on the device."""
        height, width, channels = self.shape
        if isinstance(frame.owner, np.ndarray):
            if self._pinned is None:
                self._pinned = self._device.pinned(self.shape, np.uint8)
            np.copyto(self._pinned, frame.owner.reshape(self.shape))
            stream.upload(self._pinned, self._memory.address)
            return
        if frame.pixel_step != channels:
            raise FrameError("a frame on the GPU must have its pixels side by side (make it contiguous first)")
        if frame.stream is not None:
            stream.after(frame.stream)
        stream.copy_rows(frame.address, frame.row_step, self._memory.address, width * channels, height)


def frame_facts(frame: Any) -> DeviceFrame:
    """A frame's description, of one on the device or of a uint8 one on the host.

    Raises:
        FrameError: what is wrong with it.
    """
    if is_device_array(frame):
        return device_frame(frame)
    checked = check_frame(frame)
    if checked.dtype != np.uint8:
        raise FrameError(f"frame has type {checked.dtype}; the resident tracker takes uint8")
    height, width, channels = checked.shape
    return DeviceFrame(0, height, width, channels, width * channels, channels, None, checked)


def check_shape(frame: DeviceFrame, shape: tuple[int, int, int], advice: str) -> None:
    """A FrameError with ``advice`` if a frame has not the ``shape`` (height, width, channels) of those before."""
    if frame.shape != shape:
        raise FrameError(f"the frame's shape changed from {shape} to {frame.shape}; {advice}")
