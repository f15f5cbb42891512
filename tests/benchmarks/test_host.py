"""``spm-bench host``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from spm_bench.cli import main
from spm_bench.commands.host import frame_size, place_box


def test_every_size_and_target_has_a_row(default_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--sizes", "320x240", "500x400", "--targets", "30", "900"]
    assert main(["host", str(default_bundle), *sizes, "--frames", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(row["frame"], row["target"], row["place"]) for row in report["rows"]] == [
        (size, target, place)
        for size in ("320x240", "500x400")
        for target, place in ((30, "middle"), (900, "middle"), (30, "corner"))
    ]
    for row in report["rows"]:
        parts = row["crop_ms"] + row["proposals_ms"] + row["fusion_ms"] + row["rest_ms"]
        assert 0 < row["crop_ms"] < row["host_ms"]
        assert row["host_ms"] == pytest.approx(parts, rel=0.5)


def test_the_table_is_for_people(default_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["host", str(default_bundle), "--sizes", "320x240", "--frames", "1", "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "320x240" in printed
    assert "corner" in printed


def test_boxes_fit_the_frame() -> None:
    assert place_box((640, 480), 100, "middle") == (270, 190, 100, 100)
    assert place_box((640, 480), 500, "corner") == (0, 0, 500, 480)


@pytest.mark.parametrize("text", ["640", "x480", "640x", "axb", "1x1"])
def test_sizes_are_width_and_height(text: str) -> None:
    assert frame_size("640x480") == (640, 480)
    with pytest.raises(argparse.ArgumentTypeError):
        frame_size(text)
