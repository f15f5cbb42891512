"""DLPack capsules: made by hand over emulated device memory, and by PyTorch and NumPy over the CPU's."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from spm_rt import FrameError
from spm_rt.gpu import dlpack
from spm_rt.gpu.device_frames import LEGACY_STREAM, device_frame, is_device_array

from ..support.emulator.pictures import OnDevice, Packed

PICTURE = np.arange(40 * 50 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 50, 3)


# The capsule.


def test_pytorchs_capsules_are_read() -> None:
    wide = torch.arange(5 * 7 * 3, dtype=torch.uint8).reshape(5, 7, 3)
    for tensor in (wide, wide[1:4, 2:6], wide.permute(2, 0, 1), wide[:, ::2], wide[0, 0, 0], wide[2:2]):
        taken = dlpack.take(tensor.__dlpack__())
        assert (taken.kind, taken.device) == ("uint8", (dlpack.CPU, 0))
        assert (taken.shape, taken.address) == (tuple(tensor.shape), tensor.data_ptr())
        if tensor.numel():
            assert taken.strides == tensor.stride()
    kinds = {torch.float32: "float32", torch.int64: "int64", torch.bfloat16: "bfloat16", torch.bool: "bool8"}
    for kind, name in kinds.items():
        assert dlpack.take(torch.zeros(2, dtype=kind).__dlpack__()).kind == name


def test_numpys_capsules_are_read() -> None:
    taken = dlpack.take(PICTURE[3:, ::2].__dlpack__())
    assert (taken.shape, taken.strides, taken.kind) == ((37, 25, 3), (150, 6, 1), "uint8")
    assert taken.address == PICTURE[3:].ctypes.data


class Watched(np.ndarray[Any, Any]):
    """An array whose end can be seen."""


def test_memory_is_kept_until_nobody_needs_it() -> None:
    array = np.zeros((4, 5), np.uint8).view(Watched)
    gone = weakref.ref(array)
    capsule = torch.from_numpy(array).__dlpack__()
    del array
    taken = dlpack.take(capsule)
    del capsule  # its own end must free nothing any more
    gc.collect()
    assert gone() is not None
    del taken
    gc.collect()
    assert gone() is None


def test_the_deleter_is_called_once() -> None:
    packed = Packed(PICTURE)
    capsule = packed.__dlpack__()
    taken = dlpack.take(capsule)
    del capsule
    gc.collect()
    assert packed.deleted == 0
    del taken
    gc.collect()
    assert packed.deleted == 1
    dlpack.take(Packed(PICTURE, deleter=False).__dlpack__())  # there need not be one


def test_a_capsule_is_taken_once() -> None:
    capsule = torch.zeros(3).__dlpack__()
    taken = dlpack.take(capsule)
    with pytest.raises(FrameError, match="gave something 'used_dltensor'; a capsule named 'dltensor' is needed"):
        dlpack.take(capsule)
    assert taken.shape == (3,)


@pytest.mark.parametrize("given", [None, 5, object(), b"dltensor"])
def test_other_things_are_no_capsules(given: Any) -> None:
    with pytest.raises(FrameError, match=f"gave something of type {type(given).__name__}"):
        dlpack.take(given)


def test_offsets_and_missing_strides() -> None:
    taken = dlpack.take(Packed(PICTURE, offset=24, plain=True).__dlpack__())
    assert (taken.address, taken.strides) == (PICTURE.ctypes.data, (150, 3, 1))
    assert dlpack.take(Packed(PICTURE, data=None, byte_offset=8).__dlpack__()).address == 0
    assert dlpack.take(Packed(PICTURE, lanes=4).__dlpack__()).kind == "uint8x4"


# The frame.


def test_a_frame_is_described_without_its_librarys_help() -> None:
    packed = Packed(PICTURE[:, 5:25])
    assert is_device_array(packed)
    assert not is_device_array(PICTURE)
    frame = device_frame(packed, index=0, stream=4711)
    assert packed.streams == [4711]
    assert (frame.address, frame.shape) == (PICTURE[:, 5:].ctypes.data, (40, 20, 3))
    assert (frame.row_step, frame.pixel_step, frame.stream, frame.dtype) == (150, 3, 4711, np.uint8)
    del frame
    gc.collect()
    assert packed.deleted == 1


def test_grey_frames_and_turned_ones() -> None:
    frame = device_frame(Packed(PICTURE[::-1, ::-2, 1]))
    assert (frame.shape, frame.row_step, frame.pixel_step) == ((40, 25, 1), -150, -6)
    assert frame.address == PICTURE[::-1, ::-2, 1].ctypes.data
    assert frame.stream == LEGACY_STREAM


def test_managed_memory_is_any_gpus_own() -> None:
    assert device_frame(Packed(PICTURE, (dlpack.CUDA_MANAGED, 0)), index=1).shape == PICTURE.shape


def test_an_interface_that_names_no_stream_waits_for_the_default_one() -> None:
    frame = OnDevice(PICTURE, version=2)
    del frame.__cuda_array_interface__["stream"]
    assert device_frame(frame).stream == LEGACY_STREAM
    assert device_frame(OnDevice(PICTURE, stream=None)).stream is None
    assert device_frame(OnDevice(PICTURE, stream=77)).stream == 77


def test_pytorchs_arrays_are_asked_for_a_capsule_which_says_more() -> None:
    class Both(Packed):
        __cuda_array_interface__ = OnDevice(PICTURE, version=2).__cuda_array_interface__

    both = Both(PICTURE)
    assert device_frame(both, stream=99).stream == 99
    assert both.streams == [99]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (Packed(PICTURE, (dlpack.CUDA, 1)), "lies on GPU 1, the tracker works on GPU 0"),
        (
            torch.from_numpy(PICTURE),
            r"of type Tensor lies in the CPU's memory: give it as a numpy array \(frame\.numpy\(\)",
        ),
        (Packed(PICTURE, (dlpack.CPU, 0)), "of type Packed lies in the CPU's memory: give it as a numpy array"),
        (Packed(PICTURE, (10, 0)), "lies in an AMD GPU's memory"),
        (Packed(PICTURE, (99, 0)), "lies in device type 99's memory"),
        (Packed(PICTURE, device_type=dlpack.CPU), "lies in the CPU's memory"),
        (Packed(PICTURE.astype(np.float32)), "type float32; uint8 is needed"),
        (Packed(PICTURE.view(np.int8)), "type int8; uint8 is needed"),
        (Packed(PICTURE, lanes=3), "type uint8x3; uint8 is needed"),
        (Packed(PICTURE[:, :, :2]), r"has shape \(40, 50, 2\)"),
        (Packed(PICTURE[0, 0]), r"has shape \(3,\)"),
        (Packed(PICTURE[:1]), "50 x 1 pixels; at least 2 x 2"),
        (Packed(PICTURE.transpose(2, 0, 1).copy().transpose(1, 2, 0)), "channels side by side"),
        (Packed(PICTURE, data=None), "no memory"),
        (Packed(PICTURE, name="dltensor_versioned"), "gave something 'dltensor_versioned'"),
        (OnDevice(PICTURE.astype(np.float32)), "uint8"),
        (OnDevice(PICTURE[:, :, :2]), "shape"),
        (OnDevice(PICTURE[:1]), "at least 2 x 2"),
        (OnDevice(PICTURE.transpose(2, 0, 1).copy().transpose(1, 2, 0)), "channels side by side"),
        (OnDevice(PICTURE, data=(0, True)), "no memory"),
    ],
)
def test_frames_that_cannot_be_used_are_refused(frame: Any, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        device_frame(frame, index=0)
    gc.collect()
    if isinstance(frame, Packed):
        taken = bool(frame.streams) and "versioned" not in message
        assert frame.deleted == taken  # and what was taken is given back


def test_a_producer_that_cannot_share_is_named() -> None:
    class Broken(Packed):
        def __dlpack__(self, *, stream: int | None = None) -> Any:
            raise BufferError("it is read-only")

    with pytest.raises(FrameError, match="of type Broken cannot be shared by DLPack: it is read-only"):
        device_frame(Broken(PICTURE))
    with pytest.raises(FrameError, match="neither __cuda_array_interface__ nor DLPack"):
        device_frame(object())
