"""Targets of different videos in one call."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from spm_rt import Bundle, FrameError, TargetError, Tracker
from spm_rt.results import Box
from spm_rt.trackers.batch import BatchTracker, cheapest

from ...support.exports import Frames

OPTIONS: dict[str, Any] = {"backend": "onnxruntime", "threads": 1}


@pytest.fixture(scope="module")
def videos(clip: Frames) -> list[Frames]:
    """Three videos of eight frames: one of another size, one of other pictures."""
    wide = [cv2.copyMakeBorder(frame, 0, 0, 0, 64, cv2.BORDER_REPLICATE) for frame in clip[:8]]
    return [clip[:8], wide, [255 - frame for frame in clip[8:16]]]


@pytest.mark.parametrize(("per_call", "tolerance"), [(1, 0.0), (2, 2e-3)])
def test_targets_in_frames_of_their_own_are_found_as_by_trackers_of_their_own(
    synthetic: Bundle, videos: list[Frames], clip_box: Box, per_call: int, tolerance: float
) -> None:
    alone = [Tracker.load(synthetic, **OPTIONS) for _ in videos]
    together = BatchTracker.load(synthetic, per_call=per_call, **OPTIONS)
    ids = [together.add(video[0], clip_box) for video in videos]
    for tracker, video in zip(alone, videos, strict=True):
        tracker.init(video[0], clip_box)
    place = [0, 0, 0]
    for turn in ([0], [0, 1, 2], [2, 1], [1], [0, 2], [2, 0, 1]):  # whoever has a frame
        place = [at + (k in turn) for k, at in enumerate(place)]
        found = together.update_each({ids[k]: videos[k][place[k]] for k in turn})
        for k in turn:
            wanted = alone[k].update(videos[k][place[k]])
            np.testing.assert_allclose(found[ids[k]].box, wanted.box, rtol=0, atol=tolerance)


def test_a_frame_of_another_size_and_an_unknown_target_change_nothing(
    synthetic: Bundle, videos: list[Frames], clip_box: Box
) -> None:
    tracker = BatchTracker.load(synthetic, **OPTIONS)
    small, wide = (tracker.add(video[0], clip_box) for video in videos[:2])
    before = tracker.box(small), tracker.box(wide)
    with pytest.raises(FrameError, match="the frame's size changed"):
        tracker.update_each({small: videos[0][1], wide: videos[0][1]})
    with pytest.raises(TargetError, match="no target 7"):
        tracker.update_each({small: videos[0][1], 7: videos[0][1]})
    assert (tracker.box(small), tracker.box(wide)) == before
    tracker.remove(wide)
    assert list(tracker.update(videos[0][1])) == [small]


def test_batch_sizes_are_timed_up_to_the_one_that_holds_all(synthetic: Bundle) -> None:
    tracker = BatchTracker.load(synthetic, **OPTIONS)
    assert tracker.measure(2).keys() == {1, 2}
    assert all(0 < seconds < 10 for seconds in tracker.seconds.values())
    assert BatchTracker.load(synthetic, **OPTIONS).measure(1).keys() == {1}


@pytest.mark.parametrize(
    ("count", "seconds", "sizes"),
    [
        (3, {1: 1.0, 2: 2.0, 4: 4.0}, [1, 1, 1]),  # nothing is gained
        (3, {1: 1.0, 2: 1.2, 4: 1.5}, [4]),
        (6, {1: 1.0, 2: 1.5, 4: 2.0}, [4, 2]),
        (2, {1: 1.0, 2: 1.95}, [1, 1]),  # within the noise
        (5, {1: 1.0, 4: 3.0}, [4, 1]),
        (0, {1: 1.0}, []),
    ],
)
def test_batches_are_those_that_take_the_least_time(count: int, seconds: dict[int, float], sizes: list[int]) -> None:
    assert cheapest(count, seconds) == sizes
