"""The command line as a whole: help, wrong usage, errors that people can act on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spm_bench.cli import COMMANDS, main
from spm_bench.loading import parse_entry
from spm_rt.backends import BACKENDS
from spm_rt.bundle import Bundle
from spm_rt.errors import BackendError, BundleError

from ..support.bench import spm_bench


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
        "latency",
        "count b -k 0",
        "latency b --box 1,2",
        "ablate c --proposals 0,1",
        "ablate c --proposals x",
        "accuracy c --frames 1",
        "latency b --pause -1",
        "sweep b",
        "targets b --targets 0",
        "profile b --stage fusion",
        "gpu",
    ],
)
def test_wrong_usage_is_2(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments.split())
    assert stop.value.code == 2
    assert "usage: spm-bench" in capsys.readouterr().err


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
