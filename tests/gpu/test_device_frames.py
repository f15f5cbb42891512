"""Trackers on frames that are on the (emulated) GPU: what they give must be what the same frames on the host give."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spm_rt import Bundle, FrameError, MultiTracker, Tracker
from spm_rt.backends import load_backend
from spm_rt.backends.protocol import DeviceFrameContext
from spm_rt.backends.pytorch.backend import PyTorchBackend
from spm_rt.backends.tensorrt.backend import TensorRtBackend
from spm_rt.errors import BackendError
from spm_rt.frame.crop import crop_exact, sample_region
from spm_rt.frame.geometry import search_region
from spm_rt.gpu.crop import crop_module
from spm_rt.gpu.device_frames import device_frame
from spm_rt.gpu.driver import Device
from spm_rt.results import Box

from ..support.emulator.driver import CUresult
from ..support.emulator.engines import Engines
from ..support.emulator.networks import view
from ..support.emulator.pictures import OnDevice, Packed
from ..support.follow import Frames, follow

NEAR = 0.0 if sample_region else 0.01
"""Host crops are the kernels', bit for bit, where the C module was built."""


@pytest.fixture(scope="module")
def bundle(synthetic_bundle: Path) -> Bundle:
    """For one target and for two."""
    return Bundle.open(synthetic_bundle)


@pytest.fixture
def tracker(machine: Engines, bundle: Bundle) -> Tracker:
    return Tracker(TensorRtBackend(bundle), bundle.spec, bundle.settings)


def wide(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same as a view into a larger one."""
    around = np.zeros((picture.shape[0] + 3, picture.shape[1] + 7, *picture.shape[2:]), np.uint8)
    around[1:-2, 4:-3] = picture
    return around[1:-2, 4:-3]


def with_alpha(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([picture, np.full_like(picture[:, :, :1], 9)], axis=2)


KINDS = {
    "interface": (lambda picture: picture, OnDevice),
    "dlpack": (lambda picture: picture, Packed),
    "view": (wide, OnDevice),
    "dlpack view": (lambda picture: wide(picture)[::-1], Packed),
    "grey": (lambda picture: np.ascontiguousarray(picture[:, :, 1]), Packed),
    "alpha": (with_alpha, OnDevice),
}


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_those_of_the_same_frames_on_the_host(kind: str, tracker: Tracker, clip: Frames) -> None:
    change, there = KINDS[kind]
    pictures = [change(np.array(frame)) for frame in clip[:4]]
    found, wanted = (follow(tracker, frames) for frames in ([there(picture) for picture in pictures], pictures))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=NEAR)


@pytest.mark.parametrize("box", [(140, 90, 30, 28), (-10, 60, 60, 50), (250, 150, 90, 80), (5, 5, 900, 700)])
@pytest.mark.parametrize("slot", [0, 1])
def test_the_input_is_the_exact_crop_bit_by_bit(
    box: Box, slot: int, machine: Engines, bundle: Bundle, clip: Frames
) -> None:
    context = TensorRtBackend(bundle, targets=2).context()
    assert isinstance(context, DeviceFrameContext)
    x, y, width, height = box
    for frame in (clip[0], clip[1]):  # the second finds the first one's sums
        region = search_region((x, y, x + width, y + height), bundle.spec)
        context.crop_device(context.device_frame(OnDevice(frame)), region, slot)
        crops = view(context.addresses["crop"], context.crop.shape)
        np.testing.assert_array_equal(crops[slot], crop_exact(frame, region, bundle.spec.crop_size))
        assert (crops[1 - slot] == 0).all()


def test_no_crop_goes_up(machine: Engines, tracker: Tracker, clip: Frames) -> None:
    follow(tracker, [Packed(frame) for frame in clip[:3]])
    gc.collect()  # the context of the self-test goes now, not in the midst of the frame
    machine.emulator.calls.clear()
    packed = Packed(clip[3])
    tracker.update(packed)
    crop, network = ["cuMemcpyHtoDAsync", "cuLaunchKernel", "cuLaunchKernel"], ["cuGraphLaunch", "cuStreamSynchronize"]
    assert machine.emulator.calls == [*crop, *network, *network]
    assert machine.emulator.copied[-1] == 128  # the region's record
    assert packed.streams == [tracker._context.stream.handle]  # type: ignore[attr-defined]


def test_another_librarys_stream_is_waited_for(machine: Engines, tracker: Tracker, clip: Frames) -> None:
    follow(tracker, [Packed(frame) for frame in clip[:3]])
    machine.emulator.calls.clear()
    tracker.update(OnDevice(clip[3], stream=2))
    assert machine.emulator.calls[:4] == ["cuEventCreate", "cuEventRecord", "cuStreamWaitEvent", "cuEventDestroy"]


def test_frames_may_come_from_either_side(machine: Engines, tracker: Tracker, clip: Frames) -> None:
    mixed: list[Any] = [Packed(clip[0]), clip[1], OnDevice(clip[2]), OnDevice(clip[3]), clip[4], Packed(clip[5])]
    wanted = follow(tracker.sibling(), clip[:6])
    machine.emulator.calls.clear()
    np.testing.assert_allclose(follow(tracker, mixed), wanted, rtol=0, atol=NEAR)
    # One search with the crop's upload in it, one without, and the relation.
    assert machine.emulator.calls.count("cuGraphInstantiate") == 3


def test_a_crop_that_was_given_up_is_not_mistaken_for_the_next_frames(
    tracker: Tracker, clip: Frames, clip_box: Box
) -> None:
    wanted = follow(tracker.sibling(), clip[:3])
    tracker.init(clip[0], clip_box)

    def interrupt(stage: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tracker.update(OnDevice(clip[5]), clock=interrupt)
    np.testing.assert_array_equal(tracker.update(clip[1]).box, wanted[0, :4])


def test_a_failed_capture_is_done_without(machine: Engines, tracker: Tracker, clip: Frames) -> None:
    wanted = follow(tracker.sibling(), clip[:4])
    machine.emulator.fail("cuStreamEndCapture", CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
    with pytest.warns(RuntimeWarning, match="CUDA graphs are not used: cuStreamEndCapture failed"):
        found = follow(tracker, [Packed(frame) for frame in clip[:4]])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=NEAR)


def test_no_compiler_for_the_kernels_is_an_error(
    tracker: Tracker, clip: Frames, clip_box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(unit: str, architecture: str) -> bytes:
        raise BackendError("NVRTC is not installed")

    monkeypatch.setattr("spm_rt.gpu.kernels.nvrtc.compiled", missing)
    tracker.init(clip[0], clip_box)
    with pytest.raises(BackendError, match="NVRTC is not installed"):
        tracker.update(OnDevice(clip[1]))
    assert np.isfinite(tracker.update(clip[1]).box).all()


def test_several_targets(machine: Engines, bundle: Bundle, clip: Frames, clip_box: Box) -> None:
    made = {targets: TensorRtBackend(bundle, targets=targets) for targets in bundle.targets}
    x, y, width, height = clip_box
    boxes = [clip_box, (x + 30, y + 20, width, height), (x - 20, y, width + 9, height)]  # calls for two and for one
    results = []
    for there in (np.array, OnDevice, Packed):
        tracker = MultiTracker(made.__getitem__, bundle.targets, bundle.spec, bundle.settings)
        ids = [tracker.add(there(clip[0]), box) for box in boxes]
        for frame in clip[1:3]:
            last = tracker.update(there(frame))
        results.append([(*last[id].box, last[id].score) for id in ids])
    np.testing.assert_allclose(results[1:], [results[0]] * 2, rtol=0, atol=NEAR)


# What cannot be used.


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (Packed(np.zeros((40, 50, 3), np.uint8), (2, 3)), "lies on GPU 3, the tracker works on GPU 0"),
        (torch.zeros(40, 50, 3, dtype=torch.uint8), "Tensor lies in the CPU's memory: give it as a numpy array"),
        (OnDevice(np.zeros((40, 50, 3), np.float32)), "uint8"),
        (OnDevice(np.zeros((40, 50, 3), np.uint8)), "the frame's size changed from .* to 50 x 40"),
    ],
)
def test_a_tracker_stays_as_it_was(frame: Any, message: str, tracker: Tracker, clip: Frames, clip_box: Box) -> None:
    tracker.init(clip[0], clip_box)
    with pytest.raises(FrameError, match=message):
        tracker.update(frame)
    assert tracker.box == clip_box


@pytest.mark.parametrize("name", ["onnxruntime", "pytorch"])
def test_backends_on_the_cpu_say_where_to_put_it(name: str, bundle: Bundle, clip: Frames, clip_box: Box) -> None:
    backend = load_backend(bundle, name, threads=1)
    tracker = Tracker(backend, bundle.spec, bundle.settings)
    several = MultiTracker(lambda _: backend, (1,), bundle.spec, bundle.settings)
    for start in (tracker.init, several.add):
        for frame in (OnDevice(clip[0]), Packed(clip[0])):
            with pytest.raises(FrameError, match=rf"lies on a GPU, where backend '{name}.*copy it to the host \(frame"):
                start(frame, clip_box)
        with pytest.raises(FrameError, match=r"Tensor lies in the CPU's memory: give it as a numpy array \(frame"):
            start(torch.from_numpy(np.array(clip[0])), clip_box)


# PyTorch: its CPU memory is the emulator's device memory.


def test_pytorchs_contexts_take_them_too(
    machine: Engines, bundle: Bundle, clip: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Device(0)
    stream = gpu.stream()
    monkeypatch.setattr(PyTorchBackend, "stream", stream.handle)
    backend = PyTorchBackend(bundle, targets=2)
    monkeypatch.setitem(backend.__dict__, "crop_kernels", (gpu, crop_module(gpu)))
    host, device = backend.context(), backend.context()
    boxes = [(100.0, 60.0, 160.0, 130.0), (-20.0, 30.0, 40.0, 100.0)]
    regions = [search_region(box, bundle.spec) for box in boxes]
    given = np.array([[90, 90, 180, 180], [80, 95, 170, 160]], np.float32)
    found: dict[str, Any] = {}
    for frame in (clip[0], clip[4]):
        for slot, region in enumerate(regions):
            host.crop[slot] = crop_exact(frame, region, bundle.spec.crop_size)
            device.crop_device(device_frame(OnDevice(frame)), region, slot)
        for name, context in (("host", host), ("device", device)):
            if frame is clip[0]:
                context.set_template(given)
            found[name] = [array.copy() for array in context.search()]
    for got, wanted in zip(found["device"], found["host"], strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert (device.crop == 0).all()
    device.on_device, device.crop[:] = False, host.crop
    np.testing.assert_array_equal(device.search()[0], found["host"][0])
