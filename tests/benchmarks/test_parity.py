"""``spm-bench parity``: passes where it should, and fails where anything at all is off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_bench.recorded.checks import Checks

from ..support.bench import bench_error, spm_bench
from ..support.recorded import FOLDER, read_arrays


def _score(*words: str | Path) -> tuple[int, dict[str, Any]]:
    ran = spm_bench("parity", *words, "--json --quiet")
    return ran.status, json.loads(ran.out)


def _failed(report: dict[str, Any], file: str) -> list[str]:
    return [name for name, check in report["sets"][file]["arrays"].items() if not check["passed"]]


def test_bundle_agrees_with_the_recorded_sets(synthetic_bundle: Path) -> None:
    files = [FOLDER / name for name in ("noise.npz", "ops.npz")]
    code, report = _score(synthetic_bundle, "--reference", *files)
    assert [_failed(report, file.name) for file in files] == [[], []]
    assert (code, report["passed"]) == (0, True)
    seen = set(report["sets"]["noise.npz"]["arrays"])
    words = "crop crop_fast cm_scores prop_index fm_scores box_out track_chosen logits deltas fm_logits conv2 conv4"
    assert {*words.split(), "kcls", "tracker track"} <= seen
    assert {"nms", "prop0_index", "update", "anchors", "decode_fine"} <= set(report["sets"]["ops.npz"]["arrays"])


def test_reference_agrees_with_the_recorded_sets(synthetic_checkpoint: tuple[Path, Path]) -> None:
    files = [FOLDER / name for name in ("noise.npz", "ops.npz")]
    code, report = _score("torch --threads 1 --checkpoint", *synthetic_checkpoint, "--reference", *files)
    assert code == 0
    assert {"kbox", "conv5"} <= set(report["sets"]["noise.npz"]["arrays"])
    assert {"crop_and_resize", "decode"} <= set(report["sets"]["ops.npz"]["arrays"])


def test_wrong_numbers_fail_and_only_they(synthetic_bundle: Path, tmp_path: Path) -> None:
    """The last number of each of these arrays is moved by a little more than is allowed, and one decision is turned."""
    moves = {
        "init_conv2_samples": 1e9,
        "kcls_samples": 2e-5,
        "crop_samples": 3e-3,
        "logits": 2e-3,
        "cm_scores": 2e-4,
        "cm_boxes": 0.03,
        "prop_index": 1,
        "prop_image": 0.03,
        "fm_deltas": 2e-3,
        "fm_scores": 2e-4,
        "chosen": 1,
        "final_scores": 2e-4,
        "box_out": 0.03,
        "track": 0.2,
        "scale": 1e-7,
    }
    arrays = {name: array.copy() for name, array in read_arrays("noise").items()}
    for name, move in moves.items():
        arrays[name].reshape(-1)[-1] += np.asarray(move, arrays[name].dtype)
    arrays["updated"][0] = not arrays["updated"][0]
    np.savez(tmp_path / "noise.npz", **arrays)
    code, report = _score(synthetic_bundle, "--reference", tmp_path / "noise.npz")
    assert code == 1
    failed = set(moves) - {"init_conv2_samples", "kcls_samples", "crop_samples"}
    failed |= {"init_conv2", "kcls", "crop", "crop_fast", "updated", "tracker box_out", "tracker track"}
    assert set(_failed(report, "noise.npz")) == failed


def test_a_wrong_operator_fails(synthetic_bundle: Path, tmp_path: Path) -> None:
    arrays = read_arrays("ops")
    arrays["nms_keep_sorted"] = arrays["nms_keep_sorted"][::-1]
    np.savez(tmp_path / "ops.npz", **arrays)
    code, report = _score(synthetic_bundle, "--reference", tmp_path / "ops.npz")
    assert (code, _failed(report, "ops.npz")) == (1, ["nms"])


def test_other_weights_fail_with_a_hint(default_bundle: Path) -> None:
    ran = spm_bench("parity", default_bundle, "--quiet --reference", FOLDER / "noise.npz")
    assert ran.status == 1
    assert "noise.npz: FAILED" in ran.out
    assert "exported from the checkpoint" in ran.out


def test_frames_are_taken_from_the_set_beside(synthetic_bundle: Path, tmp_path: Path) -> None:
    lonely = tmp_path / "config.npz"
    lonely.write_bytes((FOLDER / "config.npz").read_bytes())
    assert "no shapes.npz beside it" in bench_error("parity", synthetic_bundle, "--reference", lonely)


def test_unreadable_references(synthetic_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    assert "no such file" in bench_error("parity", synthetic_bundle, "--reference", path)
    for content in (b"nothing", b""):
        path.write_bytes(content)
        assert "not a readable .npz" in bench_error("parity", synthetic_bundle, "--reference", path)
    np.savez(path, frames_delta=np.zeros((2, 8, 8, 3), np.uint8))
    assert "it lacks init_box" in bench_error("parity", synthetic_bundle, "--reference", path)


def test_the_same_backend_gives_the_same_boxes(default_bundle: Path) -> None:
    code, report = _score("torch onnxruntime --frames 5 --threads 1 --bundle", default_bundle)
    assert (code, report["passed"]) == (0, True)
    assert report["overall"]["mean_iou"] > 0.9999
    assert report["overall"]["frames"] == 4


def test_a_shifted_start_shows_in_the_free_run_alone(default_bundle: Path) -> None:
    for shift, differs in ((0, False), (1, True)):
        words = f"onnxruntime onnxruntime --frames 3 --threads 1 --shift {shift} --bundle"
        code, report = _score(words, default_bundle)
        assert code == 0
        assert report["overall"]["mean_iou"] == pytest.approx(1, abs=1e-12)
        assert (report["overall"]["free_iou"] < 0.9999) == differs


def test_different_weights_give_different_boxes(default_bundle: Path, synthetic_bundle: Path) -> None:
    code, report = _score(default_bundle, synthetic_bundle, "--frames 5 --threads 1")
    assert (code, report["passed"]) == (1, False)
    assert report["overall"]["mean_iou"] < 0.999


@pytest.mark.heavy
def test_recorded_data_score_one_subject() -> None:
    assert "one subject" in bench_error("parity torch torch --reference", FOLDER / "noise.npz")


def test_checks_see_everything_that_can_be_wrong() -> None:
    wanted = np.array([1.0, np.nan, np.inf, 0.0])
    checks = Checks()
    checks.close("same", wanted, wanted, 1e-9)
    checks.close("just inside", wanted + np.array([0.1, 0, 0, 0]), wanted, 0.11)
    assert checks.passed
    for name, computed in (
        ("far", wanted + np.array([0.2, 0, 0, 0])),
        ("nan", np.array([np.nan, np.nan, np.inf, 0.0])),
        ("number for nan", np.array([1.0, 1.0, np.inf, 0.0])),
        ("sign", wanted * [1, 1, -1, 1]),
        ("shape", wanted[:3]),
    ):
        checks = Checks()
        checks.close(name, computed, wanted, 0.11)
        assert not checks.passed, name
    checks = Checks()
    checks.exact("order", [1, 2], [2, 1])
    assert not checks.passed
    assert not Checks().passed  # nothing compared is not a success
