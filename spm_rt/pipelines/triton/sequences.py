"""A tracker for each sequence of frames, until it ends or nobody has asked for a while."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import FrameError, NotInitializedError, SpmError
from ...media.pictures import decode_picture
from ...results import Box
from ...trackers.batch import BatchTracker


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request for one frame of one sequence.

    Attributes:
        sequence: which one.
        frame: ``[height, width, 3]`` uint8, BGR; or None.
        encoded: the same as the bytes of a picture file, ``[n]`` uint8; or None.
        box: where the target is in this frame: ``x, y, width, height``. The first frame needs it, later ones may have
            it: the target is followed anew from there.
        start: whether it is the first one.
        end: whether it is the last one.
    """

    sequence: Hashable
    frame: NDArray[np.uint8] | None = None
    encoded: NDArray[np.uint8] | None = None
    box: Sequence[float] | None = None
    start: bool = False
    end: bool = False


@dataclasses.dataclass(frozen=True)
class Answer:
    """Where the target is: the box, the fused score (1 where the box was given), and whether it is believed in."""

    box: Box
    score: float
    found: bool


class Sequences:
    """Trackers by sequence. May be asked by several threads.

    Args:
        tracker: gets the targets.
        idle: seconds after which a sequence that nobody asks for is forgotten; checked whenever somebody asks, and by
            :meth:`expire`.
        most_pixels: larger frames are refused.
        most: number of sequences beyond which those are forgotten that were not asked for longest, however long that
            is: a busy server ends sequences, and begins others, faster than it gets to the clock.
        now: the clock.
    """

    def __init__(
        self, tracker: BatchTracker, idle: float, most_pixels: int, most: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._tracker, self._idle, self._most_pixels, self._most, self._now = tracker, idle, most_pixels, most, now
        self._targets: dict[Hashable, int] = {}
        self._seen: dict[Hashable, float] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._targets)

    def answer(self, asked: Sequence[Asked]) -> list[Answer | SpmError]:
        """Answer requests of different sequences; what cannot be answered is an error and leaves its sequence as it
        was.
        """
        with self._lock:
            self._expire()
            answers: dict[int, Answer | SpmError] = {}
            frames: dict[int, tuple[int, Any]] = {}
            for number, one in enumerate(asked):
                try:
                    frame, target = self._frame(one), self._targets.get(one.sequence)
                    if one.box is not None:
                        answers[number] = self._begin(one, frame, one.box)
                    elif one.start or target is None:
                        raise NotInitializedError(
                            f"sequence {one.sequence} has no target: its first frame needs BOX (x, y, width, height)"
                        )
                    else:
                        frames[number] = target, frame
                except SpmError as error:
                    answers[number] = error
            answers.update(self._update(frames))
            for one in asked:
                if one.end:
                    self._forget(one.sequence)
                elif one.sequence in self._targets:
                    self._seen[one.sequence] = self._now()
            for sequence in sorted(self._seen, key=self._seen.__getitem__)[: -self._most]:
                self._forget(sequence)
            return [answers[number] for number in range(len(asked))]

    def expire(self) -> None:
        """Forget sequences that nobody has asked for."""
        with self._lock:
            self._expire()

    def close(self) -> None:
        """Forget all, and close the tracker."""
        with self._lock:
            self._targets.clear()
            self._seen.clear()
            self._tracker.close()

    def _frame(self, asked: Asked) -> NDArray[np.uint8]:
        if (asked.frame is None) == (asked.encoded is None):
            raise FrameError(
                "a request has FRAME (height, width, 3: BGR) or JPEG (the bytes of a file), one of the two"
            )
        frame = asked.frame
        if frame is None:
            assert asked.encoded is not None
            frame = decode_picture(np.ascontiguousarray(asked.encoded), "JPEG")
        if frame.shape[0] * frame.shape[1] > self._most_pixels:
            raise FrameError(
                f"the frame has {frame.shape[1]} x {frame.shape[0]} pixels; this server takes {self._most_pixels:,}"
            )
        return frame

    def _begin(self, asked: Asked, frame: NDArray[np.uint8], box: Sequence[float]) -> Answer:
        """Follow a target; the sequence's older one, if there is one, ends once the new one is accepted."""
        target = self._tracker.add(frame, box)
        self._forget(asked.sequence)
        self._targets[asked.sequence] = target
        x, y, width, height = (float(v) for v in box)
        return Answer((x, y, width, height), 1.0, True)

    def _update(self, frames: dict[int, tuple[int, Any]]) -> dict[int, Answer | SpmError]:
        """All together; where one frame cannot be used, each by itself."""
        try:
            results = self._tracker.update_each(dict(frames.values()))
        except SpmError as error:
            if len(frames) == 1:
                return dict.fromkeys(frames, error)
            alone = [self._update({number: one}) for number, one in frames.items()]
            return {number: answer for answers in alone for number, answer in answers.items()}
        found = {number: results[target] for number, (target, _) in frames.items()}
        return {number: Answer(one.box, one.score, one.found) for number, one in found.items()}

    def _expire(self) -> None:
        limit = self._now() - self._idle
        for sequence in [sequence for sequence, seen in self._seen.items() if seen < limit]:
            self._forget(sequence)

    def _forget(self, sequence: Hashable) -> None:
        self._seen.pop(sequence, None)
        target = self._targets.pop(sequence, None)
        if target is not None:
            self._tracker.remove(target)
