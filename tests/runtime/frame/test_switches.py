"""Whether a box has gone over to a look-alike, from where it was and where its rivals were."""

from __future__ import annotations

import numpy as np
import pytest

from spm_rt.frame.switches import SwitchWatch, overlap

SIDE = 20.0
AWAY = 60.0
"""Where a rival stands, while the target is moving from 0 by 5 a frame."""


def seen(frames: list[tuple[float, tuple[float, ...]]], memory: int = 10) -> list[bool]:
    """What a watch says of frames: where the box is along a line, and where the rivals are."""

    def boxes(places: tuple[float, ...]) -> np.ndarray:
        return np.array([[x, 0.0, x + SIDE, SIDE] for x in places]).reshape(-1, 4)

    watch = SwitchWatch(boxes((0.0,))[0])
    return [watch.see(boxes((place,))[0], boxes(rivals), memory) for place, rivals in frames]


BEFORE = [(5.0, (AWAY,)), (10.0, (AWAY,))]


def test_a_box_on_a_rivals_place_while_the_target_goes_on_has_switched_until_it_is_back() -> None:
    there = [(AWAY, (15.0,)), (AWAY, (20.0,)), (AWAY, ())]
    assert seen([*BEFORE, *there, (22.0, (AWAY,)), (27.0, (AWAY,))]) == [False, False, True, True, True, False, False]


def test_what_was_left_behind_is_followed() -> None:
    steps = [(AWAY, (15.0 + 5 * k,)) for k in range(5)]
    assert seen([*BEFORE, *steps, (15.0, ())])[-1]  # where it was left, but is no more
    assert not seen([*BEFORE, *steps, (35.0, ())])[-1]


@pytest.mark.parametrize(
    ("frames", "what"),
    [
        ([*BEFORE, (AWAY, ())], "nothing is where the target was expected"),
        ([*BEFORE, (AWAY, (48.0,))], "what is there is not nearer"),
        ([(5.0, ()), (10.0, ()), (AWAY, (15.0,))], "no rival was seen where the box is"),
        ([(5.0, (18.0,)), (18.0, (5.0,))], "the box has hardly left its place"),
        ([(5.0, (AWAY,)), (AWAY, (AWAY,))], "the rival is what the box is on"),
        ([*BEFORE, *[(10.0, ())] * 5, (AWAY, (10.0,))], "it was too long ago"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_no_switch(frames: list[tuple[float, tuple[float, ...]]], what: str) -> None:
    assert not any(seen(frames, memory=4))


def test_rivals_that_hide_for_a_while_and_switches_are_remembered_for_as_long() -> None:
    hidden = [*BEFORE, *[(10.0, ())] * 4, (AWAY, (10.0,))]
    assert seen(hidden, memory=4)[-1]
    assert seen([*hidden, *[(AWAY, (10.0,))] * 6], memory=4)[6:] == [True] * 5 + [False] * 2


def test_overlap_by_hand() -> None:
    assert overlap((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 0
