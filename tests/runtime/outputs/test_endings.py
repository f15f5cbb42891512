"""Whatever ends a run, what was done until then is complete, and it is said what that is."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from spm_rt.errors import SourceError
from spm_rt.files import write_all
from spm_rt.outputs import KINDS, Request, encoders, lines, open_outputs

from ...support.disk import full_disk
from ...support.media.films import number_of
from ...support.media.results import SUFFIX, source_frames, tracked, write_results

av = pytest.importorskip("av")
VIDEOS = (".mp4", ".mkv", ".webm", ".avi", ".mov")
ROOT = Path(__file__).parents[3]
needs_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals and limits")


def numbers_in(path: Path) -> list[int]:
    """What the frames of a video carry, read without the least error."""
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture() as said, av.open(str(path)) as container:
        numbers = [number_of(frame.to_ndarray(format="bgr24")) for frame in container.decode(video=0)]
    av.logging.set_level(None)
    assert said == []
    return numbers


def frames_in(kind: str, path: Path) -> int:
    """Frames in an output, which is whole."""
    if kind == "video":
        numbers = numbers_in(path)
        assert numbers == [k % 64 for k in range(len(numbers))]
        return len(numbers)
    if kind == "sheet":
        assert cv2.imread(str(path)) is not None
        return 12
    text = path.read_text()
    if kind == "coco":
        return len(json.loads(text)["images"])
    assert text.endswith("\n")
    rows = list(csv.reader(text.splitlines()))
    assert kind == "jsonl" or len({len(row) for row in rows}) == 1
    if kind == "jsonl":
        assert [json.loads(line)["frame"] for line in text.splitlines()] == list(range(len(rows)))
    return len(rows) - (kind == "csv")


def kept(message: str) -> dict[str, int]:
    """What an error says is kept: frames by file."""
    return {Path(name).name: int(count) for name, count in re.findall(r"(\S+) \((\d+) frames?\)", message)}


@needs_posix
@pytest.mark.parametrize(("suffix", "limit"), [*((suffix, 60_000) for suffix in VIDEOS), (".mp4", 100_001)])
def test_a_video_for_which_the_disk_is_too_small_ends_at_its_last_whole_frame(
    suffix: str, limit: int, tmp_path: Path
) -> None:
    path = tmp_path / f"o{suffix}"
    frames = source_frames((k / 25 for k in range(2000)), size=(320, 240))
    with full_disk(limit), pytest.raises(SourceError, match=r"File too large; kept: ") as error:
        write_results([("video", path), ("otb", tmp_path / "boxes.txt")], frames)
    said = kept(str(error.value))
    assert said == {path.name: frames_in("video", path), "boxes.txt": frames_in("otb", tmp_path / "boxes.txt")}
    assert 10 < said[path.name] <= said["boxes.txt"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(said)
    assert path.stat().st_size <= limit


@needs_posix
@pytest.mark.parametrize("kind", ["csv", "jsonl", "mot", "otb", "coco"])
def test_tables_for_which_the_disk_is_too_small_end_with_a_whole_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"o{SUFFIX[kind]}"
    frames = source_frames((k / 25 for k in range(2000)), size=(32, 24))
    with full_disk(20_001), pytest.raises(SourceError, match="File too large; kept: ") as error:
        write_results([(kind, path)], frames)
    if kind == "mot":
        assert 300 < frames_in(kind, path) < kept(str(error.value))[path.name]
    else:
        assert kept(str(error.value)) == {path.name: frames_in(kind, path)}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@needs_posix
@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_fits_what_was_there_stays(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"o{SUFFIX[kind]}"
    path.write_text("old")
    with full_disk(10), pytest.raises(SourceError, match="kept: nothing"):
        write_results([(kind, path)], source_frames([0.0] * 3))
    assert path.read_text() == "old" or kind == "jsonl"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


WITHOUT_PYAV = """
import sys
sys.modules["av"] = None
from spm_rt.errors import SourceError
from tests.support.disk import full_disk
from tests.support.media.results import source_frames, write_results
for suffix in (".webm", ".mkv", ".mp4", ".avi"):
    try:
        with full_disk(8000):
            frames = source_frames(k / 25 for k in range(80))
            write_results([("video", f"{sys.argv[1]}/o{suffix}")], frames)
    except SourceError as error:
        print(error)
"""


@needs_posix
def test_a_full_disk_without_pyav_is_noticed_and_said(tmp_path: Path) -> None:
    """OpenCV says nothing; MP4 and AVI, which it completes at the end, are lost then."""
    child = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYAV, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    messages = child.stdout.splitlines()
    assert all("frames can be read again; is the disk full?; kept: " in message for message in messages)
    said = [kept(message) for message in messages]
    assert [set(each) for each in said[:2]] == [{"o.webm"}, {"o.mkv"}]
    assert {path.name for path in tmp_path.iterdir()} == {name for each in said for name in each}
    for each in said:
        for name, count in each.items():
            assert frames_in("video", tmp_path / name) == count > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, for those who may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_of_a_megabyte_fills_up_under_all_outputs(small_disk: Path) -> None:
    requests = [(kind, small_disk / f"{kind}{SUFFIX[kind]}") for kind in KINDS if kind != "sheet"]
    requests.append(("video", small_disk / "second.webm"))
    frames = source_frames((k / 25 for k in range(3000)), size=(320, 240))
    with pytest.raises(SourceError, match="No space left on device") as error:
        write_results(requests, frames)
    said = kept(str(error.value))
    assert {path.name for path in small_disk.iterdir()} == said.keys() >= {"video.mp4", "second.webm", "csv.csv"}
    for kind, path in requests:
        if path.exists() and kind != "mot":
            assert frames_in(kind, path) == said[path.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), ValueError("a bad frame"), SourceError("end")])
def test_an_exception_keeps_what_was_done(error: BaseException, tmp_path: Path) -> None:
    requests = [Request(kind, str(tmp_path / f"{kind}{SUFFIX[kind]}")) for kind in KINDS]
    outputs = open_outputs(requests)

    def run() -> None:
        with outputs:
            for frame in source_frames(k / 25 for k in range(20)):
                outputs.write(frame, tracked(frame.index))
            raise error

    with pytest.raises(type(error)):
        run()
    assert [w.frames for w in outputs.written] == [12 if kind == "sheet" else 20 for kind in KINDS]
    for request in requests:
        assert frames_in(request.kind, Path(request.path)) == (
            12 if request.kind == "sheet" else 17 if request.kind == "mot" else 20
        )
    assert len(list(tmp_path.iterdir())) == len(KINDS)


def test_an_exception_before_the_first_frame_leaves_nothing(tmp_path: Path) -> None:
    requests = [Request(kind, str(tmp_path / f"{kind}{SUFFIX[kind]}")) for kind in KINDS]
    with pytest.raises(ValueError, match="no box"), open_outputs(requests) as outputs:
        raise ValueError("no box")
    assert {w.frames for w in outputs.written} == {0}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("stage", "count"), [("write", "1 frame"), ("finish", "2 frames")])
def test_one_output_that_fails_spoils_no_other(
    stage: str, count: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(lines.LineFile, stage, broken)
    with pytest.raises(SourceError, match=rf"o\.csv: Input/output error; kept: .*o\.mp4 \({count}\)") as error:
        write_results([("csv", tmp_path / "o.csv"), ("video", tmp_path / "o.mp4")], source_frames([0.0, 0.1]))
    assert kept(str(error.value))["o.mp4"] == frames_in("video", tmp_path / "o.mp4")


def test_a_video_that_cannot_be_read_again_is_not_called_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes everything and keeps half of it."""
    total = 0

    def forget(descriptor: int, content: bytes) -> None:
        nonlocal total
        total += len(content)
        if total < 20_000:
            write_all(descriptor, content)
        else:
            os.lseek(descriptor, len(content), os.SEEK_CUR)

    monkeypatch.setattr(encoders, "write_all", forget)
    with pytest.raises(SourceError, match="frames can be read again") as error:
        write_results([("video", tmp_path / "o.mp4")], source_frames(k / 25 for k in range(200)))
    assert kept(str(error.value)).get("o.mp4", 0) < 200


RUN = """
import sys, time
from pathlib import Path
from spm_rt.outputs import Request, open_outputs
from spm_rt.terminal import run_command
from tests.support.media.results import source_frames, tracked

def track():
    names = {"video": "o.mp4", "csv": "o.csv", "jsonl": "o.jsonl"}
    requests = [Request(kind, str(Path(sys.argv[1]) / name)) for kind, name in names.items()]
    with open_outputs(requests) as outputs:
        for frame in source_frames(k / 25 for k in range(100000)):
            outputs.write(frame, tracked(frame.index))
            time.sleep(0.001)  # leaves a core now and then to the test that is to send the signal

sys.exit(run_command("track", track))
"""


@needs_posix
@pytest.mark.parametrize(
    ("number", "status", "again"), [("SIGINT", 130, False), ("SIGTERM", 143, True), ("SIGHUP", 129, False)]
)
def test_signals_end_a_run_between_two_frames(number: str, status: int, again: bool, tmp_path: Path) -> None:
    """All outputs have the same frames; a second signal does not change that."""
    with subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE) as child:
        while not (tmp_path / "o.jsonl").exists() or (tmp_path / "o.jsonl").read_text().count("\n") < 30:
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(getattr(signal, number))
        if again:
            time.sleep(0.02)
            child.send_signal(getattr(signal, number))
        # The second one may come when Python handles none any more.
        assert child.wait(60) in ((status, -getattr(signal, number)) if again else (status,))
        assert child.stderr is not None
        assert len(child.stderr.read().splitlines()) <= 1
    counts = {frames_in(kind, tmp_path / f"o{SUFFIX[kind]}") for kind in ("video", "csv", "jsonl")}
    assert len(counts) == 1
    assert counts.pop() >= 30
    assert len(list(tmp_path.iterdir())) == 3
