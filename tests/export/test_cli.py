"""``spm-export``: usage, exit status, JSON, and both directions of conversion."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import pytest

import spm_export.bundle as exporter
import spm_export.cli as cli
import spm_export.proof.verification as verification
from spm_export.cli import DEMO_BOX, main
from spm_export.model.checkpoint import checkpoint_digest, default_weights, expected_weights, load_model
from spm_export.model.network import SPMTracker
from spm_export.proof.compare import TensorCheck
from spm_rt import Bundle

from ..support.exports import UNVERIFIED, Frames, copy_graphs, verify_quickly

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def pictures(tmp_path: Path, clip: Frames, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that make an export quick: a few pictures to verify on, and one input."""
    verify_quickly(monkeypatch, slice(1), ["portable"])
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, frame in enumerate(clip[:3]):
        cv2.imwrite(str(folder / f"{i}.png"), frame)
    return ["--clip", str(folder), "--box", ",".join(str(v) for v in DEMO_BOX)]


def usage_error(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_help_explains_itself(capsys: Capture) -> None:
    assert usage_error("--help") == 0
    printed = capsys.readouterr().out
    for part in ("cm_stage.pt", "--opset", "--targets", "--json", "--save-checkpoint", "examples:", "Exit status"):
        assert part in printed
    for part in ("--engine", "--compute-capability", "--cache", "--refuse-stale", "docs/guide/engines.md"):
        assert part in printed


def test_help_needs_no_torch() -> None:
    code = (
        "import sys\nfrom spm_export.cli import make_parser\nmake_parser().format_help()\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["cm_stage.pt", "fm_stage.pt"],
        ["--out"],
        ["--out", "b", "--mode", "parallel"],
        ["--out", "b", "--targets", "0"],
        ["--out", "b", "--targets", "1,two"],
        ["--out", "b", "--targets", "65"],
        ["--out", "b", "--box", "1,2,3"],
        ["--out", "b", "--box", "a,b,c,d"],
        ["--out", "b", "--opset", "new"],
        ["--out", "b", "--crop", "0"],
        ["--save-checkpoint", "folder", "--crop", "239"],
        ["--out", "b", "--nonsense"],
        ["b", "--engine", "tensorrt", "--out", "c"],
        ["b", "--engine", "tensorrt", "--precision", "fp16"],
        ["b", "--engine", "tensorrt", "--save-checkpoint", "c"],
        ["b", "--engine", "tensorrt-rtx", "--compute-capability", "86"],
        ["b", "--engine", "tensorrt-rtx", "--compute-capability", "8.6,"],
        ["b", "--engine", "tensorrt-rtx", "--compute-capability", "8.66"],
        ["b", "--engine", "tensorrt-rtx", "--workspace", "much"],
        ["b", "--engine", "openvino"],
        ["b", "--engine", "tensorrt", "--half"],
        ["b", "--engine", "tensorrt", "--opset", "18"],
        ["b", "--engine", "tensorrt", "--pack", "b.zip"],
        ["b", "--engine", "tensorrt", "--proposals", "0"],
        ["b", "--engine", "tensorrt", "--workspace", "-1"],
        ["--out", "b", "--tf32"],
        ["--out", "b", "--compute-capability", "8.6"],
        ["--out", "b", "--half"],
        ["--out", ""],
        ["--out", "b", "--pack", ""],
        ["--save-checkpoint", "official", "--half"],
        ["--save-checkpoint", "w.safetensors", "--precision", "fp16"],
        ["--save-checkpoint", "w.safetensors", "--pack", "b.zip"],
        ["b", "--pack", "b.zip", "--mode", "series"],
        ["b", "--pack", "b.zip", "--model", "light"],
        ["b", "--engine", "tensorrt", "--model", "light"],
        ["a.pt", "--out", "b", "--model", "light"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: Capture) -> None:
    assert usage_error(*arguments) == 2
    assert "usage: spm-export" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.safetensors"], "nothing.safetensors: no such file"),
        (["--opset", "16"], "--opset 16: 17 to 23"),
        (["--crop", "240"], "crop is 240; it must be 271 less a multiple of 16, and at least 207"),
        (["--opset", "24"], "--opset 24: 17 to 23"),
        (["--clip", "video.mp4"], "--clip and --box go together"),
        (["--box", "1,2,3,4"], "--clip and --box go together"),
        (["--clip", "video.mp4", "--box", "1,2,3,4"], "video.mp4: no such file"),
        (["--config", "nothing.yaml"], "nothing.yaml"),
        (["a.pt", "b.pt", "c.pt"], "3 files given"),
        (["a.pt", "b.pt"], "a.pt: no such file"),
    ],
)
def test_what_is_refused_exits_with_1_and_one_message(
    arguments: list[str], message: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--out", "bundle"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("spm-export: ")
    assert message in captured.err
    assert list(tmp_path.iterdir()) == []


def test_an_export_says_what_it_found(pictures: list[str], tmp_path: Path, capsys: Capture) -> None:
    assert main(["--out", str(tmp_path / "bundle"), *pictures, "--mode", "series"]) == 0
    printed = capsys.readouterr().out
    for part in ("worst error", "allowed", "relation", "pictures, 3 frames", f"wrote {tmp_path / 'bundle'}"):
        assert part in printed
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.settings.mode == "series"
    assert bundle.manifest["checkpoint"]["source"] == "the weights shipped with spm_rt"


@pytest.mark.parametrize(("options", "side"), [("", 271), ("--model light", 223), ("--model light --crop 255", 255)])
def test_shipped_weights_are_exported_for_crops_of_their_own(
    options: str, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[int] = []
    monkeypatch.setattr(cli, "_export", lambda model, *_: exported.append(model.spec.crop_size) or {})
    assert main([*options.split(), "--out", str(tmp_path / "bundle")]) == 0
    assert exported == [side]


def test_json_is_all_of_standard_output(
    pictures: list[str], tmp_path: Path, synthetic_checkpoint: tuple[Path, Path], capsys: Capture
) -> None:
    out, config = tmp_path / "bundle", tmp_path / "lasot.yaml"
    config.write_text("INFERENCE: {WINDOWS_INFLUENCE: 0.4, MAX_SCORE_THRESHOLD: 0.2}\n")
    files = [str(path) for path in synthetic_checkpoint]
    assert main([*files, "--out", str(out), "--json", "--opset", "20", "--config", str(config), *pictures]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bundle"] == str(out)
    assert found["passed"] is True
    assert found["track"]["frames"] == 3
    assert {check["stage"] for check in found["tensors"]} == {"template", "search", "relation"}
    bundle = Bundle.open(out)
    assert bundle.manifest["opset"] == 20
    assert bundle.manifest["checkpoint"]["source"] == "cm_stage.pt + fm_stage.pt"
    assert bundle.settings.window_influence == 0.4


def test_a_failed_verification_exits_with_1(
    pictures: list[str], default_bundle: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "_write_graphs", lambda _, folder, *__: copy_graphs(default_bundle, folder))
    bad = TensorCheck("flat", "search", "scores", "absolute", 0.5, 0.1, 1e-4)
    monkeypatch.setattr(verification, "check_tensors", lambda *_, **__: [bad])
    assert main(["--out", str(tmp_path / "bundle"), *pictures, "--quiet"]) == 1
    message = capsys.readouterr().err
    assert "do not compute what the reference computes" in message
    assert "flat search.scores: worst absolute error 0.5, allowed 0.0001" in message
    assert not (tmp_path / "bundle").exists()


def digest(model: SPMTracker) -> str:
    return checkpoint_digest(expected_weights(model))


def test_conversion_to_the_official_layout_and_back(tmp_path: Path, default_model: SPMTracker, capsys: Capture) -> None:
    official, single = tmp_path / "official", tmp_path / "mine.safetensors"
    assert main([str(default_weights()), "--save-checkpoint", str(official)]) == 0
    assert f"wrote {official / 'cm_stage.pt'}, {official / 'fm_stage.pt'}" in capsys.readouterr().out
    files = [str(official / name) for name in ("cm_stage.pt", "fm_stage.pt")]
    assert main([*files, "--save-checkpoint", str(single), "--half", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"checkpoint": [str(single)]}
    assert digest(load_model([single])) == digest(load_model(files)) == digest(default_model)
    assert single.stat().st_size < 0.6 * sum(Path(file).stat().st_size for file in files)


@pytest.mark.parametrize(
    ("there", "arguments", "message"),
    [
        ("official/cm_stage.pt", ["--save-checkpoint", "official"], "cm_stage.pt: is there already"),
        ("official/fm_stage.pt", ["--save-checkpoint", "official"], "fm_stage.pt: is there already"),
        ("w.safetensors", ["--save-checkpoint", "w.safetensors"], "w.safetensors: is there already"),
        ("w.safetensors", ["w.safetensors", "--save-checkpoint", "w.safetensors"], "is read from"),
        ("w.safetensors/x", ["--save-checkpoint", "w.safetensors"], "there is a folder of that name"),
        ("official", ["--save-checkpoint", "official"], "there is a file of that name"),
        ("x", ["--save-checkpoint", "w.onnx"], "give a name ending in .safetensors"),
    ],
)
def test_weights_that_are_there_are_never_written_over(
    there: str, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(there).parent.mkdir(exist_ok=True)
    Path(there).write_bytes(b"months of training")
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
    assert Path(there).read_bytes() == b"months of training"
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_our_own_weights_are_replaced(tmp_path: Path, capsys: Capture) -> None:
    for _ in range(2):
        assert main(["--save-checkpoint", str(tmp_path / "w.safetensors"), "--half"]) == 0


def test_an_export_is_packed_too(
    pictures: list[str], default_bundle: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "_write_graphs", lambda _, folder, *__: copy_graphs(default_bundle, folder))
    monkeypatch.setattr(exporter, "verify", lambda *_: UNVERIFIED)
    out, packed = tmp_path / "bundle", tmp_path / "bundle.zip"
    assert main(["--out", str(out), "--pack", str(packed), *pictures, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["packed"] == str(packed)
    with zipfile.ZipFile(packed) as archive:
        assert archive.read("manifest.json") == (out / "manifest.json").read_bytes()


def test_quiet_prints_nothing(tmp_path: Path, capsys: Capture) -> None:
    assert main(["--save-checkpoint", str(tmp_path / "w.safetensors"), "--half", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
