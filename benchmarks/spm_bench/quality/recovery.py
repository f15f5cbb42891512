"""What becomes of a target that was lost on purpose: whether it is found again, when, and what is claimed meanwhile."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_rt.results import FOUND_AGAIN, TRACKED, Box
from spm_rt.trackers.single import Tracker

from .challenges import KINDS, LEAD, Challenge
from .metrics import overlap

WITHIN = 15
"""Frames in which a target should be found again, from the first one in which it can be seen."""
SAME = 0.5
"""Overlap from which on a box is the target's."""
WRONG = 0.2
"""Overlap under which it is not."""


@dataclasses.dataclass(frozen=True)
class Course:
    """A tracker's way through a challenge, all frames but the first.

    Attributes:
        challenge: what it was given.
        overlaps: with the true box, 0 where the target cannot be seen.
        states: as the tracker said.
        scores: likewise.
    """

    challenge: Challenge
    overlaps: NDArray[np.float64]
    states: tuple[str, ...]
    scores: NDArray[np.float64]

    @property
    def started(self) -> bool:
        """Whether the target was followed until it was lost on purpose."""
        return bool(self.overlaps[LEAD - 2] >= SAME)

    @property
    def sure(self) -> NDArray[np.bool_]:
        """Where the tracker says that the box is the target's."""
        return np.array([state in (TRACKED, FOUND_AGAIN) for state in self.states], np.bool_)

    @property
    def frames_needed(self) -> int | None:
        """Frames until it is found again, and said to be: 1 in the first one that shows it; None if that never is."""
        back = (self.sure & (self.overlaps >= SAME))[self.challenge.again - 1 :]
        return int(back.argmax()) + 1 if back.any() else None

    @property
    def claims(self) -> list[bool]:
        """For each time at which the state became sure again: whether the target was there."""
        after = slice(LEAD - 1, None)
        rises = np.flatnonzero(self.sure[after][1:] & ~self.sure[after][:-1]) + LEAD
        return [bool(self.overlaps[k] >= WRONG) for k in rises]

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Of the frames after the loss, those in which it is sure and wrong."""
        found: NDArray[np.bool_] = (self.sure & (self.overlaps < WRONG))[LEAD - 1 :]
        return found

    def row(self) -> dict[str, Any]:
        """What became of it, as a row of a table."""
        return {
            "clip": self.challenge.clip,
            "kind": self.challenge.kind,
            "followed_until_lost": int(self.started),
            "frames_needed": self.frames_needed,
            "times_sure_again": len(self.claims),
            "times_wrong": self.claims.count(False),
            "frames_sure_and_wrong": int(self.wrong.sum()),
            "frames_after_loss": len(self.wrong),
        }


def follow(tracker: Tracker, challenge: Challenge) -> Course:
    """Track a challenge from its first true box on."""
    boxes: list[Box] = []
    states, scores = [], []
    for index in range(len(challenge.boxes)):
        frame = challenge.read(index)
        if index == 0:
            tracker.init(frame, challenge.first_box)
            continue
        result = tracker.update(frame)
        boxes.append(result.box)
        states.append(result.state)
        scores.append(result.score)
    overlaps = overlap(np.array(boxes, np.float64), challenge.boxes[1:])
    return Course(challenge, overlaps, tuple(states), np.array(scores))


def figures(courses: Iterable[Course]) -> dict[str, Any]:
    """Figures of challenges whose target was followed until it was lost, as JSON types. Shares are None of nothing.

    ``found_again``: share found again within ``WITHIN`` frames; ``median_frames`` of those; ``false_claims``: share of
    the times at which the tracker became sure again that were wrong; ``false_frames``: share of the frames after the
    loss in which it was sure and wrong.
    """
    everything = list(courses)
    started = [course for course in everything if course.started]
    needed = [course.frames_needed for course in started]
    in_time = [frames for frames in needed if frames is not None and frames <= WITHIN]
    claims = [claim for course in started for claim in course.claims]
    wrong = [course.wrong for course in started]
    frames = sum(map(len, wrong))
    return {
        "challenges": len(started),
        "lost_before": len(everything) - len(started),
        "found_again": len(in_time) / len(started) if started else None,
        "median_frames": float(np.median(in_time)) if in_time else None,
        "claims": len(claims),
        "false_claims": 1 - sum(claims) / len(claims) if claims else None,
        "false_frames": float(sum(w.sum() for w in wrong)) / frames if frames else None,
    }


def figures_by_kind(courses: Sequence[Course]) -> dict[str, dict[str, Any]]:
    """:func:`figures` of each kind of challenge, and of all."""
    kinds = {kind: [course for course in courses if course.challenge.kind == kind] for kind in KINDS}
    return {name: figures(some) for name, some in {**kinds, "all": courses}.items()}


def cost(first: Tracker, second: Tracker, given: Iterable[Challenge]) -> dict[str, float | None]:
    """What a frame of the second tracker takes, in that of the first, while both track: frame by frame in turns.

    Args:
        first, second: they are started anew here.
        given: the frames before the loss are taken, back and forth.

    Returns:
        ``ratio`` of the summed times of frames in which both say *tracked*; ``lower`` and ``upper`` quartiles of the
        clips' own ratios; ``frames``.
    """
    total, ratios, frames = np.zeros(2), list[float](), 0
    for challenge in given:
        pictures = [challenge.read(index) for index in range(LEAD)]
        for tracker in (first, second):
            tracker.init(pictures[0], challenge.first_box)
        clip = np.zeros(2)
        for index, picture in enumerate([*pictures[1:], *pictures[-2::-1]]):
            times, states = np.zeros(2), set[str]()
            for place in (0, 1) if index % 2 else (1, 0):
                begin = time.perf_counter()
                states.add((first, second)[place].update(picture).state)
                times[place] = time.perf_counter() - begin
            if states == {TRACKED}:
                clip += times
                frames += 1
        if clip[0]:
            total += clip
            ratios.append(float(clip[1] / clip[0]))
    low, high = (float(v) for v in np.percentile(ratios, [25, 75])) if ratios else (None, None)
    return {"ratio": float(total[1] / total[0]) if frames else None, "lower": low, "upper": high, "frames": frames}
