"""Several sources in one run of ``spm-track``."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from spm_rt.cli import main
from spm_rt.cli.options import read_options
from spm_rt.cli.streams.sources import NamedSource, named_sources
from spm_rt.cli.targets import NamedBox
from spm_rt.pipelines.streams import StreamTracker
from spm_rt.trackers.batch import BatchTracker

from ...support.fakes.backend import COUNT, bright_batch_tracker
from ...support.media.films import write_film

B1, B2, B3 = (1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0), (9.0, 9.0, 9.0, 9.0)
DISC = "60,40,40,40"


@pytest.fixture(autouse=True)
def bright(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loaded finds what is bright."""
    monkeypatch.setattr(BatchTracker, "load", lambda *_, **__: bright_batch_tracker((1,)))


@pytest.mark.parametrize(
    ("sources", "boxes", "wanted"),
    [
        (["x/a.mp4", "b.mp4"], [("", B1), ("", B2)], {"a.mp4": {"target": B1}, "b.mp4": {"target": B2}}),
        (["d=a.mp4", "b.mp4"], [("cat", B1), ("", B2)], {"d": {"cat": B1}, "b.mp4": {"target": B2}}),
        (
            ["d=a.mp4", "y=b.mp4"],
            [("y/cat", B1), ("d", B2), ("y/dog", B3)],
            {"d": {"target": B2}, "y": {"cat": B1, "dog": B3}},
        ),
    ],
)
def test_boxes_belong_to_sources_by_their_names_or_their_order(
    sources: list[str], boxes: list[tuple[str, Any]], wanted: dict[str, Any]
) -> None:
    made = named_sources(sources, [NamedBox(*box) for box in boxes])
    assert {one.name: one.boxes for one in made} == wanted
    assert isinstance(made[0], NamedSource)
    assert made[0].source in ("x/a.mp4", "a.mp4")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.mp4", "x/a.mp4", "--box", "1,2,3,4", "--box", "1,2,3,4"], "two sources are called a.mp4"),
        (["a.mp4", "b.mp4", "--box", "1,2,3,4"], "whose box is 1,2,3,4"),
        (["a.mp4", "b.mp4", "--box", "a.mp4/x=1,2,3,4"], "b.mp4 has no box"),
        (["a.mp4", "b.mp4", "--box", "c/x=1,2,3,4", "--box", "a.mp4=1,2,3,4"], "whose box is c/x"),
        (["a.mp4", "b.mp4", "--box", "1,2,3,4", "--box", "1,2,3,4", "--out", "x.mp4"], "--out is for one source"),
        (["a.mp4", "--metrics-port", "0", "--box", "1,2,3,4", "--recover"], "--recover is for one source"),
        (["a.mp4", "b.mp4", "--box", "1,2,3,4", "--box", "1,2,3,4", "--start", "2s"], "--start 2s is for one"),
        (["a.mp4", "--metrics-port", "70000", "--box", "1,2,3,4"], "from 0 to 65535"),
    ],
)
def test_what_does_not_fit_is_wrong_usage(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        read_options(words)
    assert message in capsys.readouterr().err


def test_lines_name_source_and_target(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = write_film(tmp_path / "film.ts", numbers=range(3))
    lines, table = tmp_path / "out.jsonl", tmp_path / "out.csv"
    words = [f"discs={source}", str(film), "--jsonl", str(lines), "--csv", str(table), "--json", "--frames", "4"]
    words += ["--box", f"discs/a={DISC}", "--box", f"discs/b={DISC}", "--box", "film.ts=10,10,30,30"]
    assert main(words) == 0
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    keys: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        keys.setdefault((row["source"], row["target"]), []).append(row["frame"])
    assert keys == {("discs", "a"): [0, 1, 2, 3], ("discs", "b"): [0, 1, 2, 3], ("film.ts", "target"): [0, 1, 2]}
    with open(table, newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [(row["source"], row["target"], int(row["frame"])) for row in read] == [
        (row["source"], row["target"], row["frame"]) for row in rows
    ]
    summary = json.loads(capsys.readouterr().out)
    assert {name: entry["tracked"] for name, entry in summary["streams"].items()} == {"discs": 4, "film.ts": 3}
    assert summary["written"] == [str(table), str(lines)]


def test_a_source_that_cannot_be_read_is_an_error_and_the_others_are_tracked(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [source, f"gone={tmp_path / 'none.mp4'}", "--box", DISC, "--box", DISC, "--jsonl", str(tmp_path / "o")]
    assert main(words) == 1
    said = capsys.readouterr()
    assert "gone: " in said.err
    assert "no such file" in said.err
    assert len((tmp_path / "o").read_text().splitlines()) == COUNT


def test_metrics_are_served_for_one_source_too(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("prometheus_client", reason="the extra metrics is not installed")
    assert main([source, "--box", DISC, "--metrics-port", "0"]) == 0
    said = capsys.readouterr()
    assert "metrics at http://127.0.0.1:" in said.err
    assert f"{COUNT} frames tracked" in said.out


def test_a_signal_ends_the_run_and_what_was_done_is_kept(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = StreamTracker.__iter__

    def interrupted(self: StreamTracker) -> Any:
        for number, result in enumerate(real(self)):
            yield result
            if number == 2:
                signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(StreamTracker, "__iter__", interrupted)
    lines = tmp_path / "o.jsonl"
    assert main([f"a={source}", f"b={source}", "--box", DISC, "--box", DISC, "--jsonl", str(lines)]) == 143
    assert "kept: " in capsys.readouterr().err
    assert len(lines.read_text().splitlines()) == 3


def test_a_full_disk_is_one_line_and_whole_lines_are_kept(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"a={source}", f"b={source}", "--box", DISC, "--box", DISC, "--jsonl", "/dev/full"]) == 1
    assert "/dev/full: cannot be written (No space left on device)" in capsys.readouterr().err
