"""``spm-export BUNDLE --engine``: usage, and what is no bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from spm_export.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    "arguments",
    [
        ["b", "--engine", "tensorrt", "--out", "c"],
        ["b", "--engine", "tensorrt", "--precision", "fp16"],
        ["b", "--engine", "tensorrt", "--save-checkpoint", "c"],
        ["b", "--engine", "tensorrt-rtx", "--compute-capability", "86"],
        ["b", "--engine", "tensorrt-rtx", "--compute-capability", "8.6,"],
        ["b", "--engine", "tensorrt-rtx", "--compute-capability", "8.66"],
        ["b", "--engine", "tensorrt-rtx", "--workspace", "much"],
        ["b", "--engine", "openvino"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: spm-export" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "given was: nothing"),
        (["cm_stage.pt", "fm_stage.pt"], "given was: cm_stage.pt, fm_stage.pt"),
        (["mine.safetensors"], "the folder that `spm-export ... --out FOLDER` wrote; given was: mine.safetensors"),
        (["empty"], "manifest.json: cannot be read"),
    ],
)
def test_what_is_no_bundle_is_refused(
    given: list[str], message: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine.safetensors").touch()
    assert main([*given, "--engine", "tensorrt-rtx"]) == 1
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine.safetensors"]


def test_help_has_the_engines(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    for part in ("--engine", "--compute-capability", "--cache", "--refuse-stale", "docs/guide/engines.md"):
        assert part in printed
