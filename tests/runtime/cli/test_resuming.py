"""``--resume``: a run that was stopped goes on as if it had not been."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from spm_rt import TrackerSettings
from spm_rt.cli import main
from spm_rt.frame.geometry import xyxy_to_xywh

from ...support.fakes.backend import COUNT, bright_frame, bright_multi_tracker, bright_tracker

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
        (lambda text: text, ["--skip", "2"], "was begun without --skip, not --skip 2; leave --skip out"),
        (lambda text: text, ["--start", "1"], "was begun without --start, not --start 1"),
        (lambda text: text, ["--start", "0:01"], "not --start 0:01"),
        (lambda text: text, ["--fps", "30"], "not --fps 30"),
        (lambda text: text, ["--mode", "coarse"], "not --mode coarse"),
        (lambda text: text, ["--backend", "openvino"], "was begun with --backend bright, not --backend openvino"),
        (lambda text: text, ["--frames", "2"], "has 3 frames already; --frames 2 is less"),
        (
            lambda text: text.replace('"bundle_sha256": null', '"bundle_sha256": "0a"'),
            [],
            "another bundle; give the same",
        ),
        (lambda text: text.replace('"size_rate": 0.5', '"size_rate": 0.4'), [], "size_rate 0.4, which is 0.5 now"),
        (
            lambda text: text.replace('"width": 160', '"width": 161'),
            [],
            "161 x 120 pixels, those of pictures are 160 x 120",
        ),
        (
            lambda text: re.sub(r', "run": .*}}', "}", text),
            [],
            "line 1: does not say what made it, as files of earlier",
        ),
        (lambda text: re.sub(r'"run": .*}}', '"run": 1}', text), [], "line 1: not what --jsonl writes"),
        (lambda text: re.sub(r'"run": .*}}', '"run": {}}', text), [], "line 1: not what --jsonl writes"),
        (lambda text: re.sub(r'"settings": {.*?}', '"settings": 3', text), [], "line 1: not what --jsonl writes"),
        (lambda text: text.replace('"bundle_sha256"', '"bundle"'), [], "line 1: not what --jsonl writes"),
        (lambda text: re.sub(r'"options": {.*?}', '"options": []', text), [], "line 1: not what --jsonl writes"),
        (lambda text: text.replace('"backend": "bright"', '"fps": {}'), [], "line 1: not what --jsonl writes"),
        (lambda text: text.replace('"backend": "bright"', '"skip": "0"'), [], "line 1: not what --jsonl writes"),
        (lambda text: text.replace('"backend": "bright"', '"recover": "on"'), [], "was begun with --recover, and what"),
        (lambda text: text.replace('"corners": [', '"corners": [1'), [], "not what --jsonl writes"),
        (lambda text: text.replace('"time": null', '"time": 0.5'), [], "what follows there is not 0.png"),
        (lambda text: text.replace("1.png", "7.png"), [], "is not 1.png"),
        (lambda text: text.replace('"corners": [', '"corners": [' + "9" * 400), [], "not what --jsonl writes"),
        (lambda text: re.sub('"score": 0[^,]*', '"score": NaN', text), [], "line 2: not what --jsonl writes"),
        (lambda text: re.sub('"time": null', '"time": 1' + "0" * 400, text), [], "line 1: not what --jsonl writes"),
        (lambda text: re.sub('"target": "[^"]*', r'"target": "\\ud800', text), [], "line 1: not what --jsonl writes"),
        (lambda text: re.sub('"target": "[^"]*', r'"target": "a\\nb', text), [], "line 1: not what --jsonl writes"),
        (lambda text: text.replace('"frame": 0', '"frame": -1'), [], "line 1: not what --jsonl writes"),
        (lambda text: "a picture\n" + text, [], "line 1: not what --jsonl writes"),
        (lambda text: text.replace('"box"', '"bix"', 1), [], "line 1: not what --jsonl writes"),
        (lambda text: "[" * 100_000 + "\n", [], "line 1: not what --jsonl writes"),
        (lambda text: "".join(text.splitlines(keepends=True)[1:]), [], "line 1: does not say what made it"),
        (
            lambda text: "".join(sorted(text.splitlines(keepends=True), reverse=True)),
            [],
            "line 1: does not say what made it",
        ),
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


def shorter(folder: Path) -> None:
    for k in range(2, COUNT):
        (folder / f"{k}.png").unlink()


def longer(folder: Path) -> None:
    cv2.imwrite(str(folder / f"{COUNT}.png"), bright_frame(80, 60))


def renamed(folder: Path) -> None:
    (folder / "2.png").rename(folder / "2a.png")


def larger(folder: Path) -> None:
    for k in range(COUNT):
        cv2.imwrite(str(folder / f"{k}.png"), bright_frame(80, 60, (130, 170)))


def other(folder: Path) -> None:
    cv2.imwrite(str(folder / "0.png"), bright_frame(81, 60))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shorter, "has 4 frames of a source that ends after 2 now"),
        (renamed, "what follows there is not 2a.png"),
        (larger, "frames of 160 x 120 pixels, those of pictures are 170 x 130 now"),
        (other, "another first frame than pictures has now"),
    ],
)
def test_a_source_that_has_changed_is_refused(
    change: Callable[[Path], None], message: str, source: str, tmp_path: Path, capsys: Capture
) -> None:
    assert run(source, "x", tmp_path, *BOXES[1], "--frames", "4") == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("x*")}
    change(Path(source))
    assert run(source, "x", tmp_path, "--resume") == 1
    said = capsys.readouterr().err
    assert message in said
    assert "begin anew with another --jsonl FILE" in said
    assert said.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.glob("x*")} == before, "the other outputs too"
    assert len(before) > 1


def test_another_source_is_refused_and_the_same_one_elsewhere_is_not(
    source: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(source, "x", tmp_path, *BOXES[1], "--frames", "2") == 0
    shutil.copytree(source, tmp_path / "b")
    assert run(str(tmp_path / "b"), "x", tmp_path, "--resume", "--frames", "3") == 1
    assert "was begun on pictures, not on b; give that source" in capsys.readouterr().err
    monkeypatch.chdir(source)
    assert run(".", "x", tmp_path, "--resume", "--frames", "3") == 0
    longer(Path(source))
    assert run(f"file://{source}/", "x", tmp_path, "--resume") == 0
    assert (tmp_path / "x.jsonl").read_text().count("\n") == COUNT + 1


def test_what_was_given_at_first_need_not_be_given_again_and_may_be(source: str, tmp_path: Path) -> None:
    options = ["--start", "0:02", "--skip", "2", "--fps", "1", "--mode", "coarse"]
    assert run(source, "whole", tmp_path, *BOXES[1], *options) == 0
    whole = (tmp_path / "whole.jsonl").read_bytes()
    assert json.loads(whole.splitlines()[0])["run"]["options"] == {
        **{"start": "0:02", "skip": "2", "fps": "1.0"},
        **{"backend": "bright", "mode": "coarse"},
    }
    for again in ([], options, ["--start", "2s"], ["--start", "2"]):
        assert run(source, "part", tmp_path, *BOXES[1], *options, "--frames", "1") == 0
        assert run(source, "part", tmp_path, "--resume", *again) == 0
        assert (tmp_path / "part.jsonl").read_bytes() == whole


@pytest.mark.parametrize("targets", [1, 2])
def test_boxes_are_those_of_the_interface_bit_for_bit(
    targets: int, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrackerSettings(min_side=37.7)
    monkeypatch.setattr("spm_rt.Tracker.load", lambda *_, **__: bright_tracker(settings))
    monkeypatch.setattr("spm_rt.MultiTracker.load", lambda *_, **__: bright_multi_tracker(settings=settings))
    for k in range(24):
        cv2.imwrite(f"{source}/{k}.png", bright_frame(4 + 0.3 * k, 40 + k, (120, 160)))
    boxes = [(-14.3, 20.0, 37.7, 40.3), (-3.2, 40.0, 30.0, 30.0)][:targets]
    multi = bright_multi_tracker(settings=settings)
    pictures = [cv2.imread(f"{source}/{k}.png") for k in range(24)]
    for box in boxes:
        multi.add(pictures[0], box)
    expected = [list(box) for box in boxes]
    for picture in pictures[1:]:
        expected += [list(result.box) for result in multi.update(picture).values()]
    words = [
        word for name, box in zip("ab", boxes, strict=False) for word in ("--box", f"{name}={','.join(map(str, box))}")
    ]
    assert run(source, "x", tmp_path, *words) == 0
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [row["box"] for row in rows] == expected
    assert all(list(xyxy_to_xywh(np.array(row["corners"]))) == row["box"] for row in rows[targets:])
    for cut in range(1, 24, 4):
        lines = (tmp_path / "x.jsonl").read_bytes().splitlines(keepends=True)
        (tmp_path / "y.jsonl").write_bytes(b"".join(lines[: cut * targets]))
        assert run(source, "y", tmp_path, "--resume") == 0
        assert (tmp_path / "y.jsonl").read_bytes() == b"".join(lines)


def test_a_box_that_no_tracker_would_start_on_is_gone_on_from(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrackerSettings(min_side=0.5, window_influence=0.0)
    monkeypatch.setattr("spm_rt.Tracker.load", lambda *_, **__: bright_tracker(settings))
    assert run(source, "x", tmp_path, "--box", "79,59,1,1") == 0
    whole = (tmp_path / "x.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    assert json.loads(lines[3])["box"][2] < 1
    (tmp_path / "x.jsonl").write_bytes(b"".join(lines[:4]))
    assert run(source, "x", tmp_path, "--resume") == 0
    assert (tmp_path / "x.jsonl").read_bytes() == whole
