"""Fusing both stages' scores and boxes, and the step to the next box."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from spm_rt.frame.fusion import AS_DETECTED, cosine_window, extent_of, fuse, next_box, with_extent
from spm_rt.settings import TrackerSettings

from ...support.recorded import read_arrays

OPS = read_arrays("ops")
SETTINGS = TrackerSettings()
COARSE = np.array([0.8, 0.6, 0.4], np.float32)
FINE = np.array([0.2, 0.9, 0.4], np.float32)
FLAT = np.zeros(3, np.float32)


def boxes(offset: float) -> NDArray[np.float32]:
    return np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], np.float32) + np.float32(offset)


@pytest.mark.parametrize("row", range(len(OPS["upd_in"])))
def test_next_box_is_the_recorded_one(row: int) -> None:
    given = OPS["upd_in"][row]
    detected, current, rate, size = given[:4].astype(np.float32), given[4:8], given[8], given[9:11]
    found = next_box(current, detected, rate / SETTINGS.size_rate, (int(size[0]), int(size[1])), SETTINGS)
    np.testing.assert_allclose(found, OPS["upd_out"][row], rtol=1e-5, atol=1e-4)


def test_score_is_the_weighted_sum() -> None:
    found = fuse(COARSE, boxes(0), FINE, boxes(1), FLAT, SETTINGS)
    np.testing.assert_allclose(found.scores, [0.5, 0.75, 0.4], rtol=1e-6)


def test_box_leans_towards_the_fine_stage() -> None:
    found = fuse(COARSE, boxes(0), FINE, boxes(1), FLAT, SETTINGS)
    share = COARSE / (COARSE + 3 * FINE)
    np.testing.assert_allclose(found.boxes, boxes(0) + (1 - share)[:, None], rtol=1e-6)


def test_two_zero_scores_give_the_fine_box() -> None:
    zero = np.zeros(3, np.float32)
    np.testing.assert_array_equal(fuse(zero, boxes(0), zero, boxes(1), FLAT, SETTINGS).boxes, boxes(1))


def test_window_decides_the_choice_but_not_the_score() -> None:
    window = np.array([1, 0, 0], np.float32)
    found = fuse(COARSE, boxes(0), FINE, boxes(1), window, SETTINGS)
    assert found.chosen == 0
    assert found.scores[0] == pytest.approx(0.5)
    assert found.ranking[0] == pytest.approx(0.75)


def test_equal_rankings_choose_the_first() -> None:
    same = np.full(3, 0.5, np.float32)
    assert fuse(same, boxes(0), same, boxes(0), FLAT, SETTINGS).chosen == 0


@pytest.mark.parametrize(("mode", "scores", "offset"), [("coarse", COARSE, 0), ("series", FINE, 1)])
def test_a_single_stage_decides_alone(mode: str, scores: NDArray[np.float32], offset: float) -> None:
    other = np.full(3, np.nan, np.float32)  # which is not even read
    given = (COARSE, other) if mode == "coarse" else (other, FINE)
    found = fuse(given[0], boxes(0), given[1], boxes(1), FLAT, dataclasses.replace(SETTINGS, mode=mode))
    np.testing.assert_array_equal(found.scores, scores)
    np.testing.assert_array_equal(found.boxes, boxes(offset))
    assert np.isfinite(found.ranking).all()


@pytest.mark.parametrize(
    ("center", "wanted"),
    [((135, 135), 1.0), ((0, 135), 0.0), ((270, 270), 0.0), ((67.5, 135), 0.5), ((-50, 135), 0.0), ((900, 135), 0.0)],
)
def test_window(center: tuple[float, float], wanted: float) -> None:
    x, y = center
    box = np.array([[x - 10, y - 20, x + 10, y + 20]], np.float32)
    assert cosine_window(box, 271)[0] == pytest.approx(wanted, abs=1e-6)


def step(detected: tuple[float, ...], score: float = 1.0) -> list[float]:
    current = np.array([40.0, 40, 60, 60])
    return next_box(current, np.array(detected, np.float32), score, (100, 200), SETTINGS).tolist()


def test_size_follows_by_half_the_score() -> None:
    x1, y1, x2, y2 = step((40, 30, 80, 70), score=0.5)
    assert (x2 - x1, y2 - y1) == pytest.approx((25, 25))
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((60, 50))


def test_centre_may_go_down_to_zero_on_the_left_and_top() -> None:
    assert step((-40, -40, -20, -20)) == pytest.approx([-10, -10, 10, 10])


def test_edges_stay_inside_on_the_right_and_bottom() -> None:
    assert step((300, 300, 320, 320)) == pytest.approx([180, 80, 200, 100])


def test_sides_do_not_fall_below_the_smallest() -> None:
    small = np.array([50.0, 50, 51, 51])
    x1, y1, x2, y2 = next_box(small, small.astype(np.float32), 1.0, (100, 200), SETTINGS)
    assert (x2 - x1, y2 - y1) == (10, 10)


def test_an_inverted_detection_gives_no_inverted_box() -> None:
    x1, y1, x2, y2 = step((80, 80, 20, 20))
    assert x2 - x1 >= 10
    assert y2 - y1 >= 10


GIVEN = np.array([110.0, 60, 170, 160])
DETECTED = np.array([100, 70, 180, 150], np.float32)


def test_with_its_whole_extent_a_detection_is_the_given_box() -> None:
    extent = extent_of(GIVEN, DETECTED, 1.0)
    assert extent == pytest.approx((60 / 80, 100 / 80, 0, 0))
    still = next_box(GIVEN, DETECTED, 1 / SETTINGS.size_rate, (400, 400), SETTINGS, extent)
    np.testing.assert_allclose(still, GIVEN, rtol=1e-12)
    np.testing.assert_allclose(with_extent(DETECTED[None], extent), GIVEN[None], rtol=1e-12)


def test_an_extent_goes_along_with_a_detection_that_moves_and_grows() -> None:
    extent = extent_of(GIVEN + np.array([8, -4, 8, -4]), DETECTED, 1.0)
    moved = np.array([[30, 20, 190, 180]], np.float32)  # twice as large
    np.testing.assert_allclose(with_extent(moved, extent), [[66, -8, 186, 192]], rtol=1e-12)


def test_half_of_an_extent_twice_is_the_whole_one() -> None:
    whole, half = (extent_of(GIVEN + np.array([5, 3, 5, 3]), DETECTED, share) for share in (1.0, 0.5))
    assert [half[0] ** 2, half[1] ** 2, 2 * half[2], 2 * half[3]] == pytest.approx(whole)


@pytest.mark.parametrize("detected", [(171, 60, 231, 160), (110, 60, 139, 160), (170, 160, 110, 60), (np.nan,) * 4])
def test_a_detection_of_something_else_says_nothing_about_the_extent(detected: tuple[float, ...]) -> None:
    assert extent_of(GIVEN, np.array(detected, np.float32), 1.0) == AS_DETECTED
