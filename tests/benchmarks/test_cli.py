"""The command line as a whole: help, wrong usage, errors that people can act on."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest

from spm_bench.cli import COMMANDS, main
from spm_bench.loading import parse_entry
from spm_bench.report.files import MARK, json_text, make_folder
from spm_rt.backends import BACKENDS
from spm_rt.bundle import Bundle
from spm_rt.errors import BackendError, BundleError

from ..support.bench import bench_error, spm_bench


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"spm-bench {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "speed",
        "count b -k 0",
        "count b -k 99999999999",
        "count b --targets -1",
        "count b --limit nan",
        "count b --limit 0",
        "latency b --box 1,2",
        "ablate c --proposals 0,1",
        "ablate c --proposals x",
        "accuracy c --frames 1",
        "latency b --pause -1",
        "sweep b",
        "targets b --targets 0",
        "profile b --stage fusion",
        "profile b --top 0",
        "parity a b --shift inf",
        "accuracy c --frames -1",
        "gpu b --frames -1",
        "gpu b --maps 0",
    ],
)
def test_wrong_usage_is_2(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments.split())
    assert stop.value.code == 2
    assert "usage: spm-bench" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    ["count", "latency", "host", "profile", "targets", "sweep --out out", "lost .", "parity a b", "accuracy ."],
)
def test_the_bundle_is_the_environment_s_where_none_is_named(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with spm-track; without the variable, spm_alexnet in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "groundtruth.txt").write_text("1,1,20,20\n" * 2)
    for name in ("00000001.jpg", "00000002.jpg"):
        cv2.imwrite(str(tmp_path / "clip" / name), np.zeros((60, 80, 3), np.uint8))
    monkeypatch.delenv("SPM_RT_BUNDLE", raising=False)
    assert "spm_alexnet: no such bundle folder" in spm_bench(command).error
    monkeypatch.setenv("SPM_RT_BUNDLE", str(tmp_path / "mine"))
    assert f"{tmp_path / 'mine'}: no such bundle folder" in spm_bench(command).error


@pytest.mark.parametrize("command", ["count BUNDLE", "latency BUNDLE --frames 2 --against torch"])
def test_a_missing_library_is_named_with_the_extra_that_installs_it(
    command: str, default_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnx", "onnx.inliner", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("spm_export.model")]:
        monkeypatch.delitem(sys.modules, name)
    ran = spm_bench(command.replace("BUNDLE", str(default_bundle)))
    assert ran.status == 1
    assert re.fullmatch(r"spm-bench: (onnx|torch) is not installed: pip install 'spm-rt\[bench\]'\n", ran.error)


def test_a_reader_that_goes_away_and_an_interruption_end_without_a_traceback(
    default_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "spm_bench.cli", "count", str(default_bundle)]
    done = subprocess.run(f"{shlex.join(command)} | head -n 2", shell=True, capture_output=True, text=True, timeout=120)
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == ""
    monkeypatch.setattr("spm_bench.commands.count.count_layers", Mock(side_effect=KeyboardInterrupt))
    ran = spm_bench("count", default_bundle)
    assert (ran.status, ran.out) == (130, "")
    assert ran.error.startswith("spm-bench: stopped")


def test_what_is_no_number_in_json_becomes_null() -> None:
    report = {"a": [float("nan"), 1.5, {"b": (float("inf"), 2)}], "c": "NaN"}
    assert json.loads(json_text(report), parse_constant=pytest.fail) == {"a": [None, 1.5, {"b": [None, 2]}], "c": "NaN"}


# The folder of results.


def test_results_are_written_into_a_folder_of_their_own_and_replaced_there(tmp_path: Path) -> None:
    for _ in range(2):
        folder = make_folder(tmp_path / "new" / "results")
        (folder / "results.json").write_text("{}")
    assert sorted(path.name for path in folder.iterdir()) == [MARK, "results.json"]


@pytest.mark.parametrize("command", ["sweep BUNDLE", "targets BUNDLE", "accuracy CLIPS --bundle BUNDLE"])
def test_a_folder_with_other_files_is_refused_before_the_work(
    command: str, default_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "groundtruth.txt").write_text("1,1,20,20\n" * 2)
    for name in ("00000001.jpg", "00000002.jpg"):
        cv2.imwrite(str(tmp_path / "clip" / name), np.zeros((60, 80, 3), np.uint8))
    (tmp_path / "results.json").write_text("my results")
    words = command.replace("BUNDLE", str(default_bundle)).replace("CLIPS", str(tmp_path))
    assert "holds files that are no results of spm-bench" in bench_error(words, "--out", tmp_path)
    assert (tmp_path / "results.json").read_text() == "my results"
    assert not (tmp_path / MARK).exists()


def test_a_file_of_results_has_a_place_before_the_work(tmp_path: Path) -> None:
    assert "no such folder" in bench_gpu_error(tmp_path / "nowhere" / "gpu.json")
    assert "cannot be written (a folder)" in bench_gpu_error(tmp_path)


def bench_gpu_error(out: Path) -> str:
    ran = spm_bench("gpu b --out", out)
    assert ran.status == 1
    return ran.error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("latency FOLDER/none", "no such bundle folder"),
        ("count FOLDER/none", "no such bundle folder"),
        ("parity FOLDER/none/ torch", "no such bundle folder"),
        ("parity torch onnxruntime --bundle FOLDER/none", "no such bundle folder"),
        ("latency BUNDLE --backend fastest", "'fastest' is unknown; there are: auto, torch, onnxruntime"),
        ("profile BUNDLE --backend onnxruntime fastest", "'fastest' is unknown"),
        ("parity torch nothing --bundle BUNDLE", "'nothing' is unknown"),
        ("latency BUNDLE --clip FOLDER", "needs --box"),
        ("profile BUNDLE --backend torch", "torch runs no graph"),
        ("targets BUNDLE --backend torch", "torch follows one target"),
        ("parity BUNDLE", "two subjects"),
    ],
)
def test_what_cannot_be_done_is_refused(arguments: str, message: str, default_bundle: Path, tmp_path: Path) -> None:
    words = arguments.replace("BUNDLE", str(default_bundle)).replace("FOLDER", str(tmp_path))
    ran = spm_bench(words)
    assert ran.status == 1
    assert message in ran.error


def test_commands_start_without_heavy_libraries() -> None:
    """PyTorch, ONNX and matplotlib take seconds to import: not before a command needs them."""
    names = ", ".join(["spm_bench.cli", *(f"spm_bench.commands.{name}" for name in COMMANDS)])
    code = f"import sys, {names}; print(sorted({{'torch', 'onnx', 'onnxruntime', 'matplotlib'}} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_entries(default_bundle: Path) -> None:
    bundle = Bundle.open(default_bundle)
    plain = parse_entry("onnxruntime", bundle)
    assert (plain.label, plain.backend, plain.asked, plain.precision) == ("onnxruntime", "onnxruntime", None, "float32")
    other = parse_entry(f"openvino:bf16@{default_bundle}", bundle)
    assert other.label == f"openvino:bf16@{default_bundle.name}"
    assert other.asked == other.precision == "bfloat16"
    assert parse_entry("auto", bundle).label in BACKENDS
    with pytest.raises(BackendError, match="'fastest' is unknown"):
        parse_entry("fastest:bf16", bundle)
    with pytest.raises(BundleError, match="no such bundle"):
        parse_entry("openvino@nowhere", bundle)
