"""Timing trackers side by side: who runs when, what is counted, and what is made of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spm_rt.backends.protocol import Backend
from spm_rt.frame.geometry import iou, xywh_to_xyxy
from spm_rt.results import Box, TrackResult
from spm_rt.terminal import Progress
from spm_rt.trackers.checks import no_clock

from .gemm import quartile_spread

Frame = NDArray[np.uint8]
FRAME_STEPS = ("crop", "search", "proposals", "relation", "fusion", "rest")
HOST_STEPS = ("crop", "proposals", "fusion", "rest")
"""Those that run no graph."""
UNCOUNTED = 3
"""Frames at the start of each turn that are not counted: caches and threads are the previous backend's until then."""
WARM_UP = 5


class TimedTracker(Protocol):
    """What can take part: a tracker, or something that follows several targets and is started and called like one."""

    @property
    def backend(self) -> Backend:
        """What it runs on."""

    def init(self, frame: Frame, box: Box) -> None:
        """Start anew."""

    def update(self, frame: Frame, *, clock: Callable[[str], None]) -> TrackResult:
        """The next frame."""


@dataclasses.dataclass
class Contestant:
    """One tracker on its way through a clip, over and over, with what was measured. Times in seconds."""

    name: str
    tracker: TimedTracker
    frames: Sequence[Frame]
    box: Box
    load: float
    start_up: float
    first: float
    position: int = 1
    times: list[float] = dataclasses.field(default_factory=list)
    stages: list[dict[str, float]] = dataclasses.field(default_factory=list)
    turns: list[float] = dataclasses.field(default_factory=list)
    boxes: list[Box] = dataclasses.field(default_factory=list)

    @classmethod
    def start(cls, name: str, load: Callable[[], TimedTracker], frames: Sequence[Frame], box: Box) -> Contestant:
        """Load, take the template, and track the first frame, each timed by itself; then warm up."""
        times = [time.perf_counter()]
        tracker = load()
        times.append(time.perf_counter())
        tracker.init(frames[0], box)
        times.append(time.perf_counter())
        tracker.update(frames[1], clock=no_clock)
        times.append(time.perf_counter())
        load_time, start_up, first = (float(t) for t in np.diff(times))
        contestant = cls(name, tracker, frames, box, load_time, start_up, first)
        contestant.start_over()
        for _ in range(WARM_UP):
            contestant.step(counted=False)
        contestant.start_over()
        return contestant

    def start_over(self) -> None:
        """Back to the clip's first frame."""
        self.tracker.init(self.frames[0], self.box)
        self.position = 1

    def step(self, counted: bool) -> None:
        """Track the next frame; at the clip's end, start again (that is not counted)."""
        if self.position == len(self.frames):
            self.start_over()
        ends: dict[str, float] = {}

        def clock(stage: str) -> None:
            ends[stage] = time.perf_counter()

        frame = self.frames[self.position]
        begin = time.perf_counter()
        result = self.tracker.update(frame, clock=clock)
        end = time.perf_counter()
        self.position += 1
        if not counted:
            return
        marks = [begin, *ends.values(), end]
        self.times.append(end - begin)
        self.stages.append(dict(zip((*ends, "rest"), np.diff(marks).tolist(), strict=True)))
        self.boxes.append(result.box)


def interleave(
    contestants: Sequence[Contestant],
    frames: int,
    block: int,
    pause: float,
    *,
    pace: float = 0.0,
    quiet: bool = False,
    between: Callable[[int], None] | None = None,
) -> None:
    """Let the contestants take turns until each has ``frames`` counted frames.

    A turn is ``UNCOUNTED`` frames that are not counted and ``block`` that are; ``pause`` seconds lie between turns, in
    which the last library's threads stop spinning. The order is reversed from round to round, so that a drift of the
    machine's speed hits all alike. ``between`` is called before each round, with the number of frames done. With a
    ``pace``, in frames per second, a frame begins when a camera would give it, and the time before it is not counted.
    """
    bar = Progress("measuring", frames * len(contestants), quiet=quiet)
    done, round_number = 0, 0
    while done < frames:
        size = min(block, frames - done)
        order = list(contestants) if round_number % 2 == 0 else list(reversed(contestants))
        if between is not None:
            between(done)
        for contestant in order:
            if len(contestants) > 1 or between is not None:
                time.sleep(pause)
            begin = time.perf_counter()
            for number in range(UNCOUNTED + size):
                if pace:
                    time.sleep(max(0.0, begin + number / pace - time.perf_counter()))
                contestant.step(counted=number >= UNCOUNTED)
                if number >= UNCOUNTED:
                    bar.step()
            contestant.turns.append(float(np.median(contestant.times[-size:])))
        done, round_number = done + size, round_number + 1
    bar.close()


def summarize(contestants: Sequence[Contestant]) -> dict[str, dict[str, Any]]:
    """Figures per contestant; the first one is the reference. Times in milliseconds."""
    reference = contestants[0]
    base = float(np.median(reference.times))
    results = {}
    for contestant in contestants:
        times = np.array(contestant.times) * 1e3
        p50, p90, p99 = (float(v) for v in np.percentile(times, [50, 90, 99]))
        by_turn = np.array(reference.turns) / np.array(contestant.turns)
        own, expected = (np.array([xywh_to_xyxy(box) for box in each.boxes]) for each in (contestant, reference))
        host = [sum(s.get(stage, 0.0) for stage in HOST_STEPS) * 1e3 for s in contestant.stages]
        results[contestant.name] = {
            "fps": 1e3 / float(times.mean()),
            "p50_ms": p50,
            "p90_ms": p90,
            "p99_ms": p99,
            "mean_ms": float(times.mean()),
            "p99_over_p50": p99 / p50,
            "ratio": base / (p50 / 1e3),
            "ratio_spread": [float(v) for v in np.percentile(by_turn, [25, 75])],
            "stages_ms": {
                stage: float(np.median([s.get(stage, 0.0) for s in contestant.stages])) * 1e3 for stage in FRAME_STEPS
            },
            "host_ms": float(np.median(host)),
            "frames": len(times),
            "load_ms": contestant.load * 1e3,
            "init_ms": contestant.start_up * 1e3,
            "first_frame_ms": contestant.first * 1e3,
            "turn_spread": turn_spread(contestant),
            "same_boxes_iou": float(iou(own, expected).mean()),
            "description": contestant.tracker.backend.description,
        }
    return results


def turn_spread(contestant: Contestant) -> float:
    """Distance of the quartiles of the turns' medians over their median."""
    return quartile_spread(contestant.turns)
