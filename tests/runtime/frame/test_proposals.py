"""Which boxes become proposals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from spm_rt.frame.geometry import overlap_with
from spm_rt.frame.proposals import best_apart, reserve_near, select_proposals, suppress
from spm_rt.settings import TrackerSettings

from ...support.recorded import read_arrays

OPS = read_arrays("ops")
SETTINGS = TrackerSettings()
Floats = NDArray[np.float32]


def grid(count: int, spacing: float = 100.0) -> Floats:
    """Boxes of 40 x 40 pixels that do not overlap."""
    x = np.arange(count, dtype=np.float32) * np.float32(spacing)
    return np.stack([x, np.zeros_like(x), x + 40, np.full_like(x, 40)], axis=1)


def choose(scores: list[float], boxes: Floats, current: Floats, **settings: float) -> list[int]:
    changed = dataclasses.replace(SETTINGS, **settings)
    return select_proposals(np.array(scores, np.float32), boxes, current, changed).tolist()


@pytest.mark.parametrize("case", range(6))
def test_proposals_are_the_recorded_ones(case: int) -> None:
    rows = OPS[f"prop{case}_rows"]
    current = OPS["prop_current"].astype(np.float32)
    found = select_proposals(rows[:, 4], rows[:, :4], current, SETTINGS)
    assert found.tolist() == OPS[f"prop{case}_index"].tolist()


def test_suppression_is_the_recorded_one() -> None:
    boxes, scores = OPS["nms_dets"][:, :4], OPS["nms_dets"][:, 4]
    order = np.argsort(-scores, kind="stable")
    assert suppress(boxes, order, 0.5, len(scores)).tolist() == OPS["nms_keep_sorted"].tolist()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 300])
def test_suppression_in_pieces_is_the_greedy_one(count: int) -> None:
    rng = np.random.default_rng(count)
    corner = rng.uniform(0, 200, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 90, (count, 2))], axis=1).astype(np.float32)
    kept: list[int] = []
    for row in range(count):
        if not any(overlap_with(boxes[row : row + 1], boxes[k], 0)[0] >= np.float32(0.5) for k in kept):
            kept.append(row)
    assert suppress(boxes, np.arange(count), 0.5, count).tolist() == kept
    assert suppress(boxes, np.arange(count), 0.5, 8).tolist() == kept[:8]


def test_an_overlap_of_exactly_the_threshold_suppresses() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 20.01]], np.float32)
    assert suppress(boxes, np.array([0, 1]), 0.5, 9).tolist() == [0]
    assert suppress(boxes, np.array([0, 2]), 0.5, 9).tolist() == [0, 2]


def test_empty_boxes_do_not_suppress_each_other() -> None:
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5]], np.float32)
    assert suppress(boxes, np.arange(2), 0.5, 9).tolist() == [0, 1]


def test_equal_scores_are_visited_by_index() -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.9, 0.5], np.float32)
    assert best_apart(scores, grid(5), np.arange(5), 0.5, 5).tolist() == [1, 3, 0, 2, 4]


RISING = [0.1 * k for k in range(1, 10)]
CHOICES: dict[str, tuple[list[float], int, dict[str, float], list[int]]] = {
    "equal scores give the first boxes": ([0.5] * 30, 29, {}, [0, 1, 2, 3, 4, 5, 6, 7, 29]),
    "the reserved box comes last and only once": ([0.9, 0.8, 0.7], 0, {}, [1, 2, 0]),
    "boxes below the floor are dropped": ([0.5, 0.9, 0.0899, 0.0901], 0, {}, [1, 3, 0]),
    "the floor is a share of the best in the pool without the reserved one": ([1.0, 0.2, 0.03], 0, {}, [1, 2, 0]),
    "all are by score without near ones": (RISING, 0, {"num_near_candidates": 0, "num_candidates": 4}, [8, 7, 6, 5]),
    "one candidate is the best by score": ([0.1, 0.2, 0.9], 0, {"num_candidates": 1}, [2]),
    "without a number among the scores the reserved box is left": ([np.nan] * 5, 3, {}, [3]),
    "a NaN score leaves the reserved box, as in the release": ([0.5, np.nan, 0.4], 0, {}, [0]),
}


@pytest.mark.parametrize(("scores", "current", "settings", "wanted"), CHOICES.values(), ids=CHOICES)
def test_of_boxes_that_do_not_overlap(
    scores: list[float], current: int, settings: dict[str, float], wanted: list[int]
) -> None:
    boxes = grid(len(scores))
    assert choose(scores, boxes, boxes[current], **settings) == wanted


def test_of_several_near_boxes_the_best_scored_is_reserved() -> None:
    boxes = grid(4)
    boxes[1:3] = boxes[0] + np.array([[1, 0, 1, 0], [2, 0, 2, 0]], np.float32)
    assert choose([0.2, 0.3, 0.9, 0.8], boxes, boxes[0])[-1] == 2


def test_of_equally_scored_near_boxes_the_nearest_is_reserved() -> None:
    boxes = np.array([[2, 0, 42, 40], [0, 0, 40, 40], [1, 0, 41, 40], [0, 0, 40, 40]], np.float32)
    overlaps = np.array([0.9, 1.0, 0.95, 1.0], np.float32)
    assert reserve_near(np.full(4, 0.5, np.float32), overlaps, 0.8) == 1
    assert choose([0.5] * 4, boxes, np.array([0, 0, 40, 40], np.float32))[-1] == 1


def test_without_near_boxes_the_largest_overlap_is_reserved() -> None:
    boxes = grid(3)
    current = np.array([120, 0, 160, 40], np.float32)
    assert choose([0.9, 0.1, 0.8], boxes, current)[-1] == 1


def test_the_reserved_box_is_neither_floored_nor_suppressed() -> None:
    boxes = np.array([[0, 0, 40, 40], [1, 0, 41, 40], [300, 0, 340, 40]], np.float32)
    assert choose([0.01, 0.99, 0.98], boxes, np.array([0, 0, 40, 40], np.float32), near_iou=0.99) == [1, 2, 0]


@pytest.mark.parametrize("count", [1, 2, 5, 64])
def test_there_are_never_more_than_asked_for(count: int) -> None:
    found = choose([0.5] * 100, grid(100), grid(100)[50], num_candidates=count)
    assert len(found) == len(set(found)) == count


def test_boxes_that_are_not_finite_do_not_stop_it() -> None:
    boxes = grid(4)
    boxes[2] = np.nan
    assert choose([0.9, 0.8, 0.7, 0.6], boxes, grid(4)[0]) == [1, 2, 3, 0]


def test_a_zero_best_score_is_kept() -> None:
    assert len(choose([0.0] * 4, grid(4), grid(4)[0])) == 4
