"""Several targets: the same as single trackers, whoever comes and goes; and what is refused."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spm_rt import (
    BackendError,
    BoxError,
    Bundle,
    FrameError,
    MultiTracker,
    SpmError,
    TargetError,
    Tracker,
    TrackerSettings,
    TrackResult,
)
from spm_rt.backends import ON_CPU, available
from spm_rt.frame.switches import SwitchWatch
from spm_rt.results import Box
from spm_rt.trackers.slots import split

from ...support.fakes.backend import (
    BrightContext,
    bright_frame,
    bright_multi_tracker,
    bright_tracker,
    moving_disc,
)
from ...support.fakes.watching import every_other
from ...support.follow import Frames

FRAME = bright_frame(80, 60)
BOX = (68.0, 48.0, 24.0, 24.0)
FAR = (20.0, 20.0, 30.0, 30.0)


# How many calls.


@pytest.mark.parametrize(
    ("count", "sizes", "wanted"),
    [
        (0, (1, 2), []),
        (1, (1, 2, 4, 8), [1]),
        (2, (1, 2, 4, 8), [2]),
        (3, (1, 2, 4, 8), [4]),
        (5, (1, 2, 4, 8), [8]),
        (8, (1, 2, 4, 8), [8]),
        (9, (1, 2, 4, 8), [8, 1]),
        (19, (1, 2, 4, 8), [8, 8, 4]),
        (3, (1,), [1, 1, 1]),
    ],
)
def test_the_smallest_graphs_that_hold_all_targets_are_used(
    count: int, sizes: tuple[int, ...], wanted: list[int]
) -> None:
    assert split(count, sizes) == wanted


# Without a network.


@pytest.mark.parametrize("count", range(1, 8))
@pytest.mark.parametrize("mode", ["series-parallel", "series", "coarse"])
def test_results_are_those_of_single_trackers(mode: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SwitchWatch, "see", every_other)
    settings = TrackerSettings(mode=mode, extent_correction=0.5, rival_memory=1)
    multi = bright_multi_tracker(settings=settings)
    boxes = [(68.0 - 3 * k, 48.0 + k, 24.0 + k, 24.0) for k in range(count)]
    singles = {}
    for box in boxes:
        single = bright_tracker(settings)
        single.init(FRAME, box)
        singles[multi.add(FRAME, box)] = single
    for frame in moving_disc(6):
        found = multi.update(frame, candidates=True)
        wanted = {id: single.update(frame, candidates=True) for id, single in singles.items()}
        # In coarse mode the fine score is NaN, which no comparison takes for equal.
        assert repr(found) == repr(wanted)
    for id, single in list(singles.items())[:1]:
        multi.move_to(id, BOX)
        single.move_to(BOX)
    assert repr(multi.update(FRAME)) == repr({id: single.update(FRAME) for id, single in singles.items()})
    assert [multi.box(id) for id in multi.ids] == [single.box for single in singles.values()]


def test_every_call_searches_once_per_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    search = BrightContext.search
    monkeypatch.setattr(BrightContext, "search", lambda c: (calls.append(len(c.crop)), search(c))[1])
    multi = bright_multi_tracker()
    for _ in range(7):
        multi.add(FRAME, BOX)
    multi.update(FRAME)
    assert calls == [4, 4]


def test_numbers_are_never_given_again() -> None:
    multi = bright_multi_tracker()
    first, second = multi.add(FRAME, BOX), multi.add(FRAME, FAR)
    multi.remove(first)
    assert len(multi) == 1
    third = multi.add(FRAME, BOX)
    assert len({first, second, third}) == 3
    assert multi.ids == (second, third)
    assert list(multi.update(FRAME)) == [second, third]


def test_templates_lie_where_their_targets_are() -> None:
    multi = bright_multi_tracker()
    boxes = [(40.0 + 8 * k, 40.0, 20.0 + 2 * k, 24.0) for k in range(7)]
    ids = [multi.add(FRAME, box) for box in boxes]
    for removed in (ids[2], ids[0], ids[6], ids[3], ids[1]):
        multi.remove(removed)
        for batch in multi._batches:
            for slot, id in enumerate(batch.ids):
                assert isinstance(batch.context, BrightContext)
                assert batch.context.slots[slot] is multi._targets[id].template


def test_no_targets_no_results() -> None:
    multi = bright_multi_tracker()
    assert multi.update(FRAME) == {}
    assert multi.ids == ()
    multi.remove(multi.add(FRAME, BOX))
    assert multi.update(np.zeros((7, 9, 3), np.uint8)) == {}


def test_after_the_last_target_frames_may_be_of_another_size() -> None:
    multi = bright_multi_tracker()
    multi.remove(multi.add(FRAME, BOX))
    id = multi.add(bright_frame(30, 30, (90, 70)), (20, 20, 20, 20))
    assert multi.update(bright_frame(30, 30, (90, 70)))[id].found


def test_one_target_is_moved_alone() -> None:
    multi = bright_multi_tracker()
    first, second = multi.add(FRAME, BOX), multi.add(FRAME, BOX)
    multi.move_to(second, FAR)
    assert (multi.box(first), multi.box(second)) == (BOX, FAR)


def test_a_sibling_has_no_targets_and_the_same_graphs() -> None:
    multi = bright_multi_tracker()
    multi.add(FRAME, BOX)
    other = multi.sibling()
    assert len(other) == 0
    assert other.backend is multi.backend
    other.add(FRAME, FAR)
    assert len(multi) == 1


@pytest.mark.parametrize(
    "use", [lambda m: m.box(7), lambda m: m.remove(7), lambda m: m.move_to(7, BOX)], ids=["box", "remove", "move_to"]
)
def test_targets_that_are_not_there_are_named(use: Callable[[MultiTracker], object]) -> None:
    multi = bright_multi_tracker()
    with pytest.raises(TargetError, match=r"no target 7 \(there are: none\)"):
        use(multi)
    multi.add(FRAME, BOX)
    with pytest.raises(LookupError, match=r"no target 7 \(there are: 0\)"):
        use(multi)


BAD: list[tuple[Any, Any, type[SpmError], str]] = [
    (None, BOX, FrameError, "end of video"),
    (FRAME / 255, BOX, FrameError, r"within 0\.\.1"),
    (np.zeros((121, 160, 3), np.uint8), BOX, FrameError, "remove all targets"),
    (FRAME, (0, 0, 0, 0), BoxError, "empty"),
    (FRAME, (500, 0, 10, 10), BoxError, "outside"),
]


@pytest.mark.parametrize(("frame", "box", "error", "message"), BAD)
def test_a_refused_target_changes_nothing(frame: Any, box: Any, error: type[SpmError], message: str) -> None:
    multi, expected = bright_multi_tracker(), bright_multi_tracker()
    ids = [multi.add(FRAME, b) for b in (BOX, FAR)]
    assert ids == [expected.add(FRAME, b) for b in (BOX, FAR)]
    with pytest.raises(error, match=message):
        multi.add(frame, box)
    assert multi.ids == tuple(ids)
    for picture in moving_disc(6):
        assert multi.update(picture) == expected.update(picture)


@pytest.mark.parametrize(
    "frame", [None, np.zeros((121, 160, 3), np.uint8), np.full((120, 160, 3), np.nan)], ids=["none", "size", "NaN"]
)
def test_a_refused_frame_changes_nothing(frame: Any) -> None:
    multi = bright_multi_tracker()
    for box in (BOX, FAR):
        multi.add(FRAME, box)
    boxes = [multi.box(id) for id in multi.ids]
    with pytest.raises(FrameError):
        multi.update(frame)
    assert [multi.box(id) for id in multi.ids] == boxes


def test_graphs_that_cannot_be_had_leave_the_targets_as_they_are() -> None:
    multi = bright_multi_tracker()
    multi.add(FRAME, BOX)
    make_context = multi._make_context

    def failing(targets: int) -> Any:
        raise BackendError("no memory")

    multi._make_context = failing
    with pytest.raises(BackendError):
        multi.add(FRAME, FAR)
    assert list(multi.update(FRAME)) == [0]
    multi._make_context = make_context
    assert multi.add(FRAME, FAR) == 1
    assert list(multi.update(FRAME)) == [0, 1]


def test_a_backend_that_cannot_move_templates_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(BrightContext, "put_template")
    with pytest.raises(BackendError, match="'bright' follows one target"):
        bright_multi_tracker()


# With the network.


@pytest.fixture(scope="module", params=[*ON_CPU, "onnxruntime on a GPU"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param.split()[0] not in available():
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture(scope="module")
def pair(backend: str, synthetic_bundle: Path) -> tuple[MultiTracker, Tracker]:
    """For several targets (graphs for one and two), and for one."""
    bundle = Bundle.open(synthetic_bundle)
    if backend == "onnxruntime on a GPU":
        from ...support.emulator.onnxruntime_gpu import DeviceBackend

        made = functools.cache(functools.partial(DeviceBackend, bundle))
        several = MultiTracker(made, bundle.targets, bundle.spec, bundle.settings)
        return several, Tracker(made(1), bundle.spec, bundle.settings)
    return MultiTracker.load(bundle, backend, capacity=2), Tracker.load(bundle, backend)


def close(found: TrackResult, wanted: TrackResult) -> bool:
    return bool(
        np.allclose(found.box, wanted.box, atol=2e-3)
        and abs(found.score - wanted.score) < 1e-5
        and abs(found.coarse_score - wanted.coarse_score) < 1e-5
        and abs(found.fine_score - wanted.fine_score) < 1e-5
        and found.found == wanted.found
    )


def test_targets_come_and_go_and_all_are_followed_as_alone(
    pair: tuple[MultiTracker, Tracker], clip: Frames, clip_box: Box
) -> None:
    multi, single = (tracker.sibling() for tracker in pair)
    x, y, width, height = clip_box
    starts = [clip_box, (x + 40, y - 30, width, height), (300.0, 100.0, 90.0, 60.0), (20.0, 150.0, 50.0, 80.0)]
    alone: dict[int, Tracker] = {}

    def add(frame: NDArray[np.uint8], box: Box) -> int:
        id = multi.add(frame, box)
        alone[id] = single.sibling()
        alone[id].init(frame, box)
        return id

    def remove(id: int) -> None:
        multi.remove(id)
        del alone[id]

    events: dict[int, Callable[[], object]] = {
        0: lambda: add(clip[0], starts[0]),
        1: lambda: add(clip[1], starts[1]),
        2: lambda: (add(clip[2], starts[2]), add(clip[2], starts[3])),
        4: lambda: remove(0),
        5: lambda: (remove(2), add(clip[5], starts[0])),
        6: lambda: (remove(1), remove(3)),
    }
    for index, frame in enumerate(clip[:8]):
        found = multi.update(frame)
        wanted = {id: tracker.update(frame) for id, tracker in alone.items()}
        assert found.keys() == wanted.keys()
        for id in found:
            assert close(found[id], wanted[id]), (index, id, found[id], wanted[id])
        events.get(index, lambda: None)()
    assert multi.ids == (4,)


def test_each_target_has_its_own_template(pair: tuple[MultiTracker, Tracker], clip: Frames, clip_box: Box) -> None:
    multi = pair[0].sibling()
    x, y, width, height = clip_box
    first, second = multi.add(clip[0], clip_box), multi.add(clip[40], (x + 90, y - 40, 2 * width, height))
    multi.move_to(second, clip_box)
    results = multi.update(clip[0])
    assert results[first].score != pytest.approx(results[second].score, abs=1e-3)


def test_unused_slots_stay_finite_and_unseen(pair: tuple[MultiTracker, Tracker], clip: Frames, clip_box: Box) -> None:
    multi = pair[0].sibling()
    ids = [multi.add(clip[0], clip_box) for _ in range(3)]
    for id in ids[:2]:
        multi.remove(id)
    result = multi.update(clip[1])
    assert list(result) == [ids[2]]
    assert np.isfinite(result[ids[2]].box).all()


def test_calls_may_be_kept_small(synthetic_bundle: Path, clip: Frames, clip_box: Box) -> None:
    multi, small = (MultiTracker.load(synthetic_bundle, "onnxruntime", per_call=most) for most in (None, 1))
    for tracker in (multi, small):
        for _ in range(3):
            tracker.add(clip[0], clip_box)
    assert [batch.size for batch in multi._batches] == [2, 1]
    assert [batch.size for batch in small._batches] == [1, 1, 1]


def test_a_bundle_with_graphs_for_one_target_takes_a_call_each(
    default_bundle: Path, clip: Frames, clip_box: Box
) -> None:
    multi, single = MultiTracker.load(default_bundle, "onnxruntime"), Tracker.load(default_bundle, "onnxruntime")
    single.init(clip[0], clip_box)
    ids = [multi.add(clip[0], clip_box) for _ in range(2)]
    wanted = single.update(clip[1])
    assert multi.update(clip[1]) == dict.fromkeys(ids, wanted)
