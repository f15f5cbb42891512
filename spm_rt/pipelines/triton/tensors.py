"""Arrays from Triton's Python backend and back, by DLPack.

``Tensor.as_numpy`` and ``Tensor(name, array)`` of backends that were built for numpy 1 give wrong values with numpy 2,
and say nothing (findings/pytriton_numpy2.sh). DLPack gives the right ones with both.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...gpu.dlpack import CPU, ManagedTensor

_CODES = {"f": 2, "u": 1, "b": 6}
_held: dict[int, tuple[object, ...]] = {}
"""What is lent to Triton, until it says that it needs it no more."""


def _let_go(address: int) -> None:
    _held.pop(address, None)


_deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_let_go)
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


def capsule(array: NDArray[Any]) -> object:
    """A DLPack capsule of a copy of an array, for ``pb_utils.Tensor.from_dlpack``.

    Args:
        array: of floats, unsigned integers or bools.
    """
    kept = np.array(array, order="C")
    managed = ManagedTensor()
    shape = (ctypes.c_int64 * kept.ndim)(*kept.shape)
    tensor = managed.tensor
    tensor.data, tensor.device_type, tensor.ndim = kept.ctypes.data, CPU, kept.ndim
    tensor.code, tensor.bits, tensor.lanes = _CODES[kept.dtype.kind], 8 * kept.itemsize, 1
    tensor.shape = ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64))
    managed.deleter = ctypes.cast(_deleter, ctypes.c_void_p)
    address = ctypes.addressof(managed)
    _held[address] = (managed, kept, shape)
    return _new_capsule(address, b"dltensor", None)


def array_of(tensor: Any) -> NDArray[Any]:
    """What is in a tensor of a request; read it before the request is answered."""
    return np.from_dlpack(tensor)
