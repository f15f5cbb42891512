"""When a measurement may be quoted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spm_bench.timing.turns import Contestant, turn_spread
from spm_bench.timing.verdict import ENOUGH_FRAMES, LEAST_IOU, same_boxes, verdict_line, verdict_of
from spm_rt.settings import TrackerSettings

from ..support.fakes.backend import bright_frame, bright_tracker

GOOD: dict[str, Any] = {"frames": ENOUGH_FRAMES, "forced_iou": 1.0, "precision": "float32", "turn_spread": 0.02}


def test_a_good_run_is_valid() -> None:
    assert verdict_of({"a": GOOD, "b": GOOD}, 0.01) == []
    assert verdict_line([]) == "VALID"


@pytest.mark.parametrize(
    ("change", "spread", "word"),
    [
        ({"frames": ENOUGH_FRAMES - 1}, 0.01, "only 49 frames"),
        ({"forced_iou": 0.998}, 0.01, "b finds other boxes"),
        ({"forced_iou": float("nan")}, 0.01, "b finds other boxes"),
        ({"forced_iou": 0.97, "precision": "bfloat16"}, 0.01, "0.98 is needed for bfloat16"),
        ({"forced_iou": 0.99, "precision": "another"}, 0.01, "b finds other boxes"),
        ({"turn_spread": 0.5}, 0.01, "the turns of b spread by 50%"),
        ({}, 0.3, "matrix product spread by 30%"),
    ],
)
def test_each_fault_is_named(change: dict[str, Any], spread: float, word: str) -> None:
    reasons = verdict_of({"a": GOOD, "b": GOOD | change}, spread)
    assert len(reasons) == 1
    assert word in reasons[0]
    assert verdict_line(reasons).startswith("INVALID: ")


def test_lower_precisions_may_differ_more() -> None:
    assert verdict_of({"a": GOOD | {"forced_iou": 0.99, "precision": "bfloat16"}}, 0.0) == []
    assert LEAST_IOU["int8"] < LEAST_IOU["bfloat16"] < LEAST_IOU["float32"] < 1


def test_where_drift_is_the_question_float32_alone_is_held_to_it() -> None:
    results = {"a": GOOD, "b": GOOD | {"forced_iou": 0.5, "precision": "bfloat16"}}
    assert verdict_of(results, 0.0, ("float32",)) == []
    assert len(verdict_of(results | {"a": GOOD | {"forced_iou": 0.5}}, 0.0, ("float32",))) == 1


def test_same_boxes() -> None:
    frames = [bright_frame(60 + 2 * k, 50) for k in range(6)]
    box = (45.0, 35.0, 30.0, 30.0)
    assert same_boxes(bright_tracker(), bright_tracker(), frames, box) == 1.0
    slow = bright_tracker(TrackerSettings(size_rate=0.01))
    assert same_boxes(bright_tracker(), slow, frames, box) < LEAST_IOU["float32"]


def test_turn_spread() -> None:
    tracker = bright_tracker()
    frames = [np.zeros((8, 8, 3), np.uint8)]
    contestant = Contestant("a", tracker, frames, (1, 1, 4, 4), 0, 0, 0, turns=[1.0, 2.0, 3.0, 4.0, 5.0])
    assert turn_spread(contestant) == pytest.approx(2 / 3)
