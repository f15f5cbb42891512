"""``spm-bench latency``: what is counted, and the shape of the report. No figure of time is judged here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_bench.options import Outcome
from spm_bench.timing import neighbours, turns
from spm_bench.timing.turns import FRAME_STEPS, Contestant, interleave, summarize
from spm_rt.results import TrackResult

from ..support.bench import bench_error, bench_outcome, spm_bench

FRAMES = [np.zeros((8, 8, 3), np.uint8)] * 5
BOX = (1.0, 1.0, 4.0, 4.0)


class FakeTracker:
    """Takes a known time in two stages, and writes down what it was asked for."""

    def __init__(self, name: str, log: list[str], seconds: float) -> None:
        self.name, self.log, self.seconds = name, log, seconds
        self.backend = self
        self.description = f"fake {name}"

    def init(self, frame: object, box: object) -> None:
        self.log.append(f"{self.name} init")

    def update(self, frame: object, clock: Callable[[str], None] = lambda stage: None) -> TrackResult:
        self.log.append(self.name)
        for stage in ("crop", "search"):
            time.sleep(self.seconds / 2)
            clock(stage)
        return TrackResult(BOX, 1.0, True, 1.0, 1.0, state="tracked")


def _contestants(log: list[str], *seconds: float) -> list[Contestant]:
    made = [FakeTracker("ab"[k], log, s) for k, s in enumerate(seconds)]
    starter: Any = Contestant.start
    return [starter(fake.name, lambda fake=fake: fake, FRAMES, BOX) for fake in made]


def test_turns_alternate_and_only_their_tails_count() -> None:
    log: list[str] = []
    contestants = _contestants(log, 0.0, 0.0)
    log.clear()
    interleave(contestants, 7, 4, 0.0, quiet=True)
    order = [name for name in log if "init" not in name]
    first, second = turns.UNCOUNTED + 4, turns.UNCOUNTED + 3
    assert order == ["a"] * first + ["b"] * first + ["b"] * second + ["a"] * second
    assert [len(c.times) for c in contestants] == [7, 7]
    assert [len(c.turns) for c in contestants] == [2, 2]


def test_the_clip_starts_over_with_its_template() -> None:
    log: list[str] = []
    (contestant,) = _contestants(log, 0.0)
    assert log.count("a") == 1 + turns.WARM_UP
    log.clear()
    interleave([contestant], 10, 10, 0.0, quiet=True)
    inits = [k for k, name in enumerate(log) if name == "a init"]
    assert inits  # 13 updates do not fit into a clip of 5 frames
    assert np.diff(inits).tolist() == [len(FRAMES)] * (len(inits) - 1)  # an init, then the four other frames


def test_frames_come_at_a_pace_and_the_wait_is_not_counted() -> None:
    contestants = _contestants([], 0.002)
    begin = time.perf_counter()
    interleave(contestants, 5, 5, 0.0, pace=50.0, quiet=True)
    assert time.perf_counter() - begin >= (turns.UNCOUNTED + 5 - 1) / 50
    assert np.median(contestants[0].times) < 0.02


def test_neighbours_are_there_until_the_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        neighbours, "BUSY", f"import os\nopen({str(tmp_path)!r} + f'/{{os.getpid()}}', 'w')\n{neighbours.BUSY}"
    )
    with neighbours.neighbours(2):
        while len(found := list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
        for path in found:
            os.kill(int(path.name), 0)
    for path in found:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


def test_something_may_happen_before_each_round() -> None:
    done: list[int] = []
    interleave(_contestants([], 0.0, 0.0), 7, 3, 0.0, quiet=True, between=done.append)
    assert done == [0, 3, 6]


def test_ratio_and_stages() -> None:
    contestants = _contestants([], 0.02, 0.005)
    interleave(contestants, 4, 2, 0.0, quiet=True)
    results = summarize(contestants)
    assert results["a"]["ratio"] == 1
    assert results["b"]["ratio"] == pytest.approx(results["a"]["p50_ms"] / results["b"]["p50_ms"])
    assert results["b"]["ratio"] > 1.5
    assert results["a"]["p50_ms"] >= 20
    stages = results["a"]["stages_ms"]
    assert tuple(stages) == FRAME_STEPS
    assert stages["crop"] >= 10
    assert stages["search"] >= 10
    assert stages["relation"] == 0
    assert stages["rest"] < 5
    assert 10 <= results["a"]["host_ms"] < 20  # crop and rest, not search
    assert results["a"]["p50_ms"] <= results["a"]["p90_ms"] <= results["a"]["p99_ms"]


@pytest.fixture(scope="module")
def outcome(default_bundle: Path) -> Outcome:
    words = "--backend onnxruntime --against torch --frames 3 --pause 0 --threads 1 --roofline"
    return bench_outcome("latency", default_bundle, words)


def test_report(outcome: Outcome) -> None:
    report = outcome.report
    assert not outcome.passed
    assert list(report["backends"]) == ["torch", "onnxruntime"]
    assert report["reference"] == "torch"
    for figures in report["backends"].values():
        assert {"fps", "p50_ms", "p90_ms", "p99_ms", "ratio", "stages_ms", "load_ms", "init_ms"} <= set(figures)
        assert "first_frame_ms" in figures
        assert set(figures["stages_ms"]) == set(FRAME_STEPS)
        assert figures["frames"] == 3
        assert sum(figures["stages_ms"].values()) == pytest.approx(figures["p50_ms"], rel=0.5)
        assert figures["same_boxes_iou"] > 0.9999
        assert figures["forced_iou"] > 0.9999
        assert figures["precision"] == "float32"
        assert figures["p99_over_p50"] == pytest.approx(figures["p99_ms"] / figures["p50_ms"])
        assert 0 < figures["host_ms"] < figures["p50_ms"]
    assert report["backends"]["torch"]["ratio"] == 1
    assert report["machine"]["threads"] >= 1
    assert {"numpy", "onnxruntime", "torch"} <= set(report["machine"]["libraries"])
    assert report["machine"]["cpu"]
    assert not report["verdict"]["valid"]
    assert "only 3 frames were counted" in report["verdict"]["reasons"][0]
    process = report["backends"]["onnxruntime"]["process"]
    assert process["libraries"] == ["onnxruntime"]
    assert process["import_s"] > 0
    assert process["load_s"] > 0
    assert 100 < process["peak_memory_mb"] < 1500
    assert report["backends"]["torch"]["process"] is None
    assert list(report["roofline"]["shares"]) == ["onnxruntime"]
    shares = report["roofline"]["shares"]["onnxruntime"]
    assert shares["frame"]["mmac"] == pytest.approx(shares["search"]["mmac"] + shares["relation"]["mmac"])
    assert 1500 < shares["frame"]["mmac"] < 4709  # less than the plain graphs: the fast ones are counted
    peak = report["roofline"]["peaks"]["float32"]["gmac_per_s"]
    assert shares["search"]["share"] == pytest.approx(shares["search"]["gmac_per_s"] / peak)


def test_table(outcome: Outcome) -> None:
    printed = outcome.text()
    assert printed.splitlines()[-1].startswith("INVALID: only 3 frames were counted")
    for word in ("fps", "p99 ms", "relation", "first frame ms", "host", "cores usable"):
        assert word in printed


def test_the_reference_must_have_the_bundles_weights(
    synthetic_bundle: Path, synthetic_checkpoint: tuple[Path, Path]
) -> None:
    message = bench_error("latency", synthetic_bundle, "--against torch --frames 2")
    assert "synthetic weights, which is not the shipped weights" in message
    assert "--checkpoint" in message
    words = "--against torch --frames 1 --pause 0 --quiet --no-process --threads 1 --checkpoint"
    ran = spm_bench("latency", synthetic_bundle, words, *synthetic_checkpoint)
    assert ran.status == 1
    assert "INVALID: only 1 frames" in ran.out
