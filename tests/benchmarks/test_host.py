"""``spm-bench host``."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from spm_bench.commands.host import box_at, frame_size
from spm_bench.options import Outcome

from ..support.bench import bench_outcome


@pytest.fixture(scope="module")
def outcome(default_bundle: Path) -> Outcome:
    return bench_outcome("host", default_bundle, "--sizes 320x240 500x400 --targets 30 900 --frames 2")


def test_every_size_and_target_has_a_row(outcome: Outcome) -> None:
    report = outcome.report
    assert [(row["frame"], row["target"], row["place"]) for row in report["rows"]] == [
        (size, target, place)
        for size in ("320x240", "500x400")
        for target, place in ((30, "middle"), (900, "middle"), (30, "corner"))
    ]
    for row in report["rows"]:
        parts = row["crop_ms"] + row["proposals_ms"] + row["fusion_ms"] + row["rest_ms"]
        assert 0 < row["crop_ms"] < row["host_ms"]
        assert row["host_ms"] == pytest.approx(parts, rel=0.5)


def test_the_table_is_for_people(outcome: Outcome) -> None:
    printed = outcome.text()
    assert "320x240" in printed
    assert "corner" in printed


def test_boxes_fit_the_frame() -> None:
    assert box_at((640, 480), 100, "middle") == (270, 190, 100, 100)
    assert box_at((640, 480), 500, "corner") == (0, 0, 500, 480)


@pytest.mark.parametrize("text", ["640", "x480", "640x", "axb", "1x1"])
def test_sizes_are_width_and_height(text: str) -> None:
    assert frame_size("640x480") == (640, 480)
    with pytest.raises(argparse.ArgumentTypeError):
        frame_size(text)
