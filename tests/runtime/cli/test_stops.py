"""What ends a run before its end: signals, other frames, damage, errors. What was done is kept, and said."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from spm_rt import Tracker
from spm_rt.cli import main
from spm_rt.media.video import frames

from ...support.fakes.backend import bright_frame, bright_tracker
from ...support.layers import ROOT
from ...support.media.films import write_film

Capture = pytest.CaptureFixture[str]
BOX = ["--box", "68,48,24,24"]
CHILD = """
import sys
from spm_rt import Tracker
from spm_rt.cli import main
from tests.support.fakes.backend import bright_tracker
Tracker.load = lambda *_, **__: bright_tracker()
sys.exit(main(sys.argv[1:]))
"""
needs_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals and pipes")


def wait_for(condition: object, child: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(params=["pipe", "standard input"])
def waiting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run on a source that sends half a film and then nothing more; it has written some lines."""
    film = write_film(tmp_path / "film.mkv", "mjpeg", pixels="yuvj420p").read_bytes()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    by_name = request.param == "pipe"
    lines = tmp_path / "o.jsonl"
    words = [str(fifo) if by_name else "-", *BOX, "--jsonl", str(lines), "--out", str(tmp_path / "o.mkv"), "--quiet"]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *words],
        cwd=ROOT,
        stdin=None if by_name else subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        writer = os.open(fifo, os.O_WRONLY) if by_name else child.stdin.fileno()  # type: ignore[union-attr]
        os.write(writer, film[: len(film) * 2 // 3])
        wait_for(lambda: lines.exists() and lines.read_text().count("\n") > 3, child)
        time.sleep(0.2)
        yield child
        child.kill()
        if by_name:
            os.close(writer)


@needs_posix
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_the_wait_for_a_frame_and_keeps_what_was_done(
    name: str, status: int, waiting: subprocess.Popen[str], tmp_path: Path
) -> None:
    waiting.send_signal(getattr(signal, name))
    assert waiting.wait(20) == status
    said = waiting.stderr.read()  # type: ignore[union-attr]
    rows = (tmp_path / "o.jsonl").read_text().splitlines()
    count = len(rows)
    assert said.startswith(f"spm-track: stopped by {name} after {count} frames; kept: ")
    assert said.count("\n") == 1
    assert f"o.mkv ({count} frames)" in said
    assert json.loads(rows[-1])["frame"] == count - 1
    assert len(list(frames(tmp_path / "o.mkv"))) == count


@needs_posix
def test_a_signal_while_a_source_is_opened_ends_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    words = [str(tmp_path / "fifo"), *BOX, "--csv", str(tmp_path / "o.csv")]
    with subprocess.Popen([sys.executable, "-c", CHILD, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True) as child:
        writers: list[int] = []

        def is_being_opened() -> bool:  # there is no writing to a pipe that nobody opens
            with contextlib.suppress(OSError):
                writers.append(os.open(tmp_path / "fifo", os.O_WRONLY | os.O_NONBLOCK))
            return bool(writers)

        wait_for(is_being_opened, child)
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
        assert child.stderr is not None
        assert child.stderr.read() == "spm-track: stopped by SIGINT\n"
    os.close(writers[0])
    assert [path.name for path in tmp_path.iterdir()] == ["fifo"]


@needs_posix
def test_a_second_signal_ends_the_completion_at_once(
    source: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spm_rt.outputs.tables import TableOutput

    update, ends = Tracker.update, []

    def stopped(self: Tracker, *arguments: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return update(self, *arguments)  # type: ignore[arg-type]

    def endless(self: TableOutput) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)
        ends.append("completed")

    monkeypatch.setattr(Tracker, "update", stopped)
    monkeypatch.setattr(TableOutput, "finish", endless)
    assert main([source, *BOX, "--csv", str(tmp_path / "o.csv"), "--quiet"]) == 130
    assert ends == []
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_a_frame_of_another_size_is_named_and_what_came_before_is_kept(
    source: str, tmp_path: Path, capsys: Capture
) -> None:
    cv2.imwrite(str(Path(source) / "3.png"), bright_frame(80, 60, (100, 160)))
    out = tmp_path / "o.mp4"
    assert main([source, *BOX, "--out", str(out), "--csv", str(tmp_path / "o.csv"), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "3.png is 160 x 100" in said
    assert "o.csv (3 frames)" in said
    assert said.count("\n") == 1
    assert len(list(frames(out))) == 3


@pytest.mark.parametrize("error", [TypeError("what"), MemoryError(), cv2.error("what")])
def test_any_other_error_keeps_what_was_done(
    error: Exception, source: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, left = Tracker.update, [2]

    def failing(self: Tracker, *arguments: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise error
        return update(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Tracker, "update", failing)
    assert main([source, *BOX, "--csv", str(tmp_path / "o.csv"), "--quiet"]) == 1
    assert "o.csv (3 frames)" in capsys.readouterr().err
    assert (tmp_path / "o.csv").read_text().count("\n") == 4


def test_a_damaged_video_is_tracked_to_its_end_and_the_status_says_so(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tracker, "load", lambda *_, **__: bright_tracker())
    film = write_film(tmp_path / "film.mp4")
    content = bytearray(film.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    film.write_bytes(content)
    assert main([str(film), *BOX, "--json"]) == 1
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert summary["damaged"]
    assert summary["expected"] == 24
    assert 0 < summary["unreadable"] < 24
    assert 0 < summary["frames"] < 24
    assert f"{summary['frames']} read, {summary['unreadable']} could not be read" in err


@needs_posix
def test_a_reader_of_the_results_that_goes_away_ends_the_run_quietly(source: str, tmp_path: Path) -> None:
    for k in range(5, 400):
        cv2.imwrite(str(Path(source) / f"{k}.png"), np.full((120, 160, 3), 90, np.uint8))
    command = f'"$0" -c "$1" "{source}" {" ".join(BOX)} --jsonl - --quiet | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, CHILD],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["frame"] == 0
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 1
