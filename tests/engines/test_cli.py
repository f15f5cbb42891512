"""``spm-export BUNDLE --engine`` refuses what is no bundle. Its usage: tests/export/test_cli.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from spm_export.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "given was: nothing"),
        (["cm_stage.pt", "fm_stage.pt"], "given was: cm_stage.pt, fm_stage.pt"),
        (
            ["mine.safetensors"],
            "the folder that `spm-export ... --out FOLDER` wrote, or the file of `--pack`; given was: mine.safetensors",
        ),
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
