"""PyTorch's networks for the resident trackers: PyTorch's CPU operators and our kernels' host build on an emulated GPU.

Its memory is the host's, so tensors and kernels meet there as they would on a card. What a graph records is what
PyTorch's dispatcher saw while it was captured, in order with our kernels; a replay does it again on the same memory.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spm_bench.gpu import agreement
from spm_bench.gpu import parts as gpu_parts
from spm_bench.gpu import several as gpu_several
from spm_bench.gpu.partition import PartitionBackend
from spm_rt import BackendError, Bundle, Tracker
from spm_rt.backends.pytorch.backend import PyTorchBackend
from spm_rt.backends.pytorch.kernels import Kernels
from spm_rt.backends.pytorch.resident import PyTorchNetworks
from spm_rt.gpu.driver import Device
from spm_rt.gpu.partition import Partition
from spm_rt.results import Box

from ..support.emulator.driver import Emulator, emulated_gpu
from ..support.emulator.networks import ResidentMachine
from ..support.emulator.pictures import OnDevice
from ..support.fakes.halves import add_up_in_float32
from ..support.follow import Frames, follow, results_on


class Recorder(TorchDispatchMode):
    """Puts every operator on the emulated stream as well, to be done again."""

    def __init__(self, emulator: Emulator, stream: int) -> None:
        super().__init__()
        self._emulator, self._stream = emulator, stream
        self.computed: list[str] = []
        """Operators that wrote something: on a GPU a kernel each, or several."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        found = func(*args, **given)
        if "empty" not in func.__name__:  # which computes nothing
            held = {x.untyped_storage().data_ptr() for x in tree_leaves((args, given)) if isinstance(x, torch.Tensor)}
            made = {x.untyped_storage().data_ptr() for x in tree_leaves(found) if isinstance(x, torch.Tensor)}
            if not made <= held or func._schema.is_mutable:
                self.computed.append(func._schema.name.removeprefix("aten::"))

            def again() -> None:
                for old, new in zip(tree_leaves(found), tree_leaves(func(*args, **given)), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)

            self._emulator.outside(self._stream, again)
        return found


class FakeCuda:
    """``torch.cuda`` on an emulated GPU."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.streams: list[Any] = []
        self.modes: list[str] = []
        self.captured: list[str] = []
        """The kernels and operators of the graph that was captured last."""

        class CUDAGraph:
            work: Any = ()

            def replay(self) -> None:
                emulator.calls.append("replay")
                with torch.inference_mode():
                    for work in self.work:
                        work()

        self.CUDAGraph = CUDAGraph

    def Stream(self, device: Any) -> Any:
        return SimpleNamespace(cuda_stream=self.emulator.cuStreamCreate(1)[1])

    def ExternalStream(self, handle: int, device: Any) -> Any:
        return SimpleNamespace(cuda_stream=handle)

    @contextlib.contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        self.streams.append(stream)
        yield
        self.streams.pop()

    def current_stream(self, device: Any) -> Any:
        return self.streams[-1] if self.streams else SimpleNamespace(cuda_stream=0)

    def device(self, device: Any) -> Any:
        return contextlib.nullcontext()

    def synchronize(self, device: Any) -> None:
        pass

    @contextlib.contextmanager
    def graph(self, graph: Any, stream: Any, capture_error_mode: str) -> Iterator[None]:
        self.modes.append(capture_error_mode)
        self.emulator.cuStreamBeginCapture(stream.cuda_stream, 1)
        before, recorder = len(self.emulator.kernels), Recorder(self.emulator, stream.cuda_stream)
        try:
            with self.stream(stream), recorder:
                yield
        finally:
            self.captured = [*self.emulator.kernels[before:], *recorder.computed]
            _, recorded = self.emulator.cuStreamEndCapture(stream.cuda_stream)
        graph.work = self.emulator._objects[recorded]


class FakeTorch:
    def __init__(self, emulator: Emulator) -> None:
        self.cuda = FakeCuda(emulator)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


class Machine(ResidentMachine):
    def __init__(self, built: ctypes.CDLL, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
        self.bundle, self.emulator = bundle, emulated_gpu(built, monkeypatch)
        self.backend = backend = PyTorchBackend(bundle, precision=precision, channels_last=precision != "float32")
        self.torch = FakeTorch(self.emulator)
        backend.torch = backend.network._torch = backend.network.steps._torch = self.torch
        backend.on_gpu, backend.graphs, backend.device = True, True, torch.device("cpu", 0)
        backend.network.steps = Kernels(backend.network.steps, 0, precision)

    def networks(self, targets: int) -> PyTorchNetworks:
        return PyTorchNetworks(self.backend.sized(targets), self.bundle)


@pytest.fixture
def machine(built: ctypes.CDLL, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(built, bundle, monkeypatch, "float32")


def on_the_cpu(bundle: Bundle) -> Tracker:
    return Tracker(PyTorchBackend(bundle), bundle.spec, bundle.settings)


def test_one_target_is_tracked_as_on_the_cpu(machine: Machine, bundle: Bundle, clip: Frames) -> None:
    tracker = machine.tracker()
    found, wanted = (follow(one, clip[:5]) for one in (tracker, on_the_cpu(bundle)))
    np.testing.assert_allclose(found[:, :4], wanted[:, :4], atol=0.01)
    np.testing.assert_allclose(found[:, 4], wanted[:, 4], atol=1e-4)
    assert tracker.graphs
    assert machine.emulator.calls.count("replay") == 4  # once to compare
    assert machine.torch.cuda.modes == ["thread_local"]
    assert b"spm_roi_f32" in machine.emulator._objects.values()


def test_three_targets_in_a_batch_of_four(machine: Machine, bundle: Bundle, clip: Frames, clip_box: Box) -> None:
    """With one that leaves, so that the others get other slots, and a batch with no empty one."""
    multi = machine.several()
    boxes = [clip_box, (0.0, 0.0, 50.0, 60.0), (clip_box[0] + 12, clip_box[1] - 6, *clip_box[2:])]
    alone = {multi.add(clip[0], box): results_on(on_the_cpu(bundle), clip[:5], box) for box in boxes}
    for number, frame in enumerate(clip[1:5]):
        if number == 2:
            multi.remove(0)
            del alone[0]
        results = multi.update(frame)
        assert results.keys() == alone.keys()
        for id, result in results.items():
            np.testing.assert_allclose(result.box, alone[id][number].box, atol=0.01)
    assert multi.graphs


def test_another_frame_size_is_another_graph(machine: Machine, bundle: Bundle, clip: Frames) -> None:
    tracker, single = machine.tracker(), on_the_cpu(bundle)
    for pictures in (clip[:4], [np.ascontiguousarray(frame[:-20]) for frame in clip[:4]]):
        np.testing.assert_allclose(follow(tracker, pictures)[:, :4], follow(single, pictures)[:, :4], atol=0.01)
    assert len(machine.torch.cuda.modes) == 2


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_runs_and_stays_near(
    precision: str, built: ctypes.CDLL, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, clip: Frames, clip_box: Box
) -> None:
    add_up_in_float32(monkeypatch)
    machine = Machine(built, bundle, monkeypatch, precision)
    multi = machine.several((1, 2))
    for _ in range(2):
        multi.add(clip[0], clip_box)
    for frame, wanted in zip(clip[1:3], results_on(on_the_cpu(bundle), clip[:3]), strict=True):
        first, second = multi.update(frame).values()
        np.testing.assert_allclose(first.box, second.box, atol=0.5)
        np.testing.assert_allclose(first.box, wanted.box, atol=3)


OURS = {
    **dict.fromkeys(("spm_begin", "spm_frame_sum", "spm_select", "spm_fuse"), 1),
    **{f"spm_{name}_{{}}": 1 for name in ("crop", "decode", "roi", "relate", "decode_fine")},
    **{"spm_pool_norm_{}": 2, "spm_activate_{}": 5},
}
LIBRARY = {"conv2d": 7, "linear": 3, "contiguous": 1}
"""Seven convolutions, three products with matrices; the window of conv4 that conv5 reads."""


@pytest.mark.parametrize(("precision", "short"), [("float32", "f32"), ("float16", "f16")])
def test_a_frame_is_sixteen_kernels_of_ours_and_eleven_steps_of_the_library(
    precision: str, short: str, built: ctypes.CDLL, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, clip: Frames
) -> None:
    machine = Machine(built, bundle, monkeypatch, precision)
    follow(machine.tracker(), clip[:2])
    assert Counter(machine.torch.cuda.captured) == {name.format(short): n for name, n in OURS.items()} | LIBRARY


def test_the_light_model_goes_through_the_same_kernels(
    built: ctypes.CDLL, light_bundle: Path, monkeypatch: pytest.MonkeyPatch, clip: Frames
) -> None:
    light = Bundle.open(light_bundle)
    machine = Machine(built, light, monkeypatch, "float32")
    found = follow(machine.tracker(), clip[:3])
    np.testing.assert_allclose(found[:, :4], follow(on_the_cpu(light), clip[:3])[:, :4], atol=0.01)
    counts = Counter(name for name in machine.torch.cuda.captured if name.startswith("spm_"))
    once = [
        "spm_select",
        "spm_fuse",
        *(f"spm_{name}_f32" for name in ("crop", "decode", "roi", "relate", "decode_fine")),
    ]
    assert [counts[name] for name in once] == [1] * 7
    # After every convolution but those that decode and relate follow, and after two products.
    assert counts["spm_activate_f32"] == machine.torch.cuda.captured.count("conv2d") - 2 + 2
    assert not {"relu", "relu_", "sigmoid", "exp"} & set(machine.torch.cuda.captured)


def test_what_cannot_be_recorded_is_done_without(machine: Machine, clip: Frames, clip_box: Box) -> None:
    def graph(*_: Any, **__: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    machine.torch.cuda.graph = graph  # type: ignore[method-assign]
    tracker = machine.started(clip[0], clip_box)
    with pytest.warns(RuntimeWarning, match="CUDA graphs are not used: PyTorch cannot capture it: operation"):
        tracker.update(clip[1])
    assert not tracker.graphs
    assert tracker.update(clip[2]).found


def test_gpu_checks_part_runs_on_it(
    machine: Machine, bundle: Bundle, clip: Frames, clip_box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of gpu_check's part about several targets that a machine with PyTorch runs, with fewer targets and frames."""
    made = {
        "open_networks": lambda *given: (bundle, machine.networks),
        "BATCH_SIZES": (1, 4),
        "LEAST_FRAMES": 1,
    }
    made |= {"on_the_gpu": lambda pictures: [OnDevice(picture) for picture in pictures]}
    for name, value in made.items():
        monkeypatch.setattr(gpu_several, name, value)
    monkeypatch.setattr(gpu_parts, "WARM", 1)
    monkeypatch.setattr(agreement, "pictures", lambda: (clip[:3], clip_box))
    found = gpu_several.resident(bundle, 1, "pytorch", "float32")
    names = ("boxes of single trackers", "scores of single trackers", "captured")
    assert found["checks"] == dict.fromkeys(names, True), found
    assert set(found["host_frames"]) == set(found["gpu_frames"]) == {"1", "4"}


def test_on_a_part_of_a_card_every_stream_is_that_parts(
    machine: Machine, clip: Frames, clip_box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Partition(Device(0), 16)
    for name, value in {"_partition": part, "_made": []}.items():
        monkeypatch.setattr(machine.backend, name, value, raising=False)
    monkeypatch.setattr(PyTorchBackend, "make_stream", PartitionBackend.make_stream)
    machine.emulator.calls.clear()
    machine.emulator.streams.clear()
    tracker = machine.started(clip[0], clip_box)
    for frame in clip[1:4]:
        tracker.update(frame)
    assert tracker.graphs
    assert "cuStreamCreate" not in machine.emulator.calls
    assert machine.emulator.streams == {tracker.networks.stream.handle}


def test_what_is_refused(machine: Machine, bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="needs a backend on a GPU"):
        PyTorchNetworks(PyTorchBackend(bundle), bundle)
    with pytest.raises(BackendError, match="templates are made one by one"):
        machine.networks(2).set_template(np.zeros((1, 4), np.float32))
    with pytest.raises(BackendError, match="relate before search"):
        machine.networks(1).relate()
