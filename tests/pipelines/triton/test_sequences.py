"""A tracker for each sequence: begun, advanced, corrected, ended, forgotten; without Triton."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from spm_rt import TrackerSettings
from spm_rt.pipelines.triton.sequences import Answer, Asked, Sequences
from spm_rt.pipelines.triton.tensors import _held, array_of, capsule
from spm_rt.trackers.batch import BatchTracker

from ...support.fakes.backend import SPEC, BrightBackend, bright_tracker, moving_disc

BOX = (60.0, 40.0, 40.0, 40.0)
FRAMES = moving_disc(5)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sequences(clock: Clock) -> Sequences:
    made: dict[int, BrightBackend] = {}
    tracker = BatchTracker(
        lambda count: made.setdefault(count, BrightBackend(count)), (1, 2, 4), SPEC, TrackerSettings()
    )
    return Sequences(tracker, 10.0, 100_000, 6, clock)


def ask(sequences: Sequences, *asked: Asked) -> list[Any]:
    """Boxes, or the texts of errors."""
    return [answer.box if isinstance(answer, Answer) else str(answer) for answer in sequences.answer(asked)]


def first(sequence: object, frame: NDArray[np.uint8] = FRAMES[0], **more: Any) -> Asked:
    return Asked(sequence, frame, box=BOX, start=True, **more)


def expected(frames: list[NDArray[np.uint8]]) -> list[tuple[float, ...]]:
    tracker = bright_tracker()
    tracker.init(frames[0], BOX)
    return [BOX, *(tracker.update(frame).box for frame in frames[1:])]


def test_sequences_of_one_execution_do_not_touch_each_other(sequences: Sequences) -> None:
    ways = {"a": FRAMES, "b": FRAMES[1:], "c": FRAMES[::-1]}
    begun = ask(sequences, *(first(name, frames[0]) for name, frames in ways.items()))
    got = [begun, *(ask(sequences, *(Asked(name, way[k]) for name, way in ways.items())) for k in range(1, 4))]
    assert [list(way) for way in zip(*got, strict=True)] == [expected(way[:4]) for way in ways.values()]


def test_pictures_in_files_are_taken_too(sequences: Sequences) -> None:
    encoded = [np.frombuffer(cv2.imencode(".png", frame)[1], np.uint8) for frame in FRAMES]
    got = ask(sequences, Asked("a", encoded=encoded[0], box=BOX, start=True))
    assert got + [ask(sequences, Asked("a", encoded=one))[0] for one in encoded[1:]] == expected(FRAMES)


BAD = {
    "not a readable picture": Asked("a", encoded=np.arange(90, dtype=np.uint8)),
    "one of the two": Asked("a"),
    "one of the two ": Asked("a", FRAMES[1], np.zeros(9, np.uint8)),
    "size changed": Asked("a", FRAMES[1][:-1]),
    "this server takes 100,000": Asked("a", np.zeros((400, 300, 3), np.uint8)),
    "wholly outside": Asked("a", FRAMES[1], box=(900, 900, 9, 9)),
    "has no target": Asked("new", FRAMES[1]),
    "has no target: its first frame needs BOX": Asked("a", FRAMES[1], start=True),
}


@pytest.mark.parametrize("words", BAD)
def test_what_is_wrong_with_one_is_its_own_error_and_changes_nothing(sequences: Sequences, words: str) -> None:
    ask(sequences, first("a"), first("b"))
    one, other = ask(sequences, BAD[words], Asked("b", FRAMES[1]))
    assert words.strip() in one
    assert other == expected(FRAMES)[1]
    assert ask(sequences, Asked("a", FRAMES[1])) == [expected(FRAMES)[1]]


def test_a_sequence_ends_with_its_last_frame_also_where_that_is_bad(sequences: Sequences) -> None:
    ask(sequences, first("a"), first("b"))
    ask(sequences, Asked("a", FRAMES[1], end=True), Asked("b", FRAMES[1][:-1], end=True))
    assert len(sequences) == 0
    assert "has no target" in ask(sequences, Asked("a", FRAMES[2]))[0]


def test_a_sequence_that_is_begun_again_has_one_tracker(sequences: Sequences) -> None:
    for _ in range(3):
        assert ask(sequences, first("a")) == [BOX]
    assert (len(sequences), len(sequences._tracker)) == (1, 1)


def test_sequences_that_nobody_asks_for_are_forgotten(sequences: Sequences, clock: Clock) -> None:
    ask(sequences, first("a"), first("b"))
    clock.now = 9
    ask(sequences, Asked("a", FRAMES[1]))
    clock.now = 18
    sequences.expire()
    assert len(sequences) == 1
    assert ask(sequences, Asked("a", FRAMES[2])) == [expected(FRAMES)[2]]
    clock.now = 99
    assert "has no target" in ask(sequences, Asked("a", FRAMES[3]))[0]
    assert (len(sequences), len(sequences._tracker)) == (0, 0)


def test_a_hundred_sequences_that_never_end_are_gone_in_time(sequences: Sequences, clock: Clock) -> None:
    for number in range(100):
        clock.now = number
        ask(sequences, first(number))
        assert len(sequences._tracker) <= 12
    sequences.close()


class OfTriton:
    """A tensor as Triton's backend has it: DLPack, once."""

    def __init__(self, capsule: object) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: object) -> object:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


@pytest.mark.parametrize(
    "array",
    [
        np.array([[0.1, 0.2, -3.0, 4.0]]),
        np.array([[True]]),
        np.arange(30, dtype=np.uint8).reshape(1, 2, 5, 3)[:, ::-1],
        np.float32([[1.5]]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_go_to_triton_and_back_and_are_let_go(array: NDArray[Any]) -> None:
    before = len(_held)
    back = array_of(OfTriton(capsule(array)))
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)
    assert len(_held) == before + 1
    del back
    assert len(_held) == before


def test_of_too_many_sequences_those_are_forgotten_that_were_not_asked_for_longest(
    sequences: Sequences, clock: Clock
) -> None:
    for number in range(6):
        ask(sequences, first(number))
        clock.now += 0.01
    ask(sequences, Asked(0, FRAMES[1]))
    clock.now += 0.01
    ask(sequences, first(6))
    assert len(sequences) == 6
    assert ask(sequences, Asked(0, FRAMES[2]), Asked(1, FRAMES[1]))[1].startswith("sequence 1 has no target")
    assert len(sequences) == 6
