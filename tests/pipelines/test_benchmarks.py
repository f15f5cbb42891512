"""The toolkits of benchmarks, in environments of theirs, run our tracker and come to our own figures."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from spm_bench.quality.metrics import overlap, score_boxes
from spm_rt import Tracker
from spm_rt.cli import main as track
from spm_rt.results import Box

from ..support.components.environments import python_of
from ..support.exports import Frames
from ..support.layers import ROOT

COUNT = 8
FAILURE = 4
"""A frame whose truth is elsewhere."""
Floats = NDArray[np.float64]
Follow = Callable[[int, Box], Floats]
INITIALIZATION, FAILED = 1, 2
"""Codes of the VOT toolkit."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, clip: Frames) -> list[Path]:
    """The clip's first frames."""
    folder = tmp_path_factory.mktemp("pictures")
    made = [folder / f"{k + 1:08d}.jpg" for k in range(COUNT)]
    for file, picture in zip(made, clip, strict=False):
        cv2.imwrite(str(file), picture)
    return made


@pytest.fixture(scope="module")
def follow(default_bundle: Path, files: list[Path]) -> Follow:
    """Boxes of a tracker of our own from a frame on, which it starts on."""
    tracker = Tracker.load(default_bundle, "onnxruntime", threads=1)
    frames = [cv2.imread(str(file)) for file in files]

    def follow(start: int, box: Box) -> Floats:
        tracker.init(frames[start], box)
        return np.array([box, *(tracker.update(frame).box for frame in frames[start + 1 :])])

    return follow


@pytest.fixture(scope="module")
def truth(follow: Follow, clip_box: Box) -> Floats:
    """Made-up true boxes: near those of the tracker, and once elsewhere."""
    boxes = np.round(follow(0, clip_box) + np.array([3, -2, 4, 0]), 2)
    boxes[0] = clip_box
    boxes[FAILURE] = 5, 5, 40, 40
    return boxes


def call(*words: object) -> str:
    """Standard output of a command."""
    done = subprocess.run([*map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def evaluate(
    name: str,
    environment: str,
    experiment: str,
    bundle: Path,
    folder: Path,
    files: list[Path],
    truth: Floats,
) -> dict[str, Any]:
    """A run of the VOT toolkit on a workspace of one sequence."""
    python = python_of(environment)
    color = folder / "sequences" / "rabbit" / "color"
    color.mkdir(parents=True)
    for file in files:
        (color / file.name).symlink_to(file)
    (folder / "sequences" / "list.txt").write_text("rabbit\n")
    (color.parent / "sequence").write_text("fps=30\nname=rabbit\n")
    np.savetxt(color.parent / "groundtruth.txt", truth, "%.2f", ",")
    call(python, ROOT / "examples" / "vot_workspace.py", bundle, folder, experiment)
    out = call(python, ROOT / "tests" / "support" / "components" / "vot_run.py", folder, name)
    found: dict[str, Any] = json.loads(out.splitlines()[-1])["baseline"]
    return found


@pytest.mark.parametrize("protocol", ["spm", "spm_trax"])
def test_vot_gets_our_boxes_and_overlaps(
    protocol: str, default_bundle: Path, tmp_path: Path, files: list[Path], truth: Floats, follow: Follow, clip_box: Box
) -> None:
    found = evaluate(protocol, "benchmarks", "unsupervised", default_bundle, tmp_path, files, truth)
    first, *boxes = found["boxes"]
    wanted = follow(0, clip_box)[1:]
    assert first == INITIALIZATION
    np.testing.assert_allclose(np.array(boxes), wanted, atol=0.001)
    # The toolkit's overlaps are of whole pixels.
    np.testing.assert_allclose(found["overlaps"], overlap(np.round(wanted), np.round(truth[1:])), atol=0.001)


def test_a_supervised_run_of_vot_begins_again_behind_a_failure(
    default_bundle: Path, tmp_path: Path, files: list[Path], truth: Floats, follow: Follow, clip_box: Box
) -> None:
    found = evaluate("spm_trax", "vot_supervised", "supervised", default_bundle, tmp_path, files, truth)
    again = FAILURE + 1
    codes = {k: code for k, code in enumerate(found["boxes"]) if not isinstance(code, list)}
    assert codes == {0: INITIALIZATION, FAILURE: FAILED, again: INITIALIZATION}
    np.testing.assert_allclose(np.array(found["boxes"][1:FAILURE]), follow(0, clip_box)[1:FAILURE], atol=0.01)
    np.testing.assert_allclose(np.array(found["boxes"][again + 1 :]), follow(again, tuple(truth[again]))[1:], atol=0.01)


def write_otb(folder: Path, files: list[Path], truth: Floats) -> None:
    """The set tb50, of whose sequences one is not empty."""
    code = "from got10k.datasets import OTB; print(*OTB._OTB__tb50_seqs)"
    for name in call(python_of("benchmarks"), "-c", code).split():
        (folder / name / "img").mkdir(parents=True)
    for file in files:
        (folder / "Girl" / "img" / file.name).symlink_to(file)
    np.savetxt(folder / "Girl" / "groundtruth_rect.txt", truth, "%.2f", ",")


def write_got10k(folder: Path, files: list[Path], truth: Floats) -> None:
    """A validation set of one clip."""
    clip = folder / "val" / "GOT-10k_Val_000001"
    clip.mkdir(parents=True)
    (folder / "val" / "list.txt").write_text(f"{clip.name}\n")
    for file in files:
        (clip / file.name).symlink_to(file)
    np.savetxt(clip / "groundtruth.txt", truth, "%.2f", ",")
    (clip / "meta_info.ini").write_text("[METAINFO]\nresolution: (640, 360)\n")
    for name, value in {"cover": 8, "absence": 0, "cut_by_image": 0}.items():
        np.savetxt(clip / f"{name}.label", np.full(len(truth), value), "%d")


def test_got10k_comes_to_our_figures(
    default_bundle: Path, tmp_path: Path, files: list[Path], truth: Floats, follow: Follow, clip_box: Box
) -> None:
    python = python_of("benchmarks")
    write_otb(tmp_path / "otb", files, truth)
    write_got10k(tmp_path / "got10k", files, truth)
    sets = [f"otb={tmp_path / 'otb'}", f"got10k={tmp_path / 'got10k'}"]
    out = call(python, ROOT / "examples" / "got10k_experiments.py", default_bundle, tmp_path / "out", *sets)
    otb, got10k = (json.loads(line) for line in out.splitlines() if line.startswith("{"))
    ours = score_boxes(follow(0, clip_box), truth)
    assert otb["success_score"] == pytest.approx(ours.auc, abs=0.001)
    assert otb["precision_score"] == pytest.approx(ours.precision, abs=0.001)
    assert otb["success_rate"] == pytest.approx(ours.success_rate, abs=0.001)
    overlaps = overlap(follow(0, clip_box)[1:], truth[1:])
    assert got10k["ao"] == pytest.approx(overlaps.mean(), abs=0.001)


READ = """
import json, sys
import motmetrics, numpy
table = motmetrics.io.loadtxt(sys.argv[1], fmt="mot15-2D", min_confidence=-1)
kept = table.reset_index()[["FrameId", "Id", "X", "Y", "Width", "Height", "Confidence"]]
print(json.dumps(kept.to_numpy().tolist()))
"""


def test_motmetrics_reads_what_spm_track_writes(
    default_bundle: Path, tmp_path: Path, files: list[Path], follow: Follow, clip_box: Box
) -> None:
    box = ",".join(map(str, clip_box))
    words = [str(files[0].parent), "--box", f"rabbit={box}", "--box", f"again={box}", "--bundle", str(default_bundle)]
    words += ["--backend", "onnxruntime", "--threads", "1", "--mot", str(tmp_path / "mot.txt"), "--quiet"]
    assert track([*words]) == 0
    rows = np.array(json.loads(call(python_of("benchmarks"), "-c", READ, tmp_path / "mot.txt")))
    assert rows[:, :2].tolist() == [[k + 1, target] for k in range(COUNT) for target in (1, 2)]
    # The toolkit counts pixels from 0, files of the challenge from 1.
    np.testing.assert_allclose(rows[rows[:, 1] == 1, 2:6], follow(0, clip_box), atol=0.01)


def test_got10k_reads_what_spm_track_writes_for_otb(
    default_bundle: Path, tmp_path: Path, files: list[Path], truth: Floats, follow: Follow, clip_box: Box
) -> None:
    write_otb(tmp_path / "otb", files, truth)
    table = tmp_path / "otb" / "Girl" / "groundtruth_rect.txt"
    words = [str(files[0].parent), "--box", ",".join(map(str, clip_box)), "--bundle", str(default_bundle), "--quiet"]
    assert track([*words, "--backend", "onnxruntime", "--threads", "1", "--otb", str(table)]) == 0
    code = "import sys; from got10k.datasets import OTB\nprint(OTB(sys.argv[1], 'tb50', False)['Girl'][1].tolist())"
    boxes = np.array(json.loads(call(python_of("benchmarks"), "-c", code, tmp_path / "otb").splitlines()[-1]))
    # Files of OTB count pixels from 1.
    np.testing.assert_allclose(boxes, follow(0, clip_box) + np.array([1, 1, 0, 0]), atol=0.01)
