"""The CUDA driver as far as it is needed here, over ``cuda.bindings.driver``: every return code is looked at.

Why not pycuda: it has no CUDA graphs, comes as source only and needs a toolkit to build. Its arrays, and those of
PyTorch and CuPy, are taken through ``__cuda_array_interface__`` (:mod:`spm_rt.gpu.device_frames`). The
device's primary context is used, which is also PyTorch's and the CUDA runtime's: all live in one process.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from .kernels import Launch

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: our stream does not wait for the default one

_NO_TIMING = 2  # CU_EVENT_DISABLE_TIMING


class CudaError(BackendError):
    """A driver call that failed; ``code`` is the driver's name for it (``CUDA_ERROR_OUT_OF_MEMORY``)."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


ADVICE = {
    "CUDA_ERROR_NO_DEVICE": "there is no NVIDIA GPU that this process may use (CUDA_VISIBLE_DEVICES?)",
    "CUDA_ERROR_OUT_OF_MEMORY": "the GPU's memory is full: fewer targets, or end what else runs on it",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": "the code was made for another card: clear the kernel cache, or compile it here",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": "the driver is older than the compiler: update it, or use an older NVRTC",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "the driver's kernel module and library differ: restart the machine",
}


class Driver:
    """Calls by name: ``driver("cuMemAlloc", 64)`` is the value it gives (None, one value, or a tuple of several)."""

    def __init__(self) -> None:
        try:
            from cuda.bindings import driver
        except ImportError as error:
            raise BackendError("the GPU needs the package cuda-bindings: `pip install cuda-bindings`") from error
        self.library: Any = driver
        try:
            self("cuInit", 0)
        except CudaError:
            raise
        except Exception as error:  # the bindings' own error where there is no libcuda
            raise CudaError(f"no NVIDIA driver could be loaded: {error}", "NO_DRIVER") from error

    def __call__(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self.library, name)(*arguments)
        if int(status):
            raise self._error(name, status)
        return values[0] if len(values) == 1 else tuple(values) or None

    def _error(self, name: str, status: Any) -> CudaError:
        _, code = self.library.cuGetErrorName(status)
        _, words = self.library.cuGetErrorString(status)
        code, words = (w.decode() if isinstance(w, bytes) else str(w) for w in (code, words))
        advice = f"; {ADVICE[code]}" if code in ADVICE else ""
        return CudaError(f"{name} failed: {words} ({code}){advice}", code)


class Device:
    """One GPU and its primary context, current in the thread that made it.

    Args:
        index: of the GPU among those that the process sees.

    Raises:
        BackendError, CudaError: no package, no driver, no such GPU.
    """

    def __init__(self, index: int = 0, driver: Driver | None = None) -> None:
        self.driver = call = driver or Driver()
        count = call("cuDeviceGetCount")
        if index >= count:
            raise CudaError(f"GPU {index} is asked for, but there are {count}", "CUDA_ERROR_INVALID_DEVICE")
        self.index = index
        self.handle = call("cuDeviceGet", index)
        name = call("cuDeviceGetName", 100, self.handle)
        self.name = (name.decode() if isinstance(name, bytes) else str(name)).rstrip("\0 ")
        kinds = call.library.CUdevice_attribute
        numbers = (getattr(kinds, f"CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_{part}") for part in ("MAJOR", "MINOR"))
        major, minor = (int(call("cuDeviceGetAttribute", number, self.handle)) for number in numbers)
        self.capability = 10 * major + minor
        self._context = call("cuDevicePrimaryCtxRetain", self.handle)
        weakref.finalize(self, quietly, call, "cuDevicePrimaryCtxRelease", self.handle)
        self.enter()

    def enter(self) -> None:
        """Make this GPU's context the current one of the calling thread: before any other call from a new thread."""
        self.driver("cuCtxSetCurrent", self._context)

    def memory(self, size: int) -> Memory:
        return Memory(self, size)

    def stream(self) -> Stream:
        return Stream(self)

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A NumPy array of zeros in page-locked host memory: copies from and to it need no detour, and can overlap."""
        kind = np.dtype(dtype)
        size = max(1, int(np.prod(shape))) * kind.itemsize
        address = int(self.driver("cuMemHostAlloc", size, 0))
        block = (ctypes.c_uint8 * size).from_address(address)
        # The array keeps the block alive, and the block's end gives the memory back.
        weakref.finalize(block, quietly, self.driver, "cuMemFreeHost", address)
        array: NDArray[Any] = np.frombuffer(block, np.uint8).view(kind)[: int(np.prod(shape))].reshape(shape)
        array[...] = np.zeros((), kind)
        return array

    def module(self, code: bytes) -> Module:
        return Module(self, code)


def quietly(driver: Driver, name: str, *arguments: Any) -> None:
    """Give something back; at the end of a process the driver may have gone before us."""
    try:
        driver(name, *arguments)
    except Exception:  # nothing can be done about it, and nobody is there to be told
        return


class Memory:
    """Device memory of ``size`` bytes; given back when nobody holds it any more."""

    def __init__(self, device: Device, size: int) -> None:
        self.size = size
        self._device = device
        self.address = int(device.driver("cuMemAlloc", max(size, 1)))
        weakref.finalize(self, quietly, device.driver, "cuMemFree", self.address)


class Stream:
    """A queue of work. ``handle`` is what other libraries take as a stream."""

    partition: Any = None
    """What the stream belongs to, if not to the whole GPU (:class:`spm_rt.gpu.partition.Partition`)."""

    def __init__(self, device: Device, handle: int | None = None) -> None:
        self.device, self._call = device, device.driver
        if handle is None:
            made = self._call("cuStreamCreate", NON_BLOCKING)
            weakref.finalize(self, quietly, self._call, "cuStreamDestroy", made)
            handle = int(made)
        self.handle = handle

    def upload(self, array: NDArray[Any], address: int) -> None:
        """Copy a C-contiguous host array to the device; it may be changed only after :meth:`wait`."""
        self._call("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, self.handle)

    def download(self, address: int, array: NDArray[Any]) -> None:
        """Copy from the device into a C-contiguous host array; it is complete after :meth:`wait`."""
        self._call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, self.handle)

    def clear(self, memory: Memory) -> None:
        """Fill device memory with zeros."""
        self._call("cuMemsetD8Async", memory.address, 0, memory.size, self.handle)

    def copy_rows(self, start: int, step: int, to: int, size: int, rows: int) -> None:
        """Copy ``rows`` rows of ``size`` bytes within the device: from ``step`` bytes apart to side by side."""
        if step == size:
            self._call("cuMemcpyDtoDAsync", to, start, size * rows, self.handle)
            return
        for row in range(rows):  # rare: a view into a larger picture
            self._call("cuMemcpyDtoDAsync", to + row * size, start + row * step, size, self.handle)

    def after(self, other: int) -> None:
        """Let what follows here wait for what is on another stream now (its handle; 1 and 2 are the default ones)."""
        event = self._call("cuEventCreate", _NO_TIMING)
        try:
            self._call("cuEventRecord", event, other)
            self._call("cuStreamWaitEvent", self.handle, event, 0)
        finally:
            quietly(self._call, "cuEventDestroy", event)

    def wait(self) -> None:
        """Until all work given so far is done. Errors of earlier kernels come out here."""
        self._call("cuStreamSynchronize", self.handle)

    def idle(self) -> bool:
        """Whether all work given so far is done."""
        try:
            self._call("cuStreamQuery", self.handle)
        except CudaError as error:
            if error.code != "CUDA_ERROR_NOT_READY":
                raise
            return False
        return True

    def capture(self, work: Callable[[], None]) -> Graph:
        """Record what ``work`` puts on this stream as a graph; nothing is computed.

        Raises:
            CudaError: the work cannot be captured. The stream is usable afterwards.
        """
        modes = self._call.library.CUstreamCaptureMode
        self._call("cuStreamBeginCapture", self.handle, modes.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        try:
            work()
        except Exception:
            # Ends the broken capture; its own complaint adds nothing to the first.
            quietly(self._call, "cuStreamEndCapture", self.handle)
            raise
        return Graph(self, self._call("cuStreamEndCapture", self.handle))


class Graph:
    """Captured work, launched as one."""

    def __init__(self, stream: Stream, recorded: Any) -> None:
        self._call, self._stream = stream._call, stream
        if recorded is None or not int(recorded):
            raise CudaError("the capture gave no graph", "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")
        try:
            self._handle = self._call("cuGraphInstantiate", recorded, 0)
        finally:
            quietly(self._call, "cuGraphDestroy", recorded)
        weakref.finalize(self, quietly, self._call, "cuGraphExecDestroy", self._handle)

    def launch(self) -> None:
        self._call("cuGraphLaunch", self._handle, self._stream.handle)


class Module:
    """Machine code (a cubin or PTX) loaded on a device."""

    def __init__(self, device: Device, code: bytes) -> None:
        self._device, self._call = device, device.driver
        # PTX is text and must end with a zero; a cubin does not mind one.
        self._handle = self._call("cuModuleLoadData", code + b"\0")
        weakref.finalize(self, quietly, self._call, "cuModuleUnload", self._handle)

    def prepare(self, launch: Launch, arguments: Sequence[Any]) -> Prepared:
        """A kernel with its arguments, to be put on a stream any number of times.

        Args:
            launch: name, blocks and threads.
            arguments: ctypes values; whole numbers are addresses.
        """
        function = self._call("cuModuleGetFunction", self._handle, launch.name.encode())
        return Prepared(self, function, launch, arguments)


class Prepared:
    """A kernel ready to go. The arguments can be changed between launches through ``values``."""

    def __init__(self, module: Module, function: Any, launch: Launch, arguments: Sequence[Any]) -> None:
        self._call, self._module, self._function, self._launch = module._call, module, function, launch
        self.values = [ctypes.c_void_p(a) if isinstance(a, int) else a for a in arguments]
        self._pointers = (ctypes.c_void_p * len(self.values))(*(ctypes.addressof(value) for value in self.values))

    def __call__(self, stream: int) -> None:
        """Put it on a stream (its handle)."""
        self._call(
            "cuLaunchKernel",
            self._function,
            *self._launch.blocks,
            *(self._launch.threads, 1, 1),
            0,
            stream,
            ctypes.addressof(self._pointers),
            0,
        )
