"""DLPack capsules, read without the help of the library that made them: whose memory, where, and of what shape.

An array that offers ``__dlpack__`` hands over a capsule named ``dltensor`` that holds a ``DLManagedTensor`` (dlpack.h).
Whoever takes it renames the capsule to ``used_dltensor``, so that its own end frees nothing, and calls the structure's
deleter when done. Only that form is read, which producers give as long as they are not asked for a newer one.
"""

from __future__ import annotations

import ctypes
import dataclasses
import weakref
from typing import Any

from ..errors import FrameError

CPU, CUDA, CUDA_MANAGED = 1, 2, 13
"""``DLDeviceType`` of main memory, of a GPU's own memory, and of memory that the driver moves between both."""
DEVICE_NAMES = {
    CPU: "the CPU's",
    3: "the CPU's (pinned)",
    4: "an OpenCL device's",
    7: "a Vulkan device's",
    8: "an Apple GPU's",
    10: "an AMD GPU's",
    11: "the CPU's (pinned)",
    14: "a oneAPI device's",
}
KINDS = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 5: "complex", 6: "bool"}
_NAME, _USED = b"dltensor", b"used_dltensor"  # kept by the capsule as addresses: they must stay


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class ManagedTensor(ctypes.Structure):
    """DLPack's ``DLManagedTensor``."""

    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


# The interpreter's lock is kept: a deleter drops references to Python objects, and not all of them take the lock.
_Deleter = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)

_get_name: Any = ctypes.pythonapi.PyCapsule_GetName
_get_name.restype, _get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
_get_pointer: Any = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype, _get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_set_name: Any = ctypes.pythonapi.PyCapsule_SetName
_set_name.restype, _set_name.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]


@dataclasses.dataclass(frozen=True, eq=False)
class Taken:
    """An array whose capsule has been taken. Its memory is given back when nobody holds this any more.

    Attributes:
        address: of the first element; 0 where there is no memory.
        device: ``DLDeviceType`` and index.
        kind: ``uint8``, ``float32``, ...; with ``x4`` behind it where an element holds four.
        shape: by axis.
        strides: elements from one index to the next, by axis.
    """

    address: int
    device: tuple[int, int]
    kind: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def take(capsule: Any) -> Taken:
    """Read a capsule that ``__dlpack__`` gave, and take its memory over.

    Raises:
        FrameError: no capsule of that kind, or one that somebody else has taken.
    """
    name = _get_name(capsule) if type(capsule).__name__ == "PyCapsule" else None
    if name != _NAME:
        what = repr(name.decode()) if name else f"of type {type(capsule).__name__}"
        raise FrameError(f"a frame's __dlpack__ gave something {what}; a capsule named 'dltensor' is needed")
    address = int(_get_pointer(capsule, _NAME))
    managed = ManagedTensor.from_address(address)
    tensor = managed.tensor
    shape = tuple(int(tensor.shape[axis]) for axis in range(tensor.ndim))
    kind = f"{KINDS.get(tensor.code, f'code {tensor.code} ')}{tensor.bits}" + f"x{tensor.lanes}" * (tensor.lanes != 1)
    found = Taken(
        int(tensor.data or 0) + int(tensor.byte_offset) if tensor.data else 0,
        (int(tensor.device_type), int(tensor.device_id)),
        kind,
        shape,
        tuple(int(tensor.strides[axis]) for axis in range(tensor.ndim)) if tensor.strides else _side_by_side(shape),
    )
    _set_name(capsule, _USED)
    if managed.deleter:
        # At the end of the process all memory goes anyway, and the producer may have gone before.
        weakref.finalize(found, _Deleter(managed.deleter), address).atexit = False
    return found


def _side_by_side(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of an array without gaps, the last axis the nearest."""
    steps = [1]
    for size in reversed(shape[1:]):
        steps.append(steps[-1] * size)
    return tuple(reversed(steps[: len(shape)]))
