"""``spm-track``: usage, exit status and what it writes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

import spm_bench.cli
import spm_export.cli
import spm_rt
import spm_train.cli
from spm_rt import Tracker
from spm_rt.cli import main
from spm_rt.media.video import frames

from ...support.fakes.backend import COUNT, bright_frame, bright_tracker

Capture = pytest.CaptureFixture[str]


BOX = ["--box", "68,48,24,24"]


def track(*arguments: Any) -> int:
    return main([str(argument) for argument in arguments])


def test_a_summary_is_printed(source: str, capsys: Capture) -> None:
    assert track(source, *BOX) == 0
    printed = capsys.readouterr().out
    assert f"{COUNT} frames at " in printed
    assert "a fake\n" in printed


def test_one_frame_is_not_called_frames(source: str, capsys: Capture) -> None:
    assert track(source, *BOX, "--frames", 1) == 0
    assert capsys.readouterr().out.startswith("1 frame at ")


def test_the_backend_that_was_chosen_says_why(source: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    tracker = bright_tracker()
    tracker.backend.chosen_because = "bright 1.0 ms, dark 2.0 ms"  # type: ignore[attr-defined]
    monkeypatch.setattr(Tracker, "load", lambda *_, **__: tracker)
    assert track(source, *BOX) == 0
    assert "a fake (auto: bright 1.0 ms, dark 2.0 ms)" in capsys.readouterr().out
    assert track(source, *BOX, "--json") == 0
    assert json.loads(capsys.readouterr().out)["backend_chosen_because"] == "bright 1.0 ms, dark 2.0 ms"


def test_json_is_all_of_standard_output(source: str, capsys: Capture) -> None:
    assert track(source, *BOX, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["frames"] == found["found"] == COUNT
    assert len(found["last_box"]) == 4
    assert 0 < found["lowest_score"] <= found["highest_score"] <= 1


def test_quiet_prints_nothing(source: str, capsys: Capture) -> None:
    assert track(source, *BOX, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_a_table_of_boxes_is_written(source: str, tmp_path: Path) -> None:
    assert track(source, *BOX, "--csv", tmp_path / "boxes.csv", "--quiet") == 0
    with (tmp_path / "boxes.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["frame"] for row in rows] == [str(k) for k in range(COUNT)]
    assert (rows[0]["x"], rows[0]["width"], rows[0]["score"]) == ("68.000", "24.000", "")
    assert float(rows[-1]["score"]) > 0.5
    assert {row["found"] for row in rows} == {"1"}


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_video_is_written_whole(suffix: str, source: str, tmp_path: Path) -> None:
    out = tmp_path / f"out{suffix}"
    assert track(source, *BOX, "--out", out, "--quiet") == 0
    assert len(list(frames(out))) == COUNT
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, "pictures"]


def test_a_sheet_is_written(source: str, tmp_path: Path) -> None:
    assert track(source, *BOX, "--sheet", tmp_path / "sheet.png", "--quiet") == 0
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None


def test_it_stops_where_it_is_told_to(source: str, capsys: Capture) -> None:
    assert track(source, *BOX, "--frames", 2, "--json") == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--box", "0,0,0,0"], "empty or inverted"),
        (["--box", "900,900,10,10"], "wholly outside"),
        ([*BOX, "--out", "video.txt"], "a video ends in .mp4"),
        ([*BOX, "--csv", "nowhere/boxes.csv"], "there is no folder"),
        ([*BOX, "--out", "nowhere/video.mp4"], "there is no folder"),
    ],
)
def test_what_is_refused_exits_with_1_and_one_message(
    arguments: list[str], message: str, source: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert track(source, *arguments, "--quiet") == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("spm-track: ")
    assert message in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_missing_sources_and_bundles_are_named(tmp_path: Path, capsys: Capture) -> None:
    assert track(tmp_path / "nothing.mp4", *BOX) == 1
    assert "nothing.mp4: no such file" in capsys.readouterr().err
    cv2.imwrite(str(tmp_path / "0.png"), bright_frame(80, 60))
    assert track(tmp_path, *BOX, "--bundle", tmp_path / "none") == 1
    assert "no such bundle folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", [main, spm_export.cli.main, spm_bench.cli.main, spm_train.cli.main])
def test_every_command_says_its_version(command: Callable[[list[str]], int], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        command(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"spm-rt {spm_rt.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["v.mp4"],
        ["v.mp4", "--box", "1,2"],
        ["v.mp4", *BOX, "--mode", "fast"],
        ["v.mp4", *BOX, "--backend", "caffe"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: spm-track" in capsys.readouterr().err
