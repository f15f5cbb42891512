"""Pictures in (emulated) device memory, as other libraries describe them."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_rt.gpu import dlpack


class OnDevice:
    """Through ``__cuda_array_interface__``, as CuPy and pycuda do."""

    def __init__(self, picture: NDArray[np.uint8], **changed: Any) -> None:
        self._picture = picture
        strides = None if picture.flags.c_contiguous else picture.strides
        facts = {
            "data": (picture.ctypes.data, True),
            "shape": picture.shape,
            "typestr": picture.dtype.str,
            "strides": strides,
            "stream": 1,
            "version": 3,
        }
        self.__cuda_array_interface__ = {**facts, **changed}


_new_capsule: Any = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_NAMES = {name: name.encode() for name in ("dltensor", "dltensor_versioned")}


_DELETERS: list[Any] = []
"""Kept for good, as the code of a library is: whoever took a capsule may call its deleter after its array has gone."""


class Packed:
    """Through DLPack alone, with a capsule made by hand.

    Args:
        picture: whose memory is handed over.
        device: ``DLDeviceType`` and index, as the array and its capsule say.
        name: of the capsule.
        offset: bytes by which ``data`` lies before the picture.
        plain: leave strides out, as for an array without gaps.
        changed: fields of the tensor.
    """

    def __init__(
        self,
        picture: NDArray[Any],
        device: tuple[int, int] = (dlpack.CUDA, 0),
        *,
        name: str = "dltensor",
        offset: int = 0,
        plain: bool = False,
        deleter: bool = True,
        **changed: Any,
    ) -> None:
        self._picture, self._device, self._name, self._deletes = picture, device, name, deleter
        self._offset, self._plain, self._changed = offset, plain, changed
        self.streams: list[int | None] = []
        self.deleted = 0
        self._made: list[Any] = []
        self._deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._delete)
        _DELETERS.append(self._deleter)

    def _delete(self, managed: int) -> None:
        assert managed in {ctypes.addressof(one[0]) for one in self._made}
        self.deleted += 1

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        self.streams.append(stream)
        picture, managed = self._picture, dlpack.ManagedTensor()
        axes = ctypes.c_int64 * picture.ndim
        shape, strides = axes(*picture.shape), axes(*(step // picture.itemsize for step in picture.strides))
        tensor = managed.tensor
        tensor.data, tensor.byte_offset = picture.ctypes.data - self._offset, self._offset
        tensor.device_type, tensor.device_id = self._device
        tensor.ndim, tensor.lanes, tensor.bits = picture.ndim, 1, 8 * picture.itemsize
        tensor.code = {"u": 1, "i": 0, "f": 2}[picture.dtype.kind]
        tensor.shape = ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64))
        if not self._plain:
            tensor.strides = ctypes.cast(strides, ctypes.POINTER(ctypes.c_int64))
        for field, value in self._changed.items():
            setattr(tensor, field, value)
        if self._deletes:
            managed.deleter = ctypes.cast(self._deleter, ctypes.c_void_p)
        self._made.append((managed, shape, strides))
        return _new_capsule(ctypes.addressof(managed), _NAMES[self._name], None)
