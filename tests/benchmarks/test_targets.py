"""``spm-bench targets``: the same targets followed in one call and apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_bench.report.files import MARK
from spm_bench.timing.several import Apart, Together, overlaps, spread_boxes
from spm_rt.trackers.checks import no_clock

from ..support.bench import bench_report
from ..support.fakes.backend import Shifted, bright_frame, bright_multi_tracker, bright_tracker

BOX = (45.0, 35.0, 30.0, 30.0)
FRAMES = [bright_frame(60 + k, 50) for k in range(5)]


def test_the_first_box_is_the_given_one() -> None:
    boxes = spread_boxes(BOX, 16)
    assert boxes[0] == BOX
    assert len(set(boxes)) == 16
    moved = np.abs(np.array(boxes) - BOX)
    assert moved[:, :2].max() <= 0.2 * 30
    assert not moved[:, 2:].any()


def test_both_ways_follow_the_same_targets() -> None:
    together, apart = Together(bright_multi_tracker(), 3), Apart(bright_tracker(), 3)
    for way in (together, apart):
        way.init(FRAMES[0], BOX)
        way.init(FRAMES[0], BOX)  # again: the old targets are gone
    assert len(together.tracker) == 3
    for frame in FRAMES[1:]:
        first = together.update(frame, clock=no_clock)
        assert apart.update(frame, clock=no_clock).box == pytest.approx(first.box, abs=1e-3)
    boxes = [together.tracker.box(number) for number in together.tracker.ids]
    np.testing.assert_allclose([tracker.box for tracker in apart.trackers], boxes, atol=1e-3)


def test_overlaps_tell_a_difference() -> None:
    boxes = spread_boxes(BOX, 2)
    multi = bright_multi_tracker()
    same = overlaps(bright_tracker(), multi, FRAMES, boxes)
    assert same.shape == (4, 2)
    assert same.min() > 0.9999
    assert len(multi) == 0

    shifted: Any = Shifted(bright_multi_tracker(), lambda box: (box[0] + 9, *box[1:]))
    assert overlaps(bright_tracker(), shifted, FRAMES, boxes).mean() < 0.95


def test_curve(default_bundle: Path, tmp_path: Path) -> None:
    words = "--backend onnxruntime --targets 2 --frames 2 --pause 0 --threads 1 --out"
    report = bench_report("targets", default_bundle, words, tmp_path / "out", status=1)
    assert "only 2 frames" in report["verdict"]["reasons"][0]
    assert [row["targets"] for row in report["curve"]] == [1, 2]  # one is always there: the others are judged by it
    one, two = report["curve"]
    assert one["apart_of_n_times_one"] == 1
    assert two["ms_per_target"] == pytest.approx(two["together"]["p50_ms"] / 2)
    assert two["of_n_times_one"] == pytest.approx(two["together"]["p50_ms"] / (2 * one["apart"]["p50_ms"]))
    assert two["together"]["forced_iou"] > 0.99999
    assert two["roofline"]["mmac"] == pytest.approx(2 * one["roofline"]["mmac"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MARK, "targets.json", "targets.png"]
