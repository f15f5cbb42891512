"""Frames that are on the GPU already: arrays of PyTorch, CuPy, pycuda, Numba or CV-CUDA, taken where they lie.

All of them describe themselves through ``__cuda_array_interface__`` (address, shape, strides, stream). An array that
has only DLPack becomes one that does by a call of its owner's, without a copy (``torch.from_dlpack``,
``cupy.from_dlpack``).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from .errors import FrameError


@dataclasses.dataclass(frozen=True)
class DeviceFrame:
    """A uint8 picture in device memory.

    Attributes:
        address: of the first pixel.
        height, width: in pixels.
        channels: 1 (grey), 3 (BGR) or 4 (BGRA).
        row_step, pixel_step: bytes from one row, and one pixel, to the next; either may be negative.
        stream: on which it is still being written, as CUDA's handle; None where it is complete.
        owner: what keeps the memory alive.
    """

    address: int
    height: int
    width: int
    channels: int
    row_step: int
    pixel_step: int
    stream: int | None
    owner: object


def is_device_array(frame: object) -> bool:
    """Whether ``frame`` says that it lies on a GPU."""
    return hasattr(frame, "__cuda_array_interface__")


def device_frame(frame: Any) -> DeviceFrame:
    """What an array on the GPU says about itself, if a tracker can use it. Nothing is copied.

    Raises:
        FrameError: not uint8, not [h, w], [h, w, 1], [h, w, 3] or [h, w, 4], under 2 x 2 pixels, channels apart.
    """
    facts = frame.__cuda_array_interface__
    shape = tuple(int(n) for n in facts["shape"])
    if facts["typestr"] not in ("|u1", "<u1", "u1"):
        raise FrameError(f"a frame on the GPU has type {facts['typestr']}; uint8 ('|u1') is needed")
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3 or shape[2] not in (1, 3, 4):
        raise FrameError(f"a frame on the GPU has shape {shape}; [h, w], [h, w, 1], [h, w, 3] or [h, w, 4] is needed")
    height, width, channels = shape
    if height < 2 or width < 2:
        raise FrameError(f"frame is {width} x {height} pixels; at least 2 x 2 is needed")
    strides = facts.get("strides") or (width * channels, channels, 1)
    if len(strides) == 3 and channels > 1 and strides[2] != 1:
        raise FrameError("a frame on the GPU must have its channels side by side (strides[2] is 1)")
    address = int(facts["data"][0])
    if not address:
        raise FrameError("a frame on the GPU has no memory (its address is 0)")
    stream = None if facts.get("stream") is None else int(facts["stream"])
    return DeviceFrame(address, height, width, channels, int(strides[0]), int(strides[1]), stream, frame)
