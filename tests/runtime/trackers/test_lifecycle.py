"""Trackers are closed, never copied, and not used by forked children."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from spm_rt import ClosedError, CopyError, FrameError, ProcessError, SettingsError, ThreadError, TrackerSettings
from spm_rt.adapters import Got10kTracker, OpenCVTracker
from spm_rt.trackers.lifecycle import Gate

from ...support.fakes.backend import (
    BrightBackend,
    another_thread_inside,
    bright_frame,
    bright_multi_tracker,
    bright_tracker,
)
from ...support.processes.children import ends_in_child

FRAME = bright_frame(80, 60)
BOX = (68.0, 48.0, 24.0, 24.0)
MAKE: dict[str, Callable[[], Any]] = {"one target": bright_tracker, "several": bright_multi_tracker}
USES: dict[str, list[Callable[[Any], object]]] = {
    "one target": [
        *(lambda t: t.init(FRAME, BOX), lambda t: t.update(FRAME), lambda t: t.move_to(BOX)),
        *(lambda t: t.restore((0, 0, 9, 9)), lambda t: t.corners),
        *(lambda t: t.box, lambda t: t.backend, lambda t: t.sibling(), lambda t: t.__enter__()),
        lambda t: setattr(t, "settings", TrackerSettings()),
    ],
    "several": [
        *(lambda t: t.add(FRAME, BOX), lambda t: t.update(FRAME), lambda t: t.move_to(0, BOX), lambda t: t.remove(0)),
        *(lambda t: t.restore(0, (0, 0, 9, 9)), lambda t: t.corners(0)),
        *(lambda t: t.box(0), lambda t: t.ids, lambda t: len(t), lambda t: t.backend, lambda t: t.sibling()),
        lambda t: t.__enter__(),
        lambda t: setattr(t, "settings", TrackerSettings()),
    ],
}
COPIES: dict[str, Callable[[Any], object]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {n}": lambda t, n=n: pickle.dumps(t, n) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
}


def started(targets: str) -> Any:
    tracker = MAKE[targets]()
    (tracker.init if targets == "one target" else tracker.add)(FRAME, BOX)
    return tracker


@pytest.mark.parametrize("targets", MAKE)
def test_a_closed_tracker_says_so_whatever_is_asked(targets: str) -> None:
    tracker = started(targets)
    tracker.close()
    tracker.close()
    for use in USES[targets]:
        with pytest.raises(ClosedError, match="closed; load another"):
            use(tracker)
    assert "closed" in repr(tracker)


@pytest.mark.parametrize("targets", MAKE)
def test_with_closes_also_when_something_is_raised(targets: str) -> None:
    tracker = started(targets)
    with pytest.raises(FrameError), tracker as entered:
        entered.update(FRAME[:1])
    with pytest.raises(ClosedError):
        tracker.update(FRAME)


@pytest.mark.parametrize("targets", MAKE)
def test_closing_lets_go_of_the_graphs_and_leaves_siblings_theirs(targets: str) -> None:
    tracker = started(targets)
    sibling = tracker.sibling()
    graphs = weakref.ref(tracker.backend)
    tracker.close()
    gc.collect()
    assert graphs() is not None
    (sibling.init if targets == "one target" else sibling.add)(FRAME, BOX)
    assert sibling.update(FRAME)
    sibling.close()
    gc.collect()
    assert graphs() is None


@pytest.mark.parametrize("targets", MAKE)
def test_nobody_closes_a_tracker_that_another_thread_uses(targets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = started(targets)
    with another_thread_inside(tracker, FRAME, monkeypatch), pytest.raises(ThreadError):
        tracker.close()
    assert tracker.update(FRAME)


def test_a_tracker_that_is_closed_while_a_thread_waits_at_the_gate_lets_it_not_in() -> None:
    gate = Gate()
    check = gate.check

    def once() -> None:
        """Finds it open; then another thread closes it."""
        gate.check = check  # type: ignore[method-assign]
        gate.closed = True

    gate.check = once  # type: ignore[method-assign]
    with pytest.raises(ClosedError), gate:
        pytest.fail("was let in")
    gate.closed = False
    with gate:
        pass


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize(
    "make",
    [
        *MAKE.values(),
        lambda: OpenCVTracker(bright_tracker()),
        lambda: Got10kTracker(bright_tracker()),
        lambda: {"a dictionary": [bright_tracker()]},
    ],
    ids=[*MAKE, "OpenCV's", "got10k's", "inside others"],
)
def test_copies_are_refused_with_what_to_do_instead(how: str, make: Callable[[], Any]) -> None:
    if how == "copy" and isinstance(make(), dict):
        pytest.skip("copies the dictionary alone")
    with pytest.raises(CopyError, match=r"sibling\(\).*load\(bundle\)"):
        COPIES[how](make())


@pytest.mark.parametrize("targets", MAKE)
@pytest.mark.parametrize("inside", [False, True], ids=["nobody inside", "forked in the middle of an update"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_is_told_what_to_do(targets: str, inside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = started(targets)
    around = another_thread_inside(tracker, FRAME, monkeypatch) if inside else contextlib.nullcontext()

    def use_all() -> None:
        for use in USES[targets]:
            with pytest.raises(ProcessError, match="load a tracker in the child, or start children by spawn"):
                use(tracker)
        tracker.close()  # does nothing, as at the end of a `with`
        assert "closed" not in repr(tracker)

    with around:
        assert ends_in_child(use_all) == 0


@pytest.mark.parametrize("settings", [{"mode": "coarse"}, "coarse", 3, TrackerSettings])
@pytest.mark.parametrize("targets", MAKE)
def test_settings_given_later_are_checked_at_once(targets: str, settings: Any) -> None:
    tracker = started(targets)
    before = tracker.settings
    with pytest.raises(SettingsError, match="must be TrackerSettings"):
        tracker.settings = settings
    assert tracker.settings is before
    assert tracker.update(FRAME)


def test_settings_given_later_decide() -> None:
    tracker = started("one target")
    tracker.settings = TrackerSettings(mode="coarse", num_candidates=3)
    result = tracker.update(FRAME, candidates=True)
    assert len(result.candidates or ()) == 3


def test_a_tracker_says_what_it_is() -> None:
    tracker, several = bright_tracker(), started("several")
    assert repr(tracker) == f"<Tracker: {BrightBackend.description}; no target yet>"
    tracker.init(FRAME, BOX)
    assert repr(tracker) == f"<Tracker: {BrightBackend.description}; target at 68.0, 48.0, 24.0, 24.0>"
    assert repr(several) == f"<MultiTracker: {BrightBackend.description}; 1 target(s)>"
