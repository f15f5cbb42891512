"""The driver layer over an emulated driver: copies, kernels, graphs, and every kind of failure."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any

import numpy as np
import pytest

from spm_rt.errors import BackendError
from spm_rt.frame.geometry import search_region
from spm_rt.gpu import kernels
from spm_rt.gpu.driver import CudaError, Device, Driver

from ..support.emulator.driver import CUresult, Emulator, driver_on
from ..support.emulator.host_build import SPEC, settings_of


@pytest.fixture
def emulator(built: ctypes.CDLL) -> Emulator:
    return Emulator(built)


@pytest.fixture
def device(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(0, driver_on(emulator, monkeypatch))


def test_a_device_says_what_it_is(device: Device) -> None:
    assert (device.name, device.capability) == ("Emulated GPU", 90)


def test_bytes_go_there_and_back(device: Device) -> None:
    stream, memory = device.stream(), device.memory(40)
    given, found = device.pinned((10,), np.float32), device.pinned((10,), np.float32)
    assert (given == 0).all()
    given[:] = np.arange(10)
    stream.upload(given, memory.address)
    stream.download(memory.address, found)
    stream.wait()
    np.testing.assert_array_equal(found, given)


def test_rows_of_a_view_are_put_side_by_side(device: Device) -> None:
    stream, wide, narrow = device.stream(), device.memory(60), device.memory(12)
    picture, found = np.arange(60, dtype=np.uint8).reshape(6, 10), np.zeros((6, 2), np.uint8)
    stream.upload(picture, wide.address)
    stream.copy_rows(wide.address + 3, 10, narrow.address, 2, 6)
    stream.download(narrow.address, found)
    np.testing.assert_array_equal(found, picture[:, 3:5])


def test_memory_is_given_back_when_nobody_holds_it(device: Device, emulator: Emulator) -> None:
    gc.collect()
    before = len(emulator.blocks)
    memory, pinned = device.memory(100), device.pinned((5, 5), np.float64)
    part = pinned[2:, 1]
    assert len(emulator.blocks) == before + 2
    del memory, pinned
    gc.collect()
    assert len(emulator.blocks) == before + 1  # a view keeps its block
    del part
    gc.collect()
    assert len(emulator.blocks) == before


def region_kernel(device: Device) -> tuple[Any, Any, Any, Any]:
    """spm_begin, its state in device memory and in host memory, and what it needs to stay."""
    stream = device.stream()
    state, settings = device.pinned((1,), kernels.STATE), device.pinned((1,), kernels.SETTINGS)
    state["box"], settings[:] = [10, 20, 60, 90], settings_of()[1]
    places = device.memory(state.nbytes), device.memory(settings.nbytes)
    stream.upload(state, places[0].address)
    stream.upload(settings, places[1].address)
    prepared = device.module(b"code").prepare(kernels.begin_launch(), [place.address for place in places])
    return stream, prepared, state, places


def test_kernels_run_with_their_arguments(device: Device) -> None:
    stream, prepared, state, places = region_kernel(device)
    prepared(stream.handle)
    stream.download(places[0].address, state)
    stream.wait()
    wanted = search_region((10, 20, 60, 90), SPEC)
    assert tuple(state["region"][0]) == (wanted.x1, wanted.y1, wanted.x2, wanted.y2)


def test_captured_work_runs_when_it_is_launched(device: Device) -> None:
    stream, prepared, state, places = region_kernel(device)

    def work() -> None:
        prepared(stream.handle)
        stream.download(places[0].address, state)

    graph = stream.capture(work)
    assert (state["region"] == 0).all()
    graph.launch()
    assert (state["region"] != 0).all()


def test_a_broken_capture_is_ended(device: Device, emulator: Emulator) -> None:
    stream = device.stream()

    def work() -> None:
        raise BackendError("not this")

    with pytest.raises(BackendError, match="not this"):
        stream.capture(work)
    assert emulator.captured == {}
    stream.wait()


@pytest.mark.parametrize("name", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"])
def test_a_capture_that_the_driver_refuses_is_an_error(name: str, device: Device, emulator: Emulator) -> None:
    emulator.fail(name, CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
    with pytest.raises(CudaError, match=rf"{name} failed.*CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"):
        device.stream().capture(lambda: None)


CALLS = {
    "cuMemAlloc": lambda device: device.memory(8),
    "cuMemHostAlloc": lambda device: device.pinned((8,), np.uint8),
    "cuStreamCreate": lambda device: device.stream(),
    "cuModuleLoadData": lambda device: device.module(b"code"),
    "cuCtxSetCurrent": lambda device: device.enter(),
    "cuModuleGetFunction": lambda device: region_kernel(device),
    "cuMemcpyHtoDAsync": lambda device: region_kernel(device),
    "cuStreamSynchronize": lambda device: device.stream().wait(),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_return_code_is_looked_at(name: str, device: Device, emulator: Emulator) -> None:
    emulator.fail(name, CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)
    with pytest.raises(CudaError, match=rf"{name} failed: illegal address \(CUDA_ERROR_ILLEGAL_ADDRESS\)") as caught:
        CALLS[name](device)
    assert caught.value.code == "CUDA_ERROR_ILLEGAL_ADDRESS"


def test_advice_comes_with_the_errors_that_have_a_remedy(device: Device, emulator: Emulator) -> None:
    emulator.fail("cuMemAlloc", CUresult.CUDA_ERROR_OUT_OF_MEMORY)
    with pytest.raises(CudaError, match="the GPU's memory is full: fewer targets"):
        device.memory(1 << 40)
    emulator.fail("cuModuleLoadData", CUresult.CUDA_ERROR_NO_BINARY_FOR_GPU)
    with pytest.raises(CudaError, match="the code was made for another card"):
        device.module(b"code")


def test_a_gpu_that_is_not_there_is_named(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CudaError, match="GPU 3 is asked for, but there are 1"):
        Device(3, driver_on(emulator, monkeypatch))


def test_no_gpu_at_all(built: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CudaError, match="no NVIDIA GPU that this process may use"):
        driver_on(Emulator(built, devices=0), monkeypatch)


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def cuInit(self, flags: int) -> None:
            raise RuntimeError("libcuda.so.1 is not there")

    with pytest.raises(CudaError, match=r"no NVIDIA driver could be loaded: libcuda\.so\.1 is not there"):
        driver_on(Missing(), monkeypatch)


def test_no_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "cuda.bindings", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendError, match="`pip install cuda-bindings`"):
        Driver()


def test_the_real_bindings_have_every_call_that_the_emulator_has(emulator: Emulator) -> None:
    real = pytest.importorskip("cuda.bindings.driver")
    names = [name[1:] for name in dir(Emulator) if name.startswith("_cu")]
    assert len(names) > 25
    assert [name for name in names if not hasattr(real, name)] == []
    for kind in (CUresult, Emulator.CUdevice_attribute, Emulator.CUstreamCaptureMode, Emulator.CUdevResourceType):
        for member in kind:
            assert int(getattr(getattr(real, kind.__name__), member.name)) == member.value
