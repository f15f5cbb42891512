"""Frames that are on the GPU already: arrays of PyTorch, CuPy, pycuda, Numba or CV-CUDA, taken where they lie.

They describe themselves through ``__cuda_array_interface__`` (address, shape, strides, stream) or hand over a DLPack
capsule (:mod:`spm_rt.gpu.dlpack`). Nothing is copied, and no library of theirs is imported.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..errors import FrameError
from . import dlpack

LEGACY_STREAM = 1
"""CUDA's handle of the default stream, in both protocols."""
_SHAPES = "[h, w], [h, w, 1], [h, w, 3] or [h, w, 4]"


@dataclasses.dataclass(frozen=True)
class DeviceFrame:
    """A uint8 picture in device memory.

    Attributes:
        address: of the first pixel.
        height: in pixels.
        width: in pixels.
        channels: 1 (grey), 3 (BGR) or 4 (BGRA).
        row_step: bytes from one row to the next; may be negative.
        pixel_step: bytes from one pixel to the next; may be negative.
        stream: work on this stream, as CUDA's handle, finds the picture complete; None where every stream does.
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

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height, self.width, self.channels

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        return np.dtype(np.uint8)


def is_device_array(frame: object) -> bool:
    """Whether ``frame`` speaks one of the two protocols and is no numpy array."""
    if isinstance(frame, np.ndarray):
        return False
    return hasattr(frame, "__cuda_array_interface__") or hasattr(frame, "__dlpack_device__")


def device_frame(frame: Any, *, index: int | None = None, stream: int = LEGACY_STREAM) -> DeviceFrame:
    """What an array on the GPU says about itself, if a tracker can use it. Nothing is copied.

    Args:
        frame: with ``__cuda_array_interface__``, or with ``__dlpack__`` and ``__dlpack_device__``.
        index: the GPU on which it must lie, as far as it says so (``__cuda_array_interface__`` does not).
        stream: on which it will be read: a DLPack producer lets this one wait for its own work.

    Raises:
        FrameError: not uint8, not [h, w], [h, w, 1], [h, w, 3] or [h, w, 4], under 2 x 2 pixels, channels apart, in
            main memory, or on another GPU.
    """
    facts = getattr(frame, "__cuda_array_interface__", None)
    speaks_dlpack = hasattr(frame, "__dlpack__") and hasattr(frame, "__dlpack_device__")
    # Before version 3 that interface did not say which stream to wait for; PyTorch's is such a one.
    if speaks_dlpack and (facts is None or int(facts.get("version", 0)) < 3):
        return _from_dlpack(frame, index, stream or LEGACY_STREAM)
    if facts is None:
        raise FrameError(f"a frame of type {type(frame).__name__} has neither __cuda_array_interface__ nor DLPack")
    if facts["typestr"] not in ("|u1", "<u1", "u1"):
        raise FrameError(f"a frame on the GPU has type {facts['typestr']}; uint8 ('|u1') is needed")
    waits = facts.get("stream") if int(facts.get("version", 0)) >= 3 else LEGACY_STREAM
    shape = tuple(int(n) for n in facts["shape"])
    return _described(int(facts["data"][0]), shape, facts.get("strides"), None if waits is None else int(waits), frame)


def _from_dlpack(frame: Any, index: int | None, stream: int) -> DeviceFrame:
    where, which = (int(n) for n in frame.__dlpack_device__())
    if where not in (dlpack.CUDA, dlpack.CUDA_MANAGED):
        raise _elsewhere(frame, where)
    # Managed memory can be read on every GPU.
    if where == dlpack.CUDA and index is not None and which != index:
        raise FrameError(f"a frame lies on GPU {which}, the tracker works on GPU {index}: move one of them")
    try:
        capsule = frame.__dlpack__(stream=stream)
    except Exception as error:  # each library has its own
        raise FrameError(f"a frame of type {type(frame).__name__} cannot be shared by DLPack: {error}") from error
    taken = dlpack.take(capsule)
    if taken.kind != "uint8":
        raise FrameError(f"a frame on the GPU has type {taken.kind}; uint8 is needed")
    if taken.device[0] not in (dlpack.CUDA, dlpack.CUDA_MANAGED):
        raise _elsewhere(frame, taken.device[0])
    return _described(taken.address, taken.shape, taken.strides, stream, taken)  # bytes: strides need no factor


def refused(frame: object, backend: str) -> FrameError:
    """The error for a frame that is no numpy array, where ``backend`` takes no others."""
    where = getattr(frame, "__dlpack_device__", lambda: (dlpack.CUDA, 0))()[0]
    if int(where) not in (dlpack.CUDA, dlpack.CUDA_MANAGED):
        return _elsewhere(frame, int(where))
    return FrameError(
        f"a frame of type {type(frame).__name__} lies on a GPU, where backend {backend!r} cannot crop it: copy it to "
        "the host (frame.cpu().numpy(), cupy.asnumpy(frame)), or track with backend tensorrt, or pytorch on cuda"
    )


def _elsewhere(frame: object, where: int) -> FrameError:
    owner = dlpack.DEVICE_NAMES.get(where, f"device type {where}'s")
    return FrameError(
        f"a frame of type {type(frame).__name__} lies in {owner} memory: give it as a numpy array (frame.numpy(), "
        "np.asarray(frame)), or put it on the tracker's NVIDIA GPU"
    )


def _described(address: int, shape: tuple[int, ...], strides: Any, stream: int | None, owner: object) -> DeviceFrame:
    """A frame of that shape, if a tracker can use it; ``strides`` in bytes, None without gaps."""
    if len(shape) == 2:
        shape, strides = (*shape, 1), strides and (*strides, 1)
    if len(shape) != 3 or shape[2] not in (1, 3, 4):
        raise FrameError(f"a frame on the GPU has shape {shape}; {_SHAPES} is needed")
    height, width, channels = shape
    if height < 2 or width < 2:
        raise FrameError(f"frame is {width} x {height} pixels; at least 2 x 2 is needed")
    strides = strides or (width * channels, channels, 1)
    if channels > 1 and strides[2] != 1:
        raise FrameError("a frame on the GPU must have its channels side by side (strides[2] is 1)")
    if not address:
        raise FrameError("a frame on the GPU has no memory (its address is 0)")
    return DeviceFrame(address, height, width, channels, int(strides[0]), int(strides[1]), stream, owner)
