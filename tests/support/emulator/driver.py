"""A GPU driver on the host: ``cuda.bindings.driver`` as far as spm_rt uses it.

Device memory is host memory, a kernel runs its host build (host_build.cpp beside this), and what a stream captures is
replayed when its graph is launched. Every call is recorded; any call can be made to fail.
"""

from __future__ import annotations

import ctypes
import enum
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from spm_rt.gpu import driver as cuda_driver
from spm_rt.gpu.driver import Driver
from spm_rt.gpu.kernels import nvrtc


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_DEVICE = 101
    CUDA_ERROR_NO_BINARY_FOR_GPU = 209
    CUDA_ERROR_NOT_FOUND = 500
    CUDA_ERROR_NOT_READY = 600
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901


class CUdevice_attribute(enum.IntEnum):
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76


class CUstreamCaptureMode(enum.IntEnum):
    CU_STREAM_CAPTURE_MODE_GLOBAL = 0
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1


class CUdevResourceType(enum.IntEnum):
    CU_DEV_RESOURCE_TYPE_SM = 1


OK = CUresult.CUDA_SUCCESS


class Emulator:
    """Stands in for the module. ``calls`` has the names of all calls in order, ``copied`` the bytes of each copy
    from the host that was asked for, ``kernels`` the names of all that were launched or captured,
    ``streams`` those that work was put on, captured from or launched on, or that were
    waited for; ``busy`` ones have work that does not end.

    Args:
        library: the kernels' host build.
        devices: how many GPUs there seem to be.
        capability: major and minor compute capability.
    """

    CUresult, CUdevice_attribute, CUstreamCaptureMode = CUresult, CUdevice_attribute, CUstreamCaptureMode
    CUdevResourceType = CUdevResourceType
    MULTIPROCESSORS, STEP = 132, 8

    def __init__(self, library: ctypes.CDLL, devices: int = 1, capability: tuple[int, int] = (9, 0)) -> None:
        self.calls: list[str] = []
        self.blocks: dict[int, Any] = {}
        self.captured: dict[int, list[Callable[[], None]]] = {}
        self._library, self._devices, self.capability = library, devices, capability
        self._failures: dict[str, list[CUresult]] = {}
        self._handles = 1000
        self._objects: dict[int, Any] = {}
        self.uncapturable: set[str] = set()
        self.copied: list[int] = []
        self.kernels: list[str] = []
        self.busy: set[int] = set()
        self.streams: set[int] = set()

    def fail(self, name: str, code: CUresult, after: int = 0) -> None:
        """Let the call after ``after`` good ones of this name fail, once."""
        self._failures[name] = [OK] * after + [code]

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        method = getattr(self, f"_{name}", None) if name.startswith("cu") else None
        if method is None:
            raise AttributeError(name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append(name)
            planned = self._failures.get(name)
            if planned:
                code = planned.pop(0)
                if code != OK:
                    if name == "cuStreamEndCapture":  # ends it all the same
                        self.captured.pop(arguments[0], None)
                    return (code, *[None] * (0 if name.startswith(("cuMemcpy", "cuLaunch")) else 1))
            if name in self.uncapturable and self.captured:
                return (CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,)
            return method(*arguments)

        return call

    def _handle(self, content: Any = None) -> int:
        self._handles += 8
        self._objects[self._handles] = content
        return self._handles

    def _put(self, stream: int, work: Callable[[], None]) -> tuple[CUresult]:
        """Do it now, or record it where the stream is being captured."""
        self.streams.add(int(stream))
        if stream in self.captured:
            self.captured[stream].append(work)
        else:
            work()
        return (OK,)

    def outside(self, stream: int, work: Callable[[], None]) -> None:
        """What another library puts on a stream."""
        self._put(stream, work)

    def _succeed(self, *_: int) -> tuple[CUresult]:
        return (OK,)

    def _give(self, *_: int) -> tuple[CUresult, int]:
        return OK, self._handle()

    # Device and context.

    _cuDevicePrimaryCtxRelease = _cuCtxSetCurrent = _succeed

    def _cuInit(self, flags: int) -> tuple[CUresult]:
        return (OK if self._devices else CUresult.CUDA_ERROR_NO_DEVICE,)

    def _cuDriverGetVersion(self) -> tuple[CUresult, int]:
        return OK, 13000

    def _cuGetErrorName(self, status: CUresult) -> tuple[CUresult, bytes]:
        return OK, CUresult(status).name.encode()

    def _cuGetErrorString(self, status: CUresult) -> tuple[CUresult, bytes]:
        return OK, CUresult(status).name.lower().replace("cuda_error_", "").replace("_", " ").encode()

    def _cuDeviceGetCount(self) -> tuple[CUresult, int]:
        return OK, self._devices

    def _cuDeviceGet(self, index: int) -> tuple[CUresult, int]:
        return OK, index

    def _cuDeviceGetName(self, length: int, device: int) -> tuple[CUresult, bytes]:
        return OK, b"Emulated GPU\0\0\0"

    def _cuDeviceGetAttribute(self, kind: int, device: int) -> tuple[CUresult, int]:
        return OK, self.capability[kind - CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR]

    def _cuDevicePrimaryCtxRetain(self, device: int) -> tuple[CUresult, int]:
        return OK, 1

    def _cuCtxGetDevice(self) -> tuple[CUresult, int]:
        return OK, 0

    # Green contexts.

    def _cuDeviceGetDevResource(self, device: int, kind: int) -> tuple[CUresult, Any]:
        assert kind == CUdevResourceType.CU_DEV_RESOURCE_TYPE_SM
        return OK, _multiprocessors(self.MULTIPROCESSORS)

    def _cuDevSmResourceSplitByCount(self, groups: int, card: Any, flags: int, least: int) -> tuple[Any, ...]:
        count = -(-least // self.STEP) * self.STEP
        return OK, [_multiprocessors(count)] * groups, groups, _multiprocessors(card.sm.smCount - groups * count)

    def _cuDevResourceGenerateDesc(self, resources: list[Any], count: int) -> tuple[CUresult, int]:
        assert len(resources) == count
        return OK, self._handle(sum(resource.sm.smCount for resource in resources))

    def _cuGreenCtxCreate(self, description: int, device: int, flags: int) -> tuple[CUresult, int]:
        assert flags == 1
        return OK, self._handle(self._objects[description])

    def _cuGreenCtxStreamCreate(self, context: int, flags: int, priority: int) -> tuple[CUresult, int]:
        assert flags == 1  # others are refused
        return OK, self._handle(self._objects[context])

    _cuGreenCtxDestroy = _succeed

    # Memory.

    def _cuMemAlloc(self, size: int, flags: int = 0) -> tuple[CUresult, int]:
        block = (ctypes.c_uint8 * size)()
        ctypes.memset(block, 0xA5, size)  # fresh memory is never what one hopes for
        self.blocks[ctypes.addressof(block)] = block
        return OK, ctypes.addressof(block)

    def _cuMemFree(self, address: int) -> tuple[CUresult]:
        del self.blocks[address]
        return (OK,)

    def _cuMemcpyDtoHAsync(self, to: int, start: int, size: int, stream: int) -> tuple[CUresult]:
        return self._put(stream, lambda: ctypes.memmove(to, start, size) and None)

    def _cuMemcpyHtoDAsync(self, to: int, start: int, size: int, stream: int) -> tuple[CUresult]:
        self.copied.append(size)
        return self._cuMemcpyDtoHAsync(to, start, size, stream)

    def _cuMemsetD8Async(self, address: int, value: int, size: int, stream: int) -> tuple[CUresult]:
        return self._put(stream, lambda: ctypes.memset(address, value, size) and None)

    _cuMemHostAlloc, _cuMemFreeHost, _cuMemcpyDtoDAsync = _cuMemAlloc, _cuMemFree, _cuMemcpyDtoHAsync

    # Streams, kernels, graphs.

    _cuEventCreate = _cuStreamCreate = _give
    _cuEventRecord = _cuStreamWaitEvent = _cuEventDestroy = _cuStreamDestroy = _cuModuleUnload = _succeed

    def _cuStreamQuery(self, stream: int) -> tuple[CUresult]:
        return (CUresult.CUDA_ERROR_NOT_READY if stream in self.busy else OK,)

    def _cuStreamSynchronize(self, stream: int) -> tuple[CUresult]:
        self.streams.add(int(stream))
        return (CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED if stream in self.captured else OK,)

    def _cuModuleLoadData(self, code: bytes) -> tuple[CUresult, int]:
        assert code.endswith(b"\0")
        return self._give()

    def _cuModuleGetFunction(self, module: int, name: bytes) -> tuple[CUresult, int]:
        return OK, self._handle(name)

    def _cuLaunchKernel(self, function: int, *given: int) -> tuple[CUresult]:
        x, y, _, _, _, _, _, stream, arguments, _ = given
        name, launch = self._objects[function], self._library.spm_launch
        self.kernels.append(name.decode())
        # The driver reads the arguments when it is called, not when the kernel runs.
        count = launch(name, None, 0, 0)
        assert count, name
        pointers = (ctypes.c_void_p * count).from_address(arguments)
        values = [ctypes.create_string_buffer(ctypes.string_at(pointer, 8), 8) for pointer in pointers]

        def run() -> None:
            launch(name, (ctypes.c_void_p * count)(*map(ctypes.addressof, values)), x, y)

        return self._put(stream, run)

    def _cuStreamBeginCapture(self, stream: int, mode: int) -> tuple[CUresult]:
        self.captured[stream] = []
        self.streams.add(int(stream))
        return (OK,)

    def _cuStreamEndCapture(self, stream: int) -> tuple[CUresult, int]:
        return OK, self._handle(self.captured.pop(stream))

    def _cuGraphInstantiate(self, graph: int, flags: int) -> tuple[CUresult, int]:
        return OK, self._handle(self._objects[graph])

    def _cuGraphDestroy(self, graph: int) -> tuple[CUresult]:
        del self._objects[graph]
        return (OK,)

    _cuGraphExecDestroy = _cuGraphDestroy

    def _cuGraphLaunch(self, graph: int, stream: int) -> tuple[CUresult]:
        self.streams.add(int(stream))
        for work in self._objects[graph]:
            self._put(stream, work)
        return (OK,)


def _multiprocessors(count: int) -> Any:
    """A resource of multiprocessors."""
    return SimpleNamespace(sm=SimpleNamespace(smCount=count))


def driver_on(emulator: Any, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """A driver as the package would give it."""
    package: Any = type(sys)("cuda")
    package.bindings = type(sys)("cuda.bindings")
    package.bindings.driver = emulator
    for name, module in (("cuda", package), ("cuda.bindings", package.bindings), ("cuda.bindings.driver", emulator)):
        monkeypatch.setitem(sys.modules, name, module)
    return Driver()


def emulated_gpu(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Let everything that asks for a driver, or for a compiler of kernels, get the emulated ones."""
    emulator = Emulator(library)
    driver = driver_on(emulator, monkeypatch)
    monkeypatch.setattr(cuda_driver, "Driver", lambda: driver)
    monkeypatch.setattr(nvrtc, "compiled", lambda unit, architecture: b"code")
    return emulator
