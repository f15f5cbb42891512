"""Several targets on an emulated GPU against trackers of one target each, there and on the host."""

from __future__ import annotations

import dataclasses
import gc
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np
import pytest

from spm_rt import BackendError, BoxError, Bundle, FrameError, MultiTracker, TargetError, TrackerSettings, TrackResult
from spm_rt.frame.switches import SwitchWatch
from spm_rt.gpu.driver import CudaError
from spm_rt.resident import ResidentTracker
from spm_rt.resident.frame_graph import FrameGraph
from spm_rt.resident.loading import open_networks
from spm_rt.results import Box

from ..support.emulator.driver import CUresult
from ..support.emulator.networks import ResidentMachine
from ..support.emulator.pictures import OnDevice
from ..support.fakes.watching import every_other
from ..support.follow import Frames, results_on

RIM = (0.0, 0.0, 50.0, 60.0)
"""In a corner: most of the search region lies outside the frame."""


def moved(box: Box, x: float, y: float) -> Box:
    return (box[0] + x, box[1] + y, box[2], box[3])


def check(results: dict[int, TrackResult], singles: dict[int, ResidentTracker], frame: Any) -> None:
    assert results == {id: single.update(frame) for id, single in singles.items()}


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "step by step"])
def test_three_targets_in_a_batch_of_four_are_three_trackers(
    graphs: bool, resident: ResidentMachine, clip: Frames, clip_box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, while one comes, one goes, one is moved, and one lies at the frame's rim."""
    monkeypatch.setattr(SwitchWatch, "see", every_other)
    settings = TrackerSettings(extent_correction=0.7 if graphs else 0, rival_memory=1)
    resident.bundle = Bundle.of(resident.bundle, settings)
    multi = resident.several(graphs=graphs)
    singles: dict[int, ResidentTracker] = {}

    def add(frame: Any, box: Box) -> int:
        id = multi.add(frame, box)
        singles[id] = resident.started(frame, box)
        return id

    first, _, rim = (add(clip[0], box) for box in (clip_box, moved(clip_box, 15, 8), RIM))
    for frame in clip[1:3]:
        check(multi.update(frame), singles, frame)
    assert [batch.size for batch in multi._batches] == [4]
    multi.remove(first)  # the others move up, into a batch of two
    del singles[first]
    for frame in clip[4:6]:
        check(multi.update(frame), singles, frame)
    assert [batch.size for batch in multi._batches] == [2]
    add(clip[6], moved(clip_box, -10, 5))
    multi.move_to(rim, moved(RIM, 4, 3))
    singles[rim].move_to(moved(RIM, 4, 3))
    for frame in clip[7:9]:
        check(multi.update(frame), singles, frame)
    assert multi.ids == tuple(singles)
    assert all(multi.box(id) == single.box for id, single in singles.items())
    assert multi.graphs == graphs


def test_more_targets_than_the_largest_batch_take_several(
    resident: ResidentMachine, clip: Frames, clip_box: Box
) -> None:
    multi = resident.several((1, 2))
    boxes = [moved(clip_box, 4 * k, -3 * k) for k in range(3)]
    singles = {multi.add(clip[0], box): resident.started(clip[0], box) for box in boxes}
    for frame in clip[1:3]:
        check(multi.update(frame), singles, frame)
    assert [batch.size for batch in multi._batches] == [2, 1]


def test_it_tracks_as_the_multi_tracker_on_the_host_does(
    resident: ResidentMachine, clip: Frames, clip_box: Box
) -> None:
    both = resident.several(), MultiTracker.load(resident.bundle, "onnxruntime")
    for tracker in both:
        for box in (clip_box, RIM, moved(clip_box, 12, -6)):
            tracker.add(clip[0], box)  # type: ignore[attr-defined]
    for frame in clip[1:4]:
        found, wanted = (tracker.update(frame) for tracker in both)  # type: ignore[attr-defined]
        assert found.keys() == wanted.keys()
        for id, result in found.items():
            np.testing.assert_allclose(result.box, wanted[id].box, atol=0.01)
            np.testing.assert_allclose(result.score, wanted[id].score, atol=1e-4)
            assert result.found == wanted[id].found


def test_a_frame_is_one_launch_and_one_copy_for_all(resident: ResidentMachine, clip: Frames, clip_box: Box) -> None:
    single, several = resident.started(clip[0], clip_box), resident.several()
    for k in range(3):
        several.add(clip[0], moved(clip_box, k, 0))
    on_a_stream = ["cuEventCreate", "cuEventRecord", "cuStreamWaitEvent", "cuEventDestroy"]
    for tracker in (single, several):
        resident.emulator.calls.clear()
        tracker.update(clip[1])
        assert resident.emulator.calls.count("cuMemcpyDtoHAsync") == 2  # one of the usual frame, one recorded
        resident.emulator.calls.clear()
        tracker.update(OnDevice(clip[2]))
        launch = ["cuMemcpyDtoDAsync", "cuGraphLaunch", "cuStreamSynchronize"]
        assert resident.emulator.calls == [*on_a_stream, *launch]


def test_what_lies_in_empty_slots_disturbs_nobody(resident: ResidentMachine, clip: Frames, clip_box: Box) -> None:
    multi = resident.several((1, 4))
    singles = {multi.add(clip[0], box): resident.started(clip[0], box) for box in (clip_box, RIM)}
    (four,) = (networks for networks in resident.made if networks.targets == 4)
    for frame in clip[1:3]:
        four.arrays["crop"][2:] = np.nan
        four.arrays["proposals"][2:] = np.inf
        check(multi.update(frame), singles, frame)
    assert (four.arrays["proposals"][2:] == 0).all()
    assert np.isnan(four.arrays["crop"][2:]).all()  # not even written to


def test_all_gone_and_another_size(resident: ResidentMachine, clip: Frames, clip_box: Box) -> None:
    multi = resident.several()
    assert multi.update(clip[0]) == {}
    ids = [multi.add(clip[0], clip_box), multi.add(clip[0], RIM)]
    multi.update(clip[1])
    smaller = [np.ascontiguousarray(frame[:-20]) for frame in clip[:4]]
    with pytest.raises(FrameError, match=r"shape changed from .*; remove all targets before"):
        multi.update(smaller[1])
    with pytest.raises(FrameError, match="remove all targets before"):
        multi.add(smaller[0], clip_box)
    for id in ids:
        multi.remove(id)
    assert multi.update(smaller[1]) == {}
    singles = {multi.add(smaller[0], box): resident.started(smaller[0], box) for box in (clip_box, RIM)}
    for frame in smaller[1:]:
        check(multi.update(frame), singles, frame)
    assert set(singles) == {2, 3}


def test_a_sibling_is_another_tracker(resident: ResidentMachine, clip: Frames, clip_box: Box) -> None:
    multi = resident.several()
    multi.add(clip[0], RIM)
    other = multi.sibling()
    assert len(other) == 0
    singles = {other.add(clip[0], clip_box): resident.started(clip[0], clip_box)}
    for frame in clip[1:3]:
        check(other.update(frame), singles, frame)
        multi.update(frame)


# Failures.


def test_who_is_refused_leaves_the_others_alone(resident: ResidentMachine, clip: Frames, clip_box: Box) -> None:
    multi = resident.several()
    singles = {multi.add(clip[0], clip_box): resident.started(clip[0], clip_box)}
    check(multi.update(clip[1]), singles, clip[1])
    with pytest.raises(BoxError):
        multi.add(clip[1], (5, 5, 0, 9))
    with pytest.raises(FrameError, match="uint8"):
        multi.add(clip[1].astype(np.float32), clip_box)
    with pytest.raises(TargetError, match="there is no target 7"):
        multi.remove(7)
    resident.emulator.fail("cuMemAlloc", CUresult.CUDA_ERROR_OUT_OF_MEMORY, after=3)  # while the batch of two is made
    with pytest.raises(CudaError, match="memory is full: fewer targets"):
        multi.add(clip[1], RIM)
    assert multi.ids == (0,)
    check(multi.update(clip[2]), singles, clip[2])
    singles[multi.add(clip[2], RIM)] = resident.started(clip[2], RIM)  # there is room again
    check(multi.update(clip[3]), singles, clip[3])


def test_a_frame_that_fails_changes_nothing(resident: ResidentMachine, clip: Frames, clip_box: Box) -> None:
    multi = resident.several((1, 2))
    boxes = [moved(clip_box, 4 * k, -3 * k) for k in range(3)]
    singles = {multi.add(clip[0], box): resident.started(clip[0], box) for box in boxes}
    check(multi.update(clip[1]), singles, clip[1])
    before = [multi.box(id) for id in multi.ids]
    resident.emulator.fail("cuStreamSynchronize", CUresult.CUDA_ERROR_ILLEGAL_ADDRESS, after=1)  # the second batch's
    with pytest.raises(BackendError, match="illegal address"):
        multi.update(clip[2])
    assert [multi.box(id) for id in multi.ids] == before
    check(multi.update(clip[2]), singles, clip[2])


@pytest.mark.parametrize("name", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphLaunch"])
def test_a_failed_capture_is_done_without(name: str, resident: ResidentMachine, clip: Frames, clip_box: Box) -> None:
    single, several = resident.started(clip[0], clip_box), resident.several()
    usual = {box: results_on(resident.tracker(graphs=False), clip[:4], box) for box in (clip_box, RIM)}
    ids = [several.add(clip[0], box) for box in usual]
    for tracker, wanted in (
        (single, usual[clip_box]),
        (several, [dict(zip(ids, results, strict=True)) for results in zip(*usual.values(), strict=True)]),
    ):
        resident.emulator.fail(name, CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
        with pytest.warns(RuntimeWarning, match=f"CUDA graphs are not used: {name} failed"):
            first = tracker.update(clip[1])
        assert [first, *(tracker.update(frame) for frame in clip[2:4])] == wanted
        assert not tracker.graphs


def test_other_numbers_of_proposals_are_refused(resident: ResidentMachine) -> None:
    other = dataclasses.replace(resident.bundle.settings, num_candidates=12)
    with pytest.raises(BackendError, match="ask for 12 proposals; these networks are for 9"):
        FrameGraph(resident.networks(1), resident.bundle.spec, other)


def test_memory_is_given_back(resident: ResidentMachine, clip: Frames, clip_box: Box) -> None:
    gc.collect()
    before = len(resident.emulator.blocks)
    multi = resident.several()
    for k in range(3):
        multi.add(clip[0], moved(clip_box, k, 0))
    multi.update(clip[1])
    assert len(resident.emulator.blocks) > before
    resident.made.clear()
    del multi
    gc.collect()
    assert len(resident.emulator.blocks) == before


@pytest.mark.parametrize(
    ("backend", "options", "message"),
    [
        ("onnxruntime", {}, "'onnxruntime' cannot keep frames on the GPU; pytorch, tensorrt, tensorrt-rtx can"),
        ("tensorrt", {"precision": "float16"}, "an engine's precision is its bundle's"),
    ],
)
def test_backends_that_cannot_are_named(
    backend: str, options: dict[str, str], message: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: ModuleSpec(name, None))  # as if all were installed
    with pytest.raises(BackendError, match=message):
        open_networks(bundle, backend, "cuda", **options)
