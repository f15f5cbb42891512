"""``spm-bench accuracy``, ``lost`` and ``ablate`` on small clips, with trackers whose figures are known."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from spm_bench.commands.lost import analyse
from spm_bench.loading import load_clip
from spm_bench.quality.metrics import caught_at
from spm_bench.quality.samples import Sample, played
from spm_rt.errors import SourceError
from spm_rt.media.datasets import Sequence

from ..support.bench import bench_error, bench_report, spm_bench
from ..support.media.clips import box, write_got10k, write_otb, write_packed
from ..support.media.layouts import otb

TRACKERS = """
class Perfect:
    def init(self, frame, box):
        self.box = list(box)

    def update(self, frame):
        self.box[0] += 2
        self.box[1] += 1
        return self.box, 0.9


class Still:
    def __init__(self, score="0.5"):
        self.score = float(score)

    def init(self, frame, box):
        self.box = box

    def update(self, frame):
        return self.box, self.score


class Broken(Still):
    def update(self, frame):
        raise ValueError("out of luck")
"""


def are_pictures(*paths: Path) -> bool:
    return all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of trackers with known figures."""
    (tmp_path / "known_trackers.py").write_text(TRACKERS)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("known_trackers", None)
    return "known_trackers"


def test_what_is_left_out_of_a_data_set_is_said(tmp_path: Path, known: str) -> None:
    write_otb(tmp_path / "clips" / "a", 3)
    for number in range(12):
        (tmp_path / "clips" / f"empty{number}").mkdir()
        (tmp_path / "clips" / f"empty{number}" / "1.png").write_bytes(b"")
    ran = spm_bench("accuracy", tmp_path / "clips", f"--tracker {known}:Still --json --quiet")
    report = json.loads(ran.out)
    assert report["left_out"] == [f"empty{number}: pictures without boxes" for number in range(12)]
    assert report["clips"] == ["a"]
    said = [f"left out: {line}" for line in report["left_out"][:10]]
    assert ran.error.splitlines() == [*said, "left out: 2 more"]


def test_a_clip_without_a_box_is_a_sequence_of_a_data_set(tmp_path: Path) -> None:
    otb("Football1", range(1, 75), range(1, 82))(tmp_path)
    otb("David", range(300, 771), range(295, 771))(tmp_path)
    frames, first_box, name = load_clip(str(tmp_path / "David"), None, 3)
    assert [int(frame[0, 0, 0]) + 256 * int(frame[0, 0, 1]) for frame in frames] == [300, 301, 302]
    assert (first_box, name) == ((300, 1, 5, 4), "David")
    with pytest.raises(SourceError, match=r"needs --box X,Y,W,H, .* or one sequence of its 2"):
        load_clip(str(tmp_path), None)


def test_known_trackers(tmp_path: Path, known: str) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_otb(clips / "a", 6)
    write_got10k(clips / "b", 4, absent=(3,))
    report = bench_report("accuracy", clips, "--out", out, f"--tracker best={known}:Perfect {known}:Still:0.25")
    assert list(report["trackers"]) == ["best", "Still:0.25"]
    best, still = report["trackers"].values()
    assert best["auc"] == pytest.approx(20 / 21)
    assert (best["precision"], best["norm_precision"]) == (1, 1)
    assert {"auc", "precision", "norm_precision", "fps", "frames"} <= set(best["clips"]["a"])
    assert best["clips"]["b"]["frames"] == 3
    # The target moves by (2, 1) a frame: 28 x 23 of 30 x 24 after one, and so on.
    overlaps = [(30 - 2 * k) * (24 - k) / (2 * 720 - (30 - 2 * k) * (24 - k)) for k in range(6)]
    wanted = [np.mean(np.array(overlaps[:n])[:, None] > np.linspace(0, 1, 21)) for n in (6, 3)]
    assert [still["clips"][name]["auc"] for name in "ab"] == pytest.approx(wanted)
    assert still["auc"] == pytest.approx(np.mean(wanted))
    assert are_pictures(out / "success.png", out / "precision.png")
    assert json.loads((out / "results.json").read_text())["trackers"] == report["trackers"]
    written = np.loadtxt(out / "boxes" / "Still_0.25" / "a.txt", delimiter=",")
    assert written.tolist() == [list(box(0))] * 6


def test_first_and_true_boxes_may_be_grown(tmp_path: Path, known: str) -> None:
    write_otb(tmp_path / "a", 6)
    report = bench_report("accuracy", tmp_path, f"--box-scale 2 --tracker {known}:Still")
    overlaps = np.array([(60 - 2 * k) * (48 - k) / (2 * 2880 - (60 - 2 * k) * (48 - k)) for k in range(6)])
    assert report["trackers"]["Still"]["auc"] == pytest.approx(np.mean(overlaps[:, None] > np.linspace(0, 1, 21)))
    assert report["box_scale"] == 2


def test_own_trackers_in_all_modes(tmp_path: Path, default_bundle: Path) -> None:
    write_otb(tmp_path / "a", 4)
    words = "--modes --threads 1 --backend onnxruntime torch --bundle"
    report = bench_report("accuracy", tmp_path, words, default_bundle)
    names = list(report["trackers"])
    assert names == [f"{b} {m}" for b in ("onnxruntime", "torch") for m in ("series-parallel", "series", "coarse")]
    for mode in ("series-parallel", "series", "coarse"):
        a, b = (report["trackers"][f"{backend} {mode}"]["auc"] for backend in ("onnxruntime", "torch"))
        assert a == pytest.approx(b, abs=0.003)
        assert a > 0.3


def test_opencv_tracker(tmp_path: Path) -> None:
    write_otb(tmp_path / "a", 4)
    report = bench_report("accuracy", tmp_path, "--opencv mil")
    assert report["trackers"]["mil"]["mean_iou"] > 0.3


def test_bad_requests(tmp_path: Path, known: str) -> None:
    clips = write_otb(tmp_path / "a", 3)
    for arguments, message in [
        ("--opencv best", "OpenCV tracker 'best' is unknown"),
        ("--tracker nonsense", "give NAME=module:callable"),
        ("--tracker no_such_module:X", "no_such_module cannot be imported"),
        (f"--tracker {known}:Missing", "has no Missing"),
        (f"--tracker {known}:Broken", "Broken failed on a: ValueError: out of luck"),
        ("--tracker x=collections:OrderedDict", "has no init and update"),
        (f"--tracker x={known}:Still x={known}:Perfect", "two trackers are named 'x'"),
        (f"--tracker {known}:Still --only b", "has no clip b"),
        (f"--bundle {tmp_path}", "manifest.json"),
    ]:
        assert message in bench_error("accuracy", clips, arguments), arguments


def _sample(score: float, overlap: float, source: str = "free run", switched: bool = False) -> Sample:
    return Sample("clip", 1, source, overlap, score, score, score, rival=0.0, switched=switched)


def test_lost_figures_by_hand() -> None:
    found = [_sample(score, 0.8) for score in (0.9, 0.8, 0.7, 0.5)]
    elsewhere = [_sample(0.2, 0.0, "other clip"), _sample(0.1, 0.19, "other clip")]
    lost = [_sample(0.6, 0.1), _sample(0.3, 0.0, "wrong place"), *elsewhere]
    report = analyse(found + lost, 0.25)
    assert (report["found"], report["lost"]) == (4, 4)
    assert report["lost_by_source"] == {"free run": 1, "wrong place": 1, "other clip": 2}
    score = report["measures"]["score"]
    assert score["auc_roc"] == pytest.approx(15 / 16)
    assert score["auc_roc_by_source"] == {"free run": 0.75, "wrong place": 1.0, "other clip": 1.0}
    # Over 0.65: three of four kept, all caught. Over 0.4: all kept, three of four caught. The stricter one comes first.
    assert score["threshold"] == pytest.approx(0.65)
    # Both are as good: the lowest step over 0.3 is taken.
    assert report["recommended_found_threshold"] == 0.31
    every, own = {"found_kept": 1.0, "lost_caught": 0.5}, {"own_kept": 1.0, "own_caught": 0.0}
    assert report["current"] == {"found_threshold": 0.25, **every, **own}
    # All four kept: over 0.5 three of four are caught, of the free runs' lost ones none.
    assert (score["caught_at"], score["own_caught_at"]) == (0.75, 0.0)
    with pytest.raises(SourceError, match="both kinds are needed"):
        analyse(found, 0.2)


def test_lost_frames_are_caught_below_what_keeps_a_share_of_the_found() -> None:
    scores, found = np.arange(1, 11) / 10, np.array([False, True, False, *[True] * 7])
    assert caught_at(scores, found, 1.0) == 0.5
    assert caught_at(scores, found, 0.87) == 1.0  # one of eight may go


def test_no_threshold_is_reached_after_a_switch() -> None:
    samples = [_sample(0.4, 0.8), _sample(0.9, 0.0, switched=True)]
    report = analyse(samples, 0.3)
    assert (report["current"]["found_kept"], report["current"]["own_caught"]) == (1.0, 1.0)
    assert report["measures"]["score"]["caught_at"] == 0


def test_clips_are_played_in_steps_both_ways_from_the_first_box_on() -> None:
    boxes = np.array([[index, 0.0, 1, 1] for index in range(7)])
    boxes[6] = np.nan
    clip = Sequence("clip", boxes, lambda index: np.full((1, 1, 3), index, np.uint8))
    assert played(clip, []) == [clip]
    shown = [[int(run.read(k)[0, 0, 0]) for k in range(len(run))] for run in played(clip, [1, 3])]
    assert shown == [[0, 1, 2, 3, 4, 5, 6], [5, 4, 3, 2, 1, 0], [0, 3, 6], [3, 0]]
    assert [run.first_box[0] for run in played(clip, [1, 3])] == [0, 5, 0, 3]


def test_lost_on_clips(tmp_path: Path, default_bundle: Path) -> None:
    out, clips = tmp_path / "out", write_packed(tmp_path / "packed")
    report = bench_report("lost", clips, "--bundle", default_bundle, "--forced 2 --steps 1 --threads 1 --out", out)
    # Two tracks of 6 and 5 frames, the second with a gap, both ways, and two frames of the other clip for each.
    assert report["frames"] >= 2 * (5 + 3) + 4
    assert report["lost_by_source"]["other clip"] == 4
    assert 0 <= report["recommended_found_threshold"] <= 1
    assert are_pictures(out / "lost_roc.png", out / "lost_scores.png")
    assert len((out / "lost.csv").read_text().splitlines()) == 1 + report["frames"]


def test_ablation(tmp_path: Path, default_bundle: Path, synthetic_checkpoint: tuple[Path, Path]) -> None:
    write_otb(tmp_path / "clips" / "a", 3)
    out = tmp_path / "out"
    plain = ("--plain-checkpoint", *synthetic_checkpoint)
    more = ("--proposals 1,3 --threads 1", *plain, "--out", out)
    report = bench_report("ablate", tmp_path / "clips", "--bundle", default_bundle, *more)
    assert list(report["modes"]) == ["series-parallel", "series", "coarse"] == list(report["plain_training"])
    assert list(report["proposals"]) == ["1", "3"]
    recall = report["recall"]["recall"]
    assert list(recall) == ["1", "3", "5", "9", "15"]
    for values in recall.values():
        assert values == sorted(values, reverse=True)
    means = list(report["recall"]["mean_best_overlap"].values())
    assert means[-1] >= means[0]
    assert are_pictures(out / "proposals.png", out / "recall.png")
