"""The tracker: what it accepts, what it refuses, and that it stays as it was when it refuses."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spm_rt import BoxError, FrameError, NotInitializedError, SpmError, Tracker, TrackerSettings, TrackResult
from spm_rt.frame.switches import SwitchWatch
from spm_rt.results import Box
from spm_rt.trackers.checks import check_box

from ...support.fakes.backend import (
    BrightBackend,
    BrightContext,
    bright_frame,
    bright_multi_tracker,
    bright_tracker,
    moving_disc,
)
from ...support.fakes.watching import every_other

BOX = (68.0, 48.0, 24.0, 24.0)
FRAME = bright_frame(80, 60)
Frame = NDArray[Any]


def started(settings: TrackerSettings | None = None, frame: Frame = FRAME, box: Any = BOX) -> Tracker:
    tracker = bright_tracker(settings)
    tracker.init(frame, box)
    return tracker


def center(box: Box) -> tuple[float, float]:
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def track(tracker: Tracker, frames: list[Frame]) -> list[TrackResult]:
    return [tracker.update(frame) for frame in frames]


# What it does.


def test_it_follows_what_it_was_shown() -> None:
    tracker = started()
    for k, result in enumerate(track(tracker, moving_disc())):
        x, y = center(result.box)
        assert math.hypot(x - (80 + 2 * k), y - (60 - k)) < 8
        assert result.found


def test_init_gives_the_box_back_exactly() -> None:
    assert started(box=(68.25, 48.5, 24.125, 23.0)).box == (68.25, 48.5, 24.125, 23.0)


@pytest.mark.parametrize("mode", ["series-parallel", "series", "coarse"])
def test_the_extent_of_the_first_box_is_kept(mode: str) -> None:
    """What is found on the first frame is the first box, and as much larger as it on the following ones."""
    large = (65.0, 46.0, 30.0, 28.0)
    plain, kept = (started(TrackerSettings(mode=mode, extent_correction=share), box=large) for share in (0.0, 1.0))
    first, of_old = kept.update(FRAME, candidates=True), plain.update(FRAME, candidates=True)
    assert first.candidates is not None
    assert of_old.candidates is not None
    assert first.candidates[0].box == pytest.approx(large)
    assert of_old.candidates[0].box != pytest.approx(large, rel=0.02)
    np.testing.assert_allclose(kept.corners, [65, 46, 95, 74])


def test_template_is_the_box_in_the_middle_of_the_crop() -> None:
    tracker = started()
    (box,) = tracker._context.templates
    assert box.shape == (1, 4)
    assert box.dtype == np.float32
    np.testing.assert_allclose(box[0, :2] + box[0, 2:], [271, 271], atol=1e-3)


def test_results_are_plain_numbers() -> None:
    result = started().update(FRAME)
    assert [type(v) for v in (*result.box, result.score, result.coarse_score, result.fine_score)] == [float] * 7
    assert type(result.found) is bool
    assert result.candidates is None


def test_result_is_the_trackers_box() -> None:
    tracker = started()
    assert tracker.update(FRAME).box == tracker.box


def test_the_same_frames_give_the_same_results() -> None:
    assert track(started(), moving_disc()) == track(started(), moving_disc())


def test_init_starts_again() -> None:
    tracker = started()
    first = track(tracker, moving_disc())
    tracker.init(FRAME, BOX)
    assert track(tracker, moving_disc()) == first


def test_init_may_change_the_frame_size() -> None:
    tracker = started()
    tracker.init(bright_frame(30, 30, (90, 70)), (20, 20, 20, 20))
    assert tracker.update(bright_frame(30, 30, (90, 70))).found


def test_corners_are_all_that_a_tracker_goes_on_from() -> None:
    """Also where x + width is not the second corner, as when a box leaves the frame far to the left."""
    first, second, moved = started(), started(), started()
    corners = (-30.099999999999998, -5.1, 10.000000000000002, 60.3)
    first.restore(corners)
    assert first.corners == corners
    assert corners[0] + first.box[2] != corners[2]
    moved.move_to(first.box)
    assert moved.corners != corners
    first.update(FRAME)
    second.restore(first.corners)
    assert track(first, moving_disc()) == track(second, moving_disc())


@pytest.mark.parametrize("corners", [(0, 0, 0, 10), (0, 10, 10, 0), (0, 0, math.inf, 1), (1, 2, 3), "abcd", None])
def test_what_are_no_corners_is_refused(corners: object) -> None:
    tracker = started()
    with pytest.raises(BoxError, match="corners"):
        tracker.restore(corners)  # type: ignore[arg-type]
    assert tracker.box == BOX
    with pytest.raises(NotInitializedError, match="before init"):
        bright_tracker().restore((0, 0, 10, 10))


def test_a_lost_target_keeps_the_box() -> None:
    tracker = started()
    result = tracker.update(np.zeros_like(FRAME))
    assert not result.found
    assert result.score < 0.2
    assert result.box == BOX


def test_found_follows_its_own_threshold() -> None:
    score = started().update(FRAME).score
    assert started(TrackerSettings(found_threshold=score - 0.01)).update(FRAME).found
    assert not started(TrackerSettings(found_threshold=score + 0.01)).update(FRAME).found


def test_after_a_switch_nothing_is_found_until_the_box_is_put_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SwitchWatch, "see", every_other)
    tracker = started(TrackerSettings(rival_memory=1))
    told = {True: (True, "tracked"), False: (False, "unsure")}

    def switched() -> bool:
        result = tracker.update(FRAME)
        assert (result.found, result.state) == told[not result.switched]
        return result.switched

    assert [switched() for _ in range(3)] == [False, True, False]
    for elsewhere in (
        lambda: tracker.move_to(BOX),
        lambda: tracker.restore(tracker.corners),
        lambda: tracker.init(FRAME, BOX),
    ):
        elsewhere()
        assert [switched() for _ in range(3)] == [False, True, False]
    tracker.settings = TrackerSettings(rival_memory=0)
    assert not any(switched() for _ in range(3))


def test_frames_are_not_changed_and_not_kept() -> None:
    frame = FRAME.copy()
    tracker = started(frame=frame)
    frame[:] = 0
    assert tracker.update(FRAME).found
    assert (bright_frame(80, 60) == FRAME).all()


# Candidates, modes, moving, siblings, stages.


def test_candidates_are_all_proposals_best_first() -> None:
    result = started().update(FRAME, candidates=True)
    assert result.candidates is not None
    assert 2 <= len(result.candidates) <= 9
    rankings = [candidate.ranking for candidate in result.candidates]
    assert rankings == sorted(rankings, reverse=True)
    best = result.candidates[0]
    assert (best.score, best.coarse_score, best.fine_score) == (result.score, result.coarse_score, result.fine_score)


def test_asking_for_candidates_changes_nothing_else() -> None:
    with_them = started().update(FRAME, candidates=True)
    assert dataclasses.replace(with_them, candidates=None) == started().update(FRAME)


def test_coarse_mode_never_asks_the_fine_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = started(TrackerSettings(mode="coarse"))
    monkeypatch.setattr(BrightContext, "relate", lambda *_: pytest.fail("was asked"))
    result = tracker.update(FRAME, candidates=True)
    assert result.score == result.coarse_score
    assert math.isnan(result.fine_score)


def test_series_mode_takes_score_and_place_from_the_fine_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BrightContext, "relate", lambda _, p: (np.full(p.shape[:2], 0.625, np.float32), p))
    result = started(TrackerSettings(mode="series")).update(FRAME)
    assert result.score == result.fine_score == 0.625


def test_series_parallel_mode_weighs_both() -> None:
    result = started(TrackerSettings(fine_score_weight=0.25)).update(FRAME)
    assert result.score == pytest.approx(0.75 * result.coarse_score + 0.25 * result.fine_score)


def test_moving_goes_on_from_the_new_place() -> None:
    tracker = started()
    tracker.move_to((30, 30, 24, 24))
    assert tracker.box == (30, 30, 24, 24)
    assert center(tracker.update(bright_frame(42, 42)).box) == pytest.approx((42, 42), abs=8)


def test_moving_keeps_the_template() -> None:
    tracker = started()
    tracker.move_to((30, 30, 24, 24))
    assert len(tracker._context.templates) == 1


def test_a_sibling_shares_the_graphs_and_nothing_else() -> None:
    tracker = started()
    other = tracker.sibling()
    assert other.backend is tracker.backend
    assert other.settings == tracker.settings
    with pytest.raises(NotInitializedError):
        other.update(FRAME)
    other.init(bright_frame(40, 40), (30, 30, 20, 20))
    other.update(np.zeros_like(FRAME))
    assert tracker.box == BOX


def test_every_stage_is_reported_once_and_in_order() -> None:
    several = bright_multi_tracker()
    for _ in range(5):
        several.add(FRAME, BOX)
    for tracker in (started(), several):
        stages: list[str] = []
        tracker.update(FRAME, clock=stages.append)
        assert stages == ["crop", "search", "proposals", "relation", "fusion"]


# Before init.


@pytest.mark.parametrize("use", [lambda t: t.update(FRAME), lambda t: t.move_to(BOX), lambda t: t.box])
def test_nothing_works_before_init(use: Callable[[Tracker], object]) -> None:
    with pytest.raises(NotInitializedError, match="init"):
        use(bright_tracker())


def test_a_failed_init_is_no_init() -> None:
    tracker = bright_tracker()
    with pytest.raises(BoxError):
        tracker.init(FRAME, (0, 0, 0, 0))
    with pytest.raises(NotInitializedError):
        tracker.update(FRAME)


# Frames.


class Subclass(np.ndarray):
    """As some readers of pictures return."""


GOOD_FRAMES: dict[str, Callable[[NDArray[np.uint8]], Frame]] = {
    "grey": lambda f: f[:, :, 0],
    "grey with an axis": lambda f: f[:, :, :1],
    "BGRA": lambda f: np.concatenate([f, f[:, :, :1]], axis=2),
    "float32": lambda f: f.astype(np.float32),
    "float64": lambda f: f.astype(np.float64),
    "mirrored twice": lambda f: np.ascontiguousarray(f[:, ::-1])[:, ::-1],
    "upside down twice": lambda f: np.ascontiguousarray(f[::-1])[::-1],
    "transposed twice": lambda f: np.ascontiguousarray(f.transpose(1, 0, 2)).transpose(1, 0, 2),
    "every other pixel": lambda f: np.repeat(np.repeat(f, 2, axis=0), 2, axis=1)[::2, ::2],
    "a subclass": lambda f: f.view(Subclass),
}


@pytest.mark.parametrize("change", GOOD_FRAMES.values(), ids=GOOD_FRAMES.keys())
def test_kinds_of_frames_give_the_same_boxes(change: Callable[[NDArray[np.uint8]], Frame]) -> None:
    pictures = [change(frame) for frame in moving_disc()]
    found = [result.box for result in track(started(frame=change(FRAME)), pictures)]
    wanted = [result.box for result in track(started(), moving_disc())]
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_kinds_of_frames_may_change_on_the_way() -> None:
    tracker = started()
    assert tracker.update(FRAME[:, :, 0]).box == pytest.approx(started().update(FRAME).box, abs=1e-3)


def test_read_only_frames_are_fine() -> None:
    frame = FRAME.copy()
    frame.flags.writeable = False
    assert started(frame=frame).update(frame).found


@pytest.mark.parametrize("size", [(2, 2), (2, 500), (500, 2), (9, 7), (30, 40)])
def test_tiny_frames_are_tracked_on(size: tuple[int, int]) -> None:
    frame = np.full((*size, 3), 200, np.uint8)
    result = started(frame=frame, box=(0, 0, size[1], size[0])).update(frame)
    assert np.isfinite(result.box).all()
    assert result.score == pytest.approx(200 / 255, abs=0.01)


def test_huge_frames_are_tracked_on() -> None:
    frame = np.zeros((6000, 8000), np.uint8)
    frame[4980:5030, 6980:7030] = 255
    tracker = started(frame=frame, box=(6980, 4980, 50, 50))
    assert center(tracker.update(frame).box) == pytest.approx((7005, 5005), abs=15)


BAD_FRAMES: dict[str, tuple[Any, str]] = {
    "none": (None, "end of video"),
    "empty": (np.zeros((0, 0, 3), np.uint8), "0 x 0 pixels"),
    "one pixel": (np.zeros((1, 1, 3), np.uint8), "1 x 1 pixels"),
    "two channels": (np.zeros((120, 160, 2), np.uint8), "shape"),
    "a batch": (np.zeros((1, 120, 160, 3), np.uint8), "shape"),
    "channels first": (np.zeros((3, 120, 160), np.uint8), "shape"),
    "uint16": (np.zeros((120, 160, 3), np.uint16), "type uint16"),
    "int32": (np.zeros((120, 160, 3), np.int32), "type int32"),
    "bool": (np.zeros((120, 160), bool), "type bool"),
    "NaN": (np.full((120, 160, 3), np.nan, np.float32), "NaN or infinite"),
    "NaN near the target": (np.where(np.mgrid[:120, :160][1][:, :, None] > 80, np.nan, FRAME), "NaN or infinite"),
    "infinite": (np.full((120, 160, 3), np.inf), "NaN or infinite"),
}


@pytest.mark.parametrize(("frame", "message"), BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
def test_bad_frames_are_refused_and_change_nothing(frame: Any, message: str) -> None:
    tracker, expected = started(), started()
    before = track(tracker, moving_disc(3))[-1].box
    for use in (lambda: bright_tracker().init(frame, BOX), lambda: tracker.update(frame)):
        with pytest.raises(FrameError, match=message):
            use()
    assert tracker.box == before
    track(expected, moving_disc(3))
    assert tracker.update(moving_disc()[3]) == expected.update(moving_disc()[3])


@pytest.mark.parametrize(
    ("frame", "box"), [(FRAME / 255, BOX), (np.full((120, 160, 3), np.nan), BOX), (FRAME, (0, 0, 0, 0)), (None, BOX)]
)
def test_a_refused_init_leaves_the_running_track_alone(frame: Any, box: Box) -> None:
    tracker, expected = started(), started()
    with pytest.raises(SpmError):
        tracker.init(frame, box)
    assert track(tracker, moving_disc()) == track(expected, moving_disc())
    assert len(tracker._context.templates) == 1


@pytest.mark.parametrize(
    ("scale", "said"), [(1 / 255, r"within 0\.\.1"), (257, "go up to "), (4095 / 255, "go up to ")]
)
def test_float_frames_of_other_levels_are_refused(scale: float, said: str) -> None:
    with pytest.raises(FrameError, match=rf"{said}.*; 0\.\.255 is needed"):
        bright_tracker().init(FRAME.astype(np.float32) * np.float32(scale), BOX)


@pytest.mark.parametrize("size", [(120, 161), (119, 160), (160, 120), (240, 320)])
def test_a_changed_frame_size_is_refused(size: tuple[int, int]) -> None:
    tracker = started()
    with pytest.raises(FrameError, match=f"160 x 120 to {size[1]} x {size[0]}.*init again"):
        tracker.update(np.zeros((*size, 3), np.uint8))
    assert tracker.update(FRAME).found


# Boxes.


BAD_BOXES: dict[str, tuple[Any, str]] = {
    "left of the frame": ((-30, 40, 30, 20), "wholly outside the frame of 160 x 120"),
    "above": ((40, -21, 30, 20), "wholly outside"),
    "right": ((160, 40, 30, 20), "wholly outside"),
    "below": ((40, 120, 30, 20), "wholly outside"),
    "far away": ((1e9, 1e9, 30, 20), "wholly outside"),
    "empty": ((40, 40, 0, 0), "empty or inverted"),
    "no width": ((40, 40, 0, 10), "empty or inverted"),
    "no height": ((40, 40, 10, 0), "empty or inverted"),
    "inverted": ((60, 60, -20, -20), "empty or inverted"),
    "thin": ((40, 40, 0.5, 10), "less than one pixel"),
    "NaN": ((math.nan, 40, 10, 10), "must be finite"),
    "NaN width": ((40, 40, math.nan, 10), "must be finite"),
    "infinite": ((40, 40, math.inf, 10), "must be finite"),
    "minus infinite": ((-math.inf, 40, 10, 10), "must be finite"),
    "immense": ((0, 0, 1e6, 1e6), "over 100 times"),
    "three numbers": ((40, 40, 10), "four numbers"),
    "five numbers": ((40, 40, 10, 10, 1), "four numbers"),
    "nothing": (None, "four numbers"),
    "a number beyond floats": ((10**400, 40, 10, 10), "four numbers"),
    "one number": (7, "four numbers"),
    "words": (("a", "b", "c", "d"), "four numbers"),
    "text": ("40,40,10,10", "four numbers"),
    "a row of boxes": (np.zeros((1, 4)), "four numbers"),
    "complex": ((40, 40, 10, 1j), "four numbers"),
}


@pytest.mark.parametrize(("box", "message"), BAD_BOXES.values(), ids=BAD_BOXES.keys())
def test_bad_boxes_are_refused_and_change_nothing(box: Any, message: str) -> None:
    tracker = started()
    for use in (lambda: tracker.init(FRAME, box), lambda: tracker.move_to(box)):
        with pytest.raises(BoxError, match=message):
            use()
        assert tracker.box == BOX


BORDER_BOXES = [(-20, 40, 30, 20), (0, 0, 160, 120), (159, 119, 20, 20), (-29, -19, 30, 20), (-100, -100, 400, 400)]


@pytest.mark.parametrize("box", [*BORDER_BOXES, (50, 50, 1, 1), (0, 0, 1, 120), (159, 0, 1, 1)])
def test_boxes_on_the_border_are_tracked(box: Box) -> None:
    assert np.isfinite(started(box=box).update(FRAME).box).all()


@pytest.mark.parametrize(
    "box",
    [list(BOX), np.array(BOX), np.array(BOX, np.float32), tuple(int(v) for v in BOX)],
    ids=["list", "float64", "float32", "int"],
)
def test_any_four_numbers_are_a_box(box: Any) -> None:
    assert started(box=box).box == BOX


def test_a_box_is_checked_against_the_frame() -> None:
    np.testing.assert_array_equal(check_box((10, 20, 30, 40), (120, 160)), [10, 20, 40, 60])


# Errors.


def test_errors_are_one_family_and_built_ins_too() -> None:
    for error, built_in in ((FrameError, ValueError), (BoxError, ValueError), (NotInitializedError, RuntimeError)):
        assert issubclass(error, SpmError)
        assert issubclass(error, built_in)


def test_an_error_in_a_backend_leaves_the_tracker_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = started()
    with monkeypatch.context() as patch:
        patch.setattr(BrightContext, "search", lambda _: (_ for _ in ()).throw(RuntimeError("device lost")))
        with pytest.raises(RuntimeError, match="device lost"):
            tracker.update(FRAME)
    assert tracker.box == BOX
    assert tracker.update(FRAME) == started().update(FRAME)


def test_scores_that_are_not_numbers_keep_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = started()
    monkeypatch.setattr(BrightContext, "_brightness", lambda _, boxes: np.full(boxes.shape[:2], np.nan, np.float32))
    result = tracker.update(FRAME)
    assert result.box == BOX
    assert not result.found


def test_a_backend_is_asked_for_one_context_per_tracker() -> None:
    backend = BrightBackend()
    first = Tracker(backend, bright_tracker().spec, TrackerSettings())
    assert first._context is not first.sibling()._context
