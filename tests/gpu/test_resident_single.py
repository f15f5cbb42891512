"""The resident tracker on an emulated GPU against the tracker on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spm_rt import BackendError, BoxError, FrameError, NotInitializedError, Tracker, TrackerSettings
from spm_rt.frame.switches import SwitchWatch
from spm_rt.gpu.driver import CudaError
from spm_rt.results import Box

from ..support.emulator.driver import CUresult
from ..support.emulator.networks import ResidentMachine
from ..support.emulator.pictures import OnDevice
from ..support.fakes.watching import every_other
from ..support.follow import Frames, follow, results_on


@pytest.mark.parametrize(
    ("mode", "share"), [("series-parallel", 0), ("series-parallel", 0.7), ("series", 0), ("coarse", 1)]
)
def test_it_tracks_as_the_tracker_on_the_host_does(
    mode: str, share: float, resident: ResidentMachine, clip: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    rivals: list[NDArray[np.floating]] = []

    def see(watch: SwitchWatch, box: NDArray[np.float64], seen: NDArray[np.floating], memory: int) -> bool:
        rivals.append(np.array(seen))
        return every_other(watch, box, seen, memory)

    monkeypatch.setattr(SwitchWatch, "see", see)
    settings = TrackerSettings(mode=mode, extent_correction=share, rival_memory=1, update_threshold=0.0)
    wanted = results_on(Tracker.load(resident.bundle, "onnxruntime", settings=settings), clip[:5])
    tracker = resident.tracker(settings)
    found = results_on(tracker, clip[:5])
    assert [result.switched for result in found] == [result.switched for result in wanted] == [False, True] * 2
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.box, other.box, atol=0.01)
        for name in ("score", "coarse_score", "fine_score"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-4)
    for one, other in zip(rivals[:4], rivals[4:], strict=True):
        np.testing.assert_allclose(one, other, atol=0.01)
    assert any(map(len, rivals))
    assert tracker.graphs
    assert resident.emulator.calls.count("cuGraphLaunch") == 4  # once to compare, then one per frame


@pytest.mark.parametrize("kind", ["host", "device", "view"])
def test_frames_may_lie_anywhere(kind: str, resident: ResidentMachine, clip: Frames) -> None:
    def given(picture: NDArray[np.uint8]) -> Any:
        if kind == "view":
            wide = np.zeros((picture.shape[0], picture.shape[1] + 7, 3), np.uint8)
            wide[:, 4:-3] = picture
            return OnDevice(wide[:, 4:-3])
        return OnDevice(np.ascontiguousarray(picture)) if kind == "device" else picture[:, ::-1][:, ::-1]

    wanted = follow(resident.tracker(), list(clip[:3]))
    np.testing.assert_array_equal(follow(resident.tracker(), [given(f) for f in clip[:3]]), wanted)


def test_frames_of_another_shape_want_a_new_start(resident: ResidentMachine, clip: Frames) -> None:
    tracker = resident.tracker()
    with pytest.raises(NotInitializedError):
        tracker.update(clip[0])
    follow(tracker, clip[:3])
    with pytest.raises(FrameError, match="shape changed from"):
        tracker.update(clip[1][:-1])
    smaller = [np.ascontiguousarray(frame[:-20]) for frame in clip[:3]]
    wanted = follow(resident.tracker(), smaller)
    np.testing.assert_array_equal(follow(tracker, smaller), wanted)


def test_a_box_put_elsewhere_is_where_the_next_frame_looks(
    resident: ResidentMachine, clip: Frames, clip_box: Box
) -> None:
    tracker, plain = resident.tracker(), Tracker.load(resident.bundle, "onnxruntime")
    with pytest.raises(NotInitializedError):
        tracker.move_to(clip_box)
    for follower in (tracker, plain):
        follow(follower, clip[:3])
        follower.move_to((clip_box[0] + 9, clip_box[1] - 5, 70.0, 50.0))
        assert follower.box == pytest.approx((clip_box[0] + 9, clip_box[1] - 5, 70.0, 50.0))
    np.testing.assert_allclose(tracker.update(clip[3]).box, plain.update(clip[3]).box, atol=0.01)
    with pytest.raises(BoxError):
        tracker.move_to((0, 0, -1, 5))


# Failures.


def test_a_capture_that_computes_something_else_is_done_without(
    resident: ResidentMachine, clip: Frames, clip_box: Box
) -> None:
    wanted = follow(resident.tracker(graphs=False), clip[:4])
    tracker = resident.tracker()
    resident.made[-1].spoil = 0.01
    tracker.init(clip[0], clip_box)
    with pytest.warns(
        RuntimeWarning, match="captured box, score, fine_score, rival_score differ from those of the usual run"
    ):
        found = [tracker.update(frame).box for frame in clip[1:4]]
    np.testing.assert_array_equal(found, wanted[:, :4])


def test_a_full_gpu_is_named_and_leaves_nothing(resident: ResidentMachine, clip: Frames, clip_box: Box) -> None:
    tracker = resident.tracker()
    resident.emulator.fail("cuMemAlloc", CUresult.CUDA_ERROR_OUT_OF_MEMORY)
    with pytest.raises(CudaError, match="memory is full"):
        tracker.init(clip[0], clip_box)
    follow(tracker, clip[:3])  # and works when there is room again


def test_a_frame_that_fails_is_an_error(resident: ResidentMachine, clip: Frames) -> None:
    tracker = resident.tracker()
    follow(tracker, clip[:3])
    resident.emulator.fail("cuStreamSynchronize", CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)
    with pytest.raises(BackendError, match="illegal address"):
        tracker.update(clip[3])
