"""``--resume``: a run that was stopped goes on as if it had not been."""

from __future__ import annotations

from pathlib import Path

import pytest

from spm_rt.cli import main

Capture = pytest.CaptureFixture[str]
BOXES = {1: ["--box", "68.3,48.1,24.7,24.9"], 2: ["--box", "a=68.3,48.1,24.7,24.9", "--box", "b=-3.2,40,30,30"]}


def run(source: str, name: str, folder: Path, *arguments: str) -> int:
    jsonl, csv = (str(folder / f"{name}.{kind}") for kind in ("jsonl", "csv"))
    return main([source, "--jsonl", jsonl, "--csv", csv, "--quiet", *arguments])


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("torn", [0, 10])
@pytest.mark.parametrize("lines", [1, 3, 4, 5])
def test_a_run_that_goes_on_is_bit_for_bit_one_that_never_stopped(
    lines: int, torn: int, targets: int, source: str, tmp_path: Path
) -> None:
    """Wherever it was stopped: within a line, between the lines of a frame, after the end."""
    assert run(source, "whole", tmp_path, *BOXES[targets]) == 0
    whole = (tmp_path / "whole.jsonl").read_bytes()
    kept = b"".join(whole.splitlines(keepends=True)[: lines + 1])
    (tmp_path / "part.jsonl").write_bytes(kept[: len(kept) - torn])
    boxes = BOXES[targets] if lines == 1 and torn else []  # nobody knows how many lines a torn first frame had
    assert run(source, "part", tmp_path, "--resume", *boxes) == 0
    assert (tmp_path / "part.jsonl").read_bytes() == whole
    assert (tmp_path / "part.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_start_and_skip_are_kept_up(source: str, tmp_path: Path) -> None:
    assert run(source, "whole", tmp_path, *BOXES[1], "--start", "1", "--skip", "2") == 0
    assert run(source, "part", tmp_path, *BOXES[1], "--start", "1", "--skip", "2", "--frames", "1") == 0
    assert run(source, "part", tmp_path, "--resume", "--skip", "2") == 0
    assert (tmp_path / "part.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_without_a_record_it_begins(source: str, tmp_path: Path, capsys: Capture) -> None:
    assert run(source, "new", tmp_path, *BOXES[1], "--resume") == 0
    assert (tmp_path / "new.jsonl").read_text().count("\n") == 5
    assert run(source, "other", tmp_path, "--resume") == 1
    assert "give --box to begin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda text: text, ["--box", "1,2,30,40"], "other boxes"),
        (lambda text: text, ["--skip", "2"], "is not 2.png"),
        (lambda text: text.replace("1.png", "7.png"), [], "is not 1.png"),
        (lambda text: "a picture\n" + text, [], "line 1: not what --jsonl writes"),
        (lambda text: text.replace('"box"', '"bix"', 1), [], "line 1: not what --jsonl writes"),
        (lambda text: "[" * 100_000 + "\n", [], "line 1: not what --jsonl writes"),
        (lambda text: "".join(text.splitlines(keepends=True)[1:]), [], "line 1: not what --jsonl writes"),
        (lambda text: "".join(sorted(text.splitlines(keepends=True), reverse=True)), [], "not what --jsonl writes"),
    ],
)
def test_a_record_of_something_else_is_refused_and_stays(
    change: object, arguments: list[str], message: str, source: str, tmp_path: Path, capsys: Capture
) -> None:
    assert run(source, "x", tmp_path, *BOXES[1], "--frames", "3") == 0
    record = tmp_path / "x.jsonl"
    record.write_text(change(record.read_text()))  # type: ignore[operator]
    before = record.read_bytes()
    assert run(source, "x", tmp_path, "--resume", *arguments) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert record.read_bytes() == before
