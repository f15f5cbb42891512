"""A way back after a loss: when a target counts as lost, where it is looked for, when the box moves, and when not."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spm_rt import FrameError, RecoverySettings, SettingsError, Tracker, TrackerSettings, TrackResult
from spm_rt.frame import steps
from spm_rt.frame.geometry import search_region
from spm_rt.trackers import single
from spm_rt.trackers.recovery import recovery as module
from spm_rt.trackers.recovery.memory import SecondTemplate
from spm_rt.trackers.recovery.standing import Standing
from spm_rt.trackers.recovery.windows import search_boxes

from ...support.fakes.backend import SPEC, BrightBackend, bright_frame, bright_tracker

SIZE = (120, 700)
BOX = (48.0, 38.0, 44.0, 44.0)
HERE, THERE = bright_frame(70, 60, SIZE), bright_frame(600, 60, SIZE)
NOWHERE = np.full_like(HERE, 40)


def tracker(**changes: Any) -> Tracker:
    settings = RecoverySettings(**{"backward_overlap": 0.2, **changes})
    made: dict[int, BrightBackend] = {}
    way_back = module.Recovery(lambda n: made.setdefault(n, BrightBackend(n)), (1, 4), SPEC, settings)
    return Tracker(BrightBackend(), SPEC, TrackerSettings(), way_back)


def states(tracker: Tracker, frames: list[NDArray[np.uint8]]) -> str:
    """First letters of the states from a frame with the target at ``HERE`` on."""
    tracker.init(HERE, BOX)
    return "".join(tracker.update(frame).state[0] for frame in frames)


def center(tracker: Tracker) -> float:
    x, _, width, _ = tracker.box
    return x + width / 2


def test_a_target_that_jumped_is_found_again_and_followed() -> None:
    found = tracker(patience=2, confirm=2)
    assert states(found, [HERE] * 2 + [THERE] * 6).startswith("ttul")
    course = states(found, [HERE] * 2 + [THERE] * 8)
    assert "f" in course[4:]
    assert course.count("f") == 1
    assert set(course[course.index("f") + 1 :]) == {"t"}
    assert abs(center(found) - 600) < 10
    plain = bright_tracker()
    plain.init(HERE, BOX)
    assert all(plain.update(THERE).state == "lost" for _ in range(8))


@pytest.mark.parametrize(
    ("changes", "again"), [({}, True), ({"search": False}, False), ({"confirm": 50}, False), ({"sure": 1.0}, False)]
)
def test_the_box_moves_only_after_what_the_settings_ask_for(changes: dict[str, Any], again: bool) -> None:
    found = tracker(**{"patience": 1, "confirm": 1, **changes})
    assert ("f" in states(found, [HERE, *[THERE] * 12])) is again


def test_what_does_not_lead_back_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "leads_back", lambda *_: False)
    found = tracker(patience=1, confirm=1)
    assert set(states(found, [HERE, *[THERE] * 12])) == {"t", "l"}
    assert abs(center(found) - 70) < 30
    assert "f" in states(tracker(patience=1, confirm=1, backward=False), [HERE, *[THERE] * 12])


@pytest.mark.parametrize(("distance", "again"), [(0.4, True), (0.1, False)])
def test_a_lost_target_has_to_score_more_than_what_was_beside_it(
    distance: float, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tracker(patience=1, confirm=1, rival_margin=0.2)
    found.init(HERE, BOX)

    def beside_a_rival(*given: Any) -> Any:
        box, result = steps.decide(*given)
        return box, dataclasses.replace(result, rival_score=result.score - distance)

    with monkeypatch.context() as patch:
        patch.setattr(single, "decide", beside_a_rival)
        found.update(HERE)
    assert ("f" in "".join(found.update(THERE).state[0] for _ in range(12))) is again
    assert "f" in states(found, [HERE, *[THERE] * 12])  # a new target


def test_a_target_that_comes_back_where_it_was_is_found_by_the_tracker_itself() -> None:
    found = tracker(patience=2, confirm=2, search=False)
    assert states(found, [HERE, *[NOWHERE] * 4, *[HERE] * 4]) == "tullllftt"


def test_while_it_is_tracked_a_tracker_with_a_way_back_gives_the_plain_one_s_results() -> None:
    plain, other = bright_tracker(), tracker()
    for each in (plain, other):
        each.init(HERE, BOX)
    for x in range(70, 130, 3):
        frame = bright_frame(x, 60, SIZE)
        assert plain.update(frame) == other.update(frame)
        assert plain.corners == other.corners


def test_after_a_detection_it_is_tracked_again() -> None:
    moved = tracker(patience=1, search=False)
    assert states(moved, [NOWHERE, NOWHERE]) == "ll"
    moved.move_to((578.0, 38.0, 44.0, 44.0))
    assert moved.update(THERE).state == "tracked"


def test_a_sibling_has_a_way_back_of_its_own() -> None:
    first = tracker(patience=1, search=False)
    assert states(first, [NOWHERE]) == "l"
    assert states(first.sibling(), [HERE]) == "t"
    assert first.update(HERE).state == "lost"


def result(coarse: float, fine: float) -> TrackResult:
    score = (coarse + fine) / 2
    return TrackResult((0, 0, 1, 1), score, score >= 0.3, coarse, fine, state="tracked")


def test_one_low_score_makes_unsure_and_only_both_stages_end_it() -> None:
    high, low, single = result(0.9, 0.8), result(0.2, 0.2), result(0.9, 0.2)
    standing = Standing(RecoverySettings(patience=3))
    seen = [standing.see(each) for each in (single, low, single, high, low, single, result(math.nan, 0.9))]
    assert seen == ["tracked", "unsure", "unsure", "tracked", "unsure", "unsure", "lost"]


def test_the_places_see_the_whole_frame_and_the_expected_one_comes_first() -> None:
    last = np.array([40.0, 40.0, 80.0, 70.0])
    places = search_boxes(last, np.array([500.0, 20.0]), (240, 640), (1.0, 1.5), 0.5, SPEC)
    first = [box for box in places if round(box[2] - box[0]) == 40]
    side = search_region(last, SPEC).x2 - search_region(last, SPEC).x1
    centers = np.array([(box[:2] + box[2:]) / 2 for box in first])
    for x in range(0, 641, 20):
        for y in range(0, 241, 20):
            assert (np.abs(centers - [x, y]).max(1) <= side / 4 + 1e-9).any()
    distances = np.hypot(*(centers - [500, 20]).T)
    assert (np.diff(distances) >= 0).all()
    assert {round(box[2] - box[0]) for box in places} == {40, 60}


class Views:
    """Stands in for a looker: a view is the box, a template too."""

    def view(self, frame: Any, box: Any) -> Any:
        return box

    def template(self, view: Any) -> Any:
        return view


def test_the_second_template_is_as_old_as_it_must_be() -> None:
    memory: Any = SecondTemplate(Views(), every=5, rollback=8)  # type: ignore[arg-type]
    assert memory.template() is None
    for number in range(1, 30):
        memory.offer(number, None, number)
    assert memory.template() == 26
    memory.roll_back(30)
    assert memory.template() == 21
    memory.roll_back(9)
    assert memory.template() is None


@pytest.mark.parametrize(
    "changes",
    [{"sure": 2}, {"patience": 0}, {"crops": 1}, {"step": 0}, {"scales": ()}, {"search": 1}, {"confirm": 1.5}],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(changes))):
        RecoverySettings(**changes)
    with pytest.raises(SettingsError, match="RecoverySettings"):
        Tracker.load("nowhere", recovery=changes)  # type: ignore[arg-type]


def test_a_refused_frame_changes_nothing() -> None:
    found = tracker()
    found.init(HERE.astype(np.float32), BOX)
    before = found.corners
    with pytest.raises(FrameError):
        found.update(HERE[:50])
    assert found.corners == before
    assert dataclasses.replace(found.update(HERE.astype(np.float32)), box=BOX).state == "tracked"
