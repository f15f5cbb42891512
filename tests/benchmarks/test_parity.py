"""``spm-bench parity``: passes where it should, and fails where anything at all is off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_bench.cli import main
from spm_bench.recorded.checks import Checks

RECORDED = Path(__file__).parents[1] / "data" / "parity"


def _score(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["parity", *arguments, "--json", "--quiet"])
    return code, json.loads(capsys.readouterr().out)


def _failed(report: dict[str, Any], file: str) -> list[str]:
    return [name for name, check in report["sets"][file]["arrays"].items() if not check["passed"]]


def test_bundle_agrees_with_the_recorded_sets(synthetic_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(RECORDED / name) for name in ("noise.npz", "ops.npz")]
    code, report = _score(capsys, str(synthetic_bundle), "--reference", *files)
    assert [_failed(report, Path(f).name) for f in files] == [[], []]
    assert (code, report["passed"]) == (0, True)
    seen = set(report["sets"]["noise.npz"]["arrays"])
    assert {
        "crop",
        "crop_fast",
        "cm_scores",
        "prop_index",
        "fm_scores",
        "box_out",
        "tracker track",
        "track_chosen",
        "logits",
        "deltas",
        "fm_logits",
        "conv2",
        "conv4",
        "kcls",
    } <= seen
    assert {"nms", "prop0_index", "update", "anchors", "decode_fine"} <= set(report["sets"]["ops.npz"]["arrays"])


def test_reference_agrees_with_the_recorded_sets(
    synthetic_checkpoint: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(RECORDED / name) for name in ("noise.npz", "ops.npz")]
    code, report = _score(
        capsys, "torch", "--checkpoint", *map(str, synthetic_checkpoint), "--threads", "1", "--reference", *files
    )
    assert code == 0
    assert {"kbox", "conv5"} <= set(report["sets"]["noise.npz"]["arrays"])
    assert {"crop_and_resize", "decode"} <= set(report["sets"]["ops.npz"]["arrays"])


def test_wrong_numbers_fail_and_only_they(
    synthetic_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last number of each of these arrays is moved by a little more than is allowed."""
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
    }
    with np.load(RECORDED / "noise.npz") as data:
        arrays = {name: data[name].copy() for name in data.files}
    for name, move in moves.items():
        arrays[name].reshape(-1)[-1] += np.asarray(move, arrays[name].dtype)
    np.savez(tmp_path / "noise.npz", **arrays)
    code, report = _score(capsys, str(synthetic_bundle), "--reference", str(tmp_path / "noise.npz"))
    assert code == 1
    assert set(_failed(report, "noise.npz")) == {
        "init_conv2",
        "kcls",
        "crop",
        "crop_fast",
        "logits",
        "cm_scores",
        "cm_boxes",
        "prop_index",
        "prop_image",
        "fm_deltas",
        "fm_scores",
        "chosen",
        "final_scores",
        "box_out",
        "tracker box_out",
        "track",
        "tracker track",
    }


@pytest.mark.parametrize("array", ["updated", "scale"])
def test_one_wrong_number_is_enough(
    synthetic_checkpoint: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], array: str
) -> None:
    with np.load(RECORDED / "noise.npz") as data:
        arrays = {name: data[name].copy() for name in data.files}
    arrays[array][0] = not arrays[array][0] if array == "updated" else arrays[array][0] * (1 + 1e-8)
    np.savez(tmp_path / "noise.npz", **arrays)
    code, report = _score(
        capsys,
        "torch",
        "--checkpoint",
        *map(str, synthetic_checkpoint),
        "--threads",
        "1",
        "--reference",
        str(tmp_path / "noise.npz"),
    )
    assert (code, _failed(report, "noise.npz")) == (1, [array])


def test_a_wrong_operator_fails(synthetic_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(RECORDED / "ops.npz") as data:
        arrays = {name: data[name] for name in data.files}
    arrays["nms_keep_sorted"] = arrays["nms_keep_sorted"][::-1]
    np.savez(tmp_path / "ops.npz", **arrays)
    code, report = _score(capsys, str(synthetic_bundle), "--reference", str(tmp_path / "ops.npz"))
    assert (code, _failed(report, "ops.npz")) == (1, ["nms"])


def test_other_weights_fail_with_a_hint(default_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parity", str(default_bundle), "--reference", str(RECORDED / "noise.npz"), "--quiet"]) == 1
    printed = capsys.readouterr().out
    assert "noise.npz: FAILED" in printed
    assert "exported from the checkpoint" in printed


def test_frames_are_taken_from_the_set_beside(
    synthetic_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lonely = tmp_path / "config.npz"
    lonely.write_bytes((RECORDED / "config.npz").read_bytes())
    assert main(["parity", str(synthetic_bundle), "--reference", str(lonely)]) == 1
    assert "no shapes.npz beside it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), (b"nothing", "not a readable .npz"), (b"", "not a readable .npz")]
)
def test_unreadable_references(
    synthetic_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, message: str
) -> None:
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    assert main(["parity", str(synthetic_bundle), "--reference", str(path)]) == 1
    assert message in capsys.readouterr().err


def test_foreign_arrays_are_refused(synthetic_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "x.npz", frames_delta=np.zeros((2, 8, 8, 3), np.uint8))
    assert main(["parity", str(synthetic_bundle), "--reference", str(tmp_path / "x.npz")]) == 1
    assert "it lacks init_box" in capsys.readouterr().err


def test_the_same_backend_gives_the_same_boxes(default_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = _score(
        capsys, "torch", "onnxruntime", "--bundle", str(default_bundle), "--frames", "5", "--threads", "1"
    )
    assert (code, report["passed"]) == (0, True)
    assert report["overall"]["mean_iou"] > 0.9999
    assert report["overall"]["frames"] == 4


def test_a_shifted_start_shows_in_the_free_run_alone(default_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for shift, differs in (("0", False), ("1", True)):
        code, report = _score(
            capsys,
            "onnxruntime",
            "onnxruntime",
            "--bundle",
            str(default_bundle),
            "--frames",
            "3",
            "--shift",
            shift,
            "--threads",
            "1",
        )
        assert code == 0
        assert report["overall"]["mean_iou"] == pytest.approx(1, abs=1e-12)
        assert (report["overall"]["free_iou"] < 0.9999) == differs


def test_different_weights_give_different_boxes(
    default_bundle: Path, synthetic_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = _score(capsys, str(default_bundle), str(synthetic_bundle), "--frames", "5", "--threads", "1")
    assert (code, report["passed"]) == (1, False)
    assert report["overall"]["mean_iou"] < 0.999


def test_wrong_numbers_of_subjects(default_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parity", str(default_bundle)]) == 1
    assert "two subjects" in capsys.readouterr().err
    assert main(["parity", "torch", "torch", "--reference", str(RECORDED / "noise.npz")]) == 1
    assert "one subject" in capsys.readouterr().err


def test_checks_see_everything_that_can_be_wrong() -> None:
    wanted = np.array([1.0, np.nan, np.inf, 0.0])
    checks = Checks()
    checks.close("same", wanted, wanted, 1e-9)
    checks.close("just inside", wanted + np.array([0.1, 0, 0, 0]), wanted, 0.11)
    assert checks.passed
    for name, found in (
        ("far", wanted + np.array([0.2, 0, 0, 0])),
        ("nan", np.array([np.nan, np.nan, np.inf, 0.0])),
        ("number for nan", np.array([1.0, 1.0, np.inf, 0.0])),
        ("sign", wanted * [1, 1, -1, 1]),
        ("shape", wanted[:3]),
    ):
        checks = Checks()
        checks.close(name, found, wanted, 0.11)
        assert not checks.passed, name
    checks = Checks()
    checks.exact("order", [1, 2], [2, 1])
    assert not checks.passed
    assert not Checks().passed  # nothing compared is not a success
