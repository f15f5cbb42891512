"""A part of a card: over an emulated driver, whose partitions are streams of their own and no slower than the whole."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spm_bench.gpu import agreement, partition
from spm_rt import BackendError, Bundle, Tracker, TrackResult
from spm_rt.gpu.partition import Partition
from spm_rt.resident import ResidentTracker
from spm_rt.results import Box

from ..support.bench import spm_bench
from ..support.emulator.driver import emulated_gpu
from ..support.emulator.host_build import built_for_the_host
from ..support.emulator.networks import ResidentMachine
from ..support.exports import Frames

Make = Callable[..., ResidentTracker]
FAST = 1.0
"""TFLOP/s at which a frame takes 2 ms at least: here it takes more."""


@pytest.fixture
def machine(bundle: Bundle, clip: Frames, clip_box: Box, monkeypatch: pytest.MonkeyPatch) -> ResidentMachine:
    """The check on few frames, which lie on the host."""
    wanted = agreement.follow(Tracker.load(bundle, "onnxruntime"), clip[:4], clip_box)
    monkeypatch.setattr(partition, "pictures", lambda: (clip[:4], clip_box))
    monkeypatch.setattr(partition, "reference", lambda bundle: wanted)
    monkeypatch.setattr(partition, "on_the_gpu", lambda pictures: pictures[:3])
    monkeypatch.setattr(partition, "WARM", 1)
    return ResidentMachine(built_for_the_host(), bundle, monkeypatch)


@pytest.fixture
def make(machine: ResidentMachine) -> Make:
    """Trackers on a partition of 16 multiprocessors."""
    part = Partition(machine.device, 16)

    def made(**options: Any) -> ResidentTracker:
        networks = machine.networks(1)
        networks.stream = part.stream()
        return ResidentTracker(networks, machine.bundle.spec, machine.bundle.settings, **options)

    return made


def test_a_part_of_a_card_has_the_number_that_the_card_makes_of_it(machine: ResidentMachine) -> None:
    assert [(p.multiprocessors, p.whole) for n in (1, 16, 17) for p in [Partition(machine.device, n)]] == [
        (8, 132),
        (16, 132),
        (24, 132),
    ]
    with pytest.raises(BackendError, match="Emulated GPU has 132 multiprocessors: a part of it has 1 to 131"):
        Partition(machine.device, 132)


def test_what_a_partition_made_is_given_back(machine: ResidentMachine) -> None:
    stream = Partition(machine.device, 16).stream()
    assert "cuGreenCtxDestroy" not in machine.emulator.calls
    del stream
    assert machine.emulator.calls[-2:] == ["cuStreamDestroy", "cuGreenCtxDestroy"]


def test_a_frame_is_captured_launched_and_waited_for_on_the_partition(machine: ResidentMachine, make: Make) -> None:
    made: list[ResidentTracker] = []
    machine.emulator.streams.clear()

    def kept(**options: Any) -> ResidentTracker:
        made.append(make(**options))
        return made[-1]

    found = partition.resident(machine.bundle, 2, "float32", kept, FAST)
    assert machine.emulator.streams == {tracker.networks.stream.handle for tracker in made}
    assert {"cuStreamBeginCapture", "cuGraphLaunch"} <= set(machine.emulator.calls)
    assert set(found["checks"].values()) == {True}, found
    assert found["least_possible_ms"] == pytest.approx(2.36, abs=0.1)
    assert found["graph"]["least_ms"] <= found["graph"]["p50_ms"] == pytest.approx(1e3 / found["frames_per_second"])


class Moved:
    """A tracker that captures, and then gives other boxes."""

    def __init__(self, tracker: ResidentTracker) -> None:
        self._tracker = tracker

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracker, name)

    def update(self, frame: Any) -> TrackResult:
        result = self._tracker.update(frame)
        return dataclasses.replace(result, box=(result.box[0] + 30, *result.box[1:]))


@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        ("another box", {"boxes", "scores", "captured as uncaptured"}),
        ("not captured", {"captured"}),
        ("not waited for", {"waited for"}),
        ("too fast", {"no faster than its arithmetic"}),
    ],
)
@pytest.mark.filterwarnings("ignore:CUDA graphs")
def test_what_goes_wrong_there_is_found(fault: str, failed: set[str], machine: ResidentMachine, make: Make) -> None:
    def faulty(*, graphs: bool) -> Any:
        tracker = make(graphs=graphs)
        if fault == "not waited for":
            machine.emulator.busy.add(tracker.networks.stream.handle)
        return Moved(tracker) if fault == "another box" and graphs else tracker

    if fault == "not captured":
        machine.emulator.uncapturable.add("cuLaunchKernel")
    found = partition.resident(machine.bundle, 2, "float32", faulty, 1e-5 if fault == "too fast" else FAST)
    assert {name for name, right in found["checks"].items() if not right} == failed


@pytest.mark.parametrize(("rate", "right"), [(6.1, True), (8.9, True), (9.2, False), (50.0, False), (0.0, False)])
def test_a_partition_is_no_faster_than_its_share(rate: float, right: bool) -> None:
    measured = {"partition": {"float32_tflops": rate}, "whole_card": {"float32_tflops": 50.0}}
    assert partition.is_confined({"multiprocessors": 16, "of": 132, **measured}) is right


def test_rates_are_those_of_products_and_of_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "SIDE", 64)
    monkeypatch.setattr(partition, "BYTES", 1 << 16)
    found = partition.rates(torch, "cpu", contextlib.nullcontext, lambda: None)
    assert set(found) == {"float32_tflops", "float16_tflops", "bfloat16_tflops", "copy_gbps"}
    assert all(0 < value < 1e4 for value in found.values())


def test_the_command_needs_pytorch_with_cuda(synthetic_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emulated_gpu(built_for_the_host(), monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "this PyTorch has no CUDA" in _error(synthetic_bundle, "--multiprocessors 16")
    assert "a part of it has 1 to 131" in _error(synthetic_bundle, "--multiprocessors 132")


def _error(bundle: Path, words: str) -> str:
    ran = spm_bench("gpu", bundle, words)
    assert ran.status == 1
    return ran.error
