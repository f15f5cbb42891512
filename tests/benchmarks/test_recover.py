"""Targets that are lost on purpose: what the clips show, and what is made of a tracker's way through them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from spm_bench.quality import challenges as made
from spm_bench.quality import recovery as ways
from spm_bench.quality.challenges import AFTER, AWAY, DISTANCE, LEAD, Challenge, back_and_forth, challenges, longest_run
from spm_bench.quality.recovery import Course, figures
from spm_rt.media.datasets import Sequence

from ..support.bench import bench_error, bench_report
from ..support.media.clips import write_packed

SIDE, BOX = 60, (10.0, 20.0, 16.0, 12.0)


def clip(name: str, level: int, frames: int = 13, target: int = 250) -> Sequence:
    """A bright target on a grey background that has a level for each frame."""

    def read(index: int) -> np.ndarray:
        picture = np.full((SIDE, SIDE, 3), level + index, np.uint8)
        picture[20:32, 10:26] = target
        return picture

    return Sequence(name, np.tile(BOX, (frames, 1)), read)


def seen(challenge: Challenge, index: int, box: tuple[float, ...] = BOX) -> np.ndarray:
    x, y, width, height = (round(v) for v in box)
    return challenge.read(index)[y : y + height, x : x + width]


def test_the_target_is_seen_where_its_box_is_and_nowhere_while_it_has_none() -> None:
    by_kind = {challenge.kind: challenge for challenge in challenges([clip("a", 10)], [clip("b", 100, target=100)])}
    for kind, challenge in by_kind.items():
        assert challenge.again == LEAD + AWAY[kind]
        assert len(challenge.boxes) == challenge.again + AFTER
        for index, box in enumerate(challenge.boxes):
            if np.isfinite(box).all():
                assert (seen(challenge, index, tuple(box)) == 250).all(), (kind, index)
            else:
                assert (challenge.read(index)[:, : SIDE + DISTANCE] < 250).all(), (kind, index)
    moved = {kind: float(challenge.boxes[-1, 0] - BOX[0]) for kind, challenge in by_kind.items()}
    assert moved == {"jump": DISTANCE, "leave": DISTANCE, "hide": 0}
    frame = by_kind["jump"].read(3)
    assert frame.shape == (SIDE, SIDE + DISTANCE, 3)
    assert (frame[0, 0, 0], frame[0, SIDE + 5, 0]) == (13, 103)


def test_clips_are_played_back_and_forth_and_need_boxes_in_a_row() -> None:
    assert [back_and_forth(k, 4) for k in range(8)] == [0, 1, 2, 3, 2, 1, 0, 1]
    assert longest_run(np.array([0, 1, 0, 1, 1, 0, 1, 1], bool)) == (3, 5)
    assert longest_run(np.zeros(3, bool)) == (0, 0)
    assert challenges([clip("short", 10, 11), clip("long", 20, 12)])[0].clip == "long"


def course(states: str, overlaps: list[float], kind: str = "jump") -> Course:
    """States by their first letters, from the last frame before the loss on; the target is seen again at once."""
    names = {"t": "tracked", "u": "unsure", "l": "lost", "f": "found again"}
    before = LEAD - 2
    challenge = Challenge("a", kind, np.zeros((LEAD + len(overlaps) - 1, 4)), LEAD, lambda _: np.zeros(0, np.uint8))
    every = np.array([1.0] * before + overlaps)
    return Course(challenge, every, tuple(names[s] for s in "t" * before + states), every)


def test_figures_by_hand() -> None:
    again = course("tllft", [0.9, 0.0, 0.0, 0.6, 0.7])
    wrong = course("tlltl", [0.9, 0.0, 0.0, 0.1, 0.1])
    unnoticed = course("ttttt", [0.9, 0.0, 0.0, 0.0, 0.0])
    unsaid = course("tluuu", [0.9, 0.0, 0.9, 0.9, 0.9])
    never_tracked = course("ttttt", [0.4, 0.9, 0.9, 0.9, 0.9])
    assert (again.frames_needed, unsaid.frames_needed) == (3, None)
    assert figures([again, wrong, unnoticed, unsaid, never_tracked]) == {
        "challenges": 4,
        "lost_before": 1,
        "found_again": 0.25,
        "median_frames": 3.0,
        "claims": 2,
        "false_claims": 0.5,
        "false_frames": pytest.approx(5 / 16),
    }
    assert figures([])["found_again"] is None


def test_lost_on_purpose_by_the_command(tmp_path: Path, default_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {"AFTER": 2, "AWAY": {"jump": 0, "leave": 1, "hide": 1}, "DISTANCE": 60}
    for module, changes in ((made, {**short, "LEAD": 4}), (ways, {"LEAD": 4})):
        for name, value in changes.items():
            monkeypatch.setattr(module, name, value)
    clips, options = write_packed(tmp_path / "packed", 12), ("--bundle", default_bundle, "--threads 1 --recover")
    report = bench_report("lost", clips, *options, "--out", tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "recovered.csv").open()))
    assert [(row["tracker"], row["kind"]) for row in rows] == [(t, k) for t in report["trackers"] for k in made.KINDS]
    for name, kinds in report["trackers"].items():
        mine = [row for row in rows if row["tracker"] == name and row["followed_until_lost"] == "1"]
        assert sum(int(row["times_sure_again"]) for row in mine) == kinds["all"]["claims"]
    assert report["clips"] == ["patch/0"]
    for kinds in report["trackers"].values():
        counts = {kind: row["challenges"] + row["lost_before"] for kind, row in kinds.items()}
        assert counts == {"jump": 1, "leave": 1, "hide": 1, "all": 3}
    assert list(report["cost"]) == ["ratio", "lower", "upper", "frames"]
    assert "no clip has 12 frames" in bench_error("lost", write_packed(tmp_path / "short"), *options)
    # The name decides: with one in two, the other part has it.
    assert "no clip is among those" in bench_error("lost", clips, *options, "--held-out 1000003")
