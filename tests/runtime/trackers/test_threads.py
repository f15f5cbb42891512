"""One tracker, one thread; many trackers, many threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_rt import ThreadError, Tracker, TrackResult
from spm_rt.results import Box

from ...support.fakes.backend import another_thread_inside, bright_frame, bright_multi_tracker, bright_tracker
from ...support.follow import Frames, results_on

FRAME = bright_frame(80, 60)
BOX = (68.0, 48.0, 24.0, 24.0)
FRAMES = 10


USES: dict[str, list[Callable[[Any], object]]] = {
    "one target": [
        lambda t: t.update(FRAME),
        lambda t: t.init(FRAME, BOX),
        lambda t: t.move_to(BOX),
        lambda t: t.restore((0, 0, 9, 9)),
    ],
    "several": [
        lambda t: t.update(FRAME),
        lambda t: t.add(FRAME, BOX),
        lambda t: t.remove(0),
        lambda t: t.move_to(0, BOX),
        lambda t: t.restore(0, (0, 0, 9, 9)),
    ],
}


@pytest.mark.parametrize("targets", USES)
def test_a_second_thread_is_refused(targets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker: Any = bright_tracker() if targets == "one target" else bright_multi_tracker()
    (tracker.init if targets == "one target" else tracker.add)(FRAME, BOX)
    with another_thread_inside(tracker, FRAME, monkeypatch):
        for use in USES[targets]:
            with pytest.raises(ThreadError, match="one tracker per thread"):
                use(tracker)


def test_a_tracker_may_move_from_thread_to_thread() -> None:
    tracker = bright_tracker()
    for step in (lambda: tracker.init(FRAME, BOX), lambda: tracker.update(FRAME), lambda: tracker.update(FRAME)):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(step).result(60)
    assert tracker.update(FRAME).found


def follow_at_once(trackers: list[Tracker], works: list[tuple[Frames, Box]]) -> list[list[TrackResult]]:
    """Threads that start each frame together."""
    meet = threading.Barrier(len(trackers))
    with ThreadPoolExecutor(len(trackers)) as pool:
        futures = [
            pool.submit(results_on, tracker, *work, before=lambda: meet.wait(120), candidates=True)
            for tracker, work in zip(trackers, works, strict=True)
        ]
        return [future.result(300) for future in futures]


@pytest.fixture(scope="module")
def works(clip: Frames, clip_box: Box) -> list[tuple[Frames, Box]]:
    """Different things to do for each thread: forwards, and mirrored."""
    frames = clip[:FRAMES]
    x, y, width, height = clip_box
    mirrored = [np.ascontiguousarray(frame[:, ::-1]) for frame in frames]
    return [(frames, clip_box), (mirrored, (frames[0].shape[1] - 1 - x - width, y, width, height))]


@pytest.mark.parametrize("shared", [True, False], ids=["one backend", "a backend each"])
def test_trackers_in_two_threads_never_mix(shared: bool, default_bundle: Path, works: list[tuple[Frames, Box]]) -> None:
    first = Tracker.load(default_bundle, "onnxruntime", threads=1)
    second = first.sibling() if shared else Tracker.load(default_bundle, "onnxruntime", threads=1)
    alone = [results_on(tracker, *work, candidates=True) for tracker, work in zip((first, second), works, strict=True)]
    assert follow_at_once([first, second], works) == alone
    assert alone[0] != alone[1]
