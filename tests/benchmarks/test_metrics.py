"""Figures against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from spm_bench.quality.metrics import overlap, rates_at, roc, score_boxes

TRUTH = np.array([[10.0, 20.0, 40.0, 30.0]] * 4)


def test_perfect_boxes_miss_only_the_threshold_one() -> None:
    figures = score_boxes(TRUTH, TRUTH)
    assert figures.auc == pytest.approx(20 / 21)  # an overlap of 1 is not above 1
    assert (figures.precision, figures.norm_precision, figures.success_rate, figures.mean_iou) == (1, 1, 1, 1)


def test_known_overlap_and_distance() -> None:
    found = TRUTH.copy()
    found[:, 0] += 20  # half the width: 600 / (1200 + 1200 - 600) = 1 / 3
    figures = score_boxes(found, TRUTH)
    assert figures.mean_iou == pytest.approx(1 / 3)
    assert figures.auc == pytest.approx(7 / 21)  # 0, 0.05 ... 0.30
    assert figures.success_rate == 0
    assert figures.precision == 1  # exactly 20 px still counts
    assert figures.norm_precision == pytest.approx(1 / 51)  # 20 / 40: only at the last threshold
    assert figures.distance[19] == 0
    assert figures.distance[20] == 1
    found = TRUTH.copy()
    found[:2, 1] += 20.5
    assert score_boxes(found, TRUTH).precision == 0.5  # a distance over 20 px is not precise


def test_frames_without_truth_do_not_count() -> None:
    truth = TRUTH.copy()
    truth[1] = np.nan
    truth[2, 2] = 0
    found = TRUTH.copy()
    found[1:3] += 500
    figures = score_boxes(found, truth)
    assert figures.frames == 2
    assert figures.mean_iou == 1


def test_size_changes_move_the_centre_of_inclusive_pixels() -> None:
    found = TRUTH.copy()
    found[:, 2] += 10  # the centre moves by 5 px of a width of 40: 0.125
    assert score_boxes(found, TRUTH).norm_precision == pytest.approx((51 - 13) / 51)


def test_overlap_of_disjoint_and_missing_boxes_is_zero() -> None:
    a = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [np.nan] * 4, [0, 0, 0, 0]])
    b = np.array([[20.0, 0, 10, 10], [10, 0, 10, 10], [0, 0, 10, 10], [0, 0, 0, 0]])
    assert overlap(a, b).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("values", "area"),
    [
        ([0.9, 0.8, 0.2, 0.1], 1.0),
        ([0.1, 0.2, 0.8, 0.9], 0.0),
        ([0.9, 0.2, 0.8, 0.1], 0.75),
        ([0.5, 0.5, 0.5, 0.5], 0.5),
        ([0.9, 0.5, 0.5, 0.1], 0.875),
    ],
)
def test_area_counts_pairs(values: list[float], area: float) -> None:
    """The area is the share of pairs in which the positive (the first two) has the higher value, ties half."""
    assert roc(np.array(values), np.array([True, True, False, False])).area == pytest.approx(area)


def test_threshold_lies_between_the_groups() -> None:
    curve = roc(np.array([0.9, 0.7, 0.3, 0.2, 0.1]), np.array([True, True, False, False, False]))
    assert curve.threshold == pytest.approx(0.5)
    assert (curve.kept, curve.caught, curve.balanced) == (1, 1, 1)


def test_threshold_balances_the_two_errors() -> None:
    values = np.array([0.9, 0.8, 0.7, 0.4, 0.6, 0.3, 0.2, 0.1])
    positive = np.array([True, True, True, True, False, False, False, False])
    curve = roc(values, positive)
    assert curve.threshold == pytest.approx(0.65)
    assert (curve.kept, curve.caught) == (0.75, 1.0)
    assert rates_at(values, positive, curve.threshold) == (0.75, 1.0)
    assert rates_at(values, positive, 0.35) == (1.0, 0.75)


def test_no_better_than_keeping_none_or_all() -> None:
    curve = roc(np.array([0.1, 0.9]), np.array([True, False]))
    assert curve.balanced == pytest.approx(0.5)
    assert rates_at(np.array([0.1, 0.9]), np.array([True, False]), curve.threshold) == (curve.kept, curve.caught)
