"""What has no plain path: pipes, standard input, URLs, and names that are no text."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import pytest

from spm_rt.errors import SourceError
from spm_rt.files import shown
from spm_rt.media.sources import Source, open_source

from ...support.layers import ROOT
from ...support.media.films import COUNT, number_of, numbered, write_film
from ...support.media.servers import serve

EVERY = list(range(COUNT))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "film.ts")


def numbers(source: Source) -> list[int]:
    with source:
        return [number_of(frame.picture) for frame in source]


NAMES = [
    os.fsdecode(b"\xff\xfe\xc3.mp4"),
    "Köln 日本.mp4",
    "two words.mp4",
    "50%d.mp4",
    "100%.mp4",
    "first\nsecond.mp4",
    "-.mp4",
    "--frames.mp4",
    "a:b.mp4",
    "http:.mp4",
    "concat:x|y.mp4",
    "'quoted'.mp4",
    "what?#.mp4",
    "no_suffix",
    "picture.mp4.bak",
    "n" * 240 + ".mp4",
]


@pytest.mark.parametrize("reader", ["pyav", "opencv"])
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_file_may_have_any_name(
    name: str, reader: str, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(film.read_bytes())
    assert numbers(open_source(name, reader=reader)) == EVERY
    Path(name).write_bytes(b"no video")
    with pytest.raises(SourceError) as caught:
        numbers(open_source(name, reader=reader))
    assert str(caught.value).isprintable()
    assert shown(name) in str(caught.value)


@pytest.mark.parametrize("name", NAMES[:6], ids=ascii)
def test_a_picture_and_its_folder_may_have_any_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / f"{name}.png").write_bytes(cv2.imencode(".png", numbered(5))[1].tobytes())
    assert numbers(open_source(folder)) == [5]
    assert numbers(open_source(folder / f"{name}.png")) == [5]


@pytest.mark.parametrize("reader", ["pyav", "opencv"])
def test_names_are_read_where_python_takes_no_utf_8(reader: str, film: Path, tmp_path: Path) -> None:
    """In the C locale an umlaut arrives as two halves of a surrogate, of which OpenCV's own conversion crashes."""
    (tmp_path / "Köln.ts").write_bytes(film.read_bytes())
    (tmp_path / "Bär.png").write_bytes(cv2.imencode(".png", numbered(5))[1].tobytes())
    code = (
        "import sys; from spm_rt.media.sources import open_source\n"
        f"print([sum(1 for _ in open_source(name, reader={reader!r})) for name in sys.argv[1:]])\n"
        "try: open_source(sys.argv[1] + 'x')\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "Köln.ts", tmp_path / "Bär.png"],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    counts, message = done.stdout.splitlines()
    assert counts == f"[{COUNT}, 1]"
    assert "no such file" in message


@pytest.mark.parametrize("name", ["nul\0.mp4", "n" * 300 + ".mp4", "", "no/such/folder.mp4", "file.mp4/inside.mp4"])
def test_names_that_no_file_can_have_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file.mp4").write_text("a file")
    with pytest.raises(SourceError, match=r"(no such file or folder|cannot be opened)"):
        open_source(name)


@pytest.mark.parametrize(
    ("name", "message"), [("rtsp://user:secret@127.0.0.1:9/x", "rtsp://user:***@127"), ("a\nb", "'a\\nb'"), ("ü", "ü")]
)
def test_messages_hold_names_on_one_line_and_no_password(name: str, message: str) -> None:
    assert message in shown(name)
    assert "secret" not in shown(name)


def test_a_file_url_is_a_file(film: Path, tmp_path: Path) -> None:
    (tmp_path / "two words.ts").write_bytes(film.read_bytes())
    assert numbers(open_source((tmp_path / "two words.ts").as_uri())) == EVERY


class Pipe(io.BytesIO):
    """What standard input is in a pipeline: no way back."""

    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize("name", ["film.ts", "film.mkv", "film.mp4", "film.h264"])
def test_standard_input_is_read_from_front_to_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container = {"movflags": "frag_keyframe"} if name.endswith("mp4") else {}
    path = write_film(tmp_path / name, container=container)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Pipe(path.read_bytes())))
    assert numbers(open_source("-")) == EVERY


def test_pictures_may_come_one_after_another_through_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [cv2.imencode(".png", numbered(number))[1].tobytes() for number in range(5)]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Pipe(b"".join(pictures))))
    assert numbers(open_source("-")) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("data", [b"", b"no video"])
def test_standard_input_without_a_video_is_named(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Pipe(data)))
    with pytest.raises(SourceError, match="standard input: cannot be opened as a video"):
        open_source("-")


def test_a_pipe_with_the_index_at_its_end_is_told_from_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_film(tmp_path / "film.mp4").read_bytes()
    index = data.index(b"moov") - 4
    assert data.index(b"mdat") < index
    space = (1 << 20).to_bytes(4, "big") + b"free".ljust((1 << 20) - 4, b"\0")  # more than FFmpeg keeps
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Pipe(data[:index] + space + data[index:])))
    with open_source("-") as source, pytest.raises(SourceError, match=r"^standard input: .*index at the end.*matroska"):
        list(source)


def test_a_named_pipe_is_opened_once(film: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(film.read_bytes()))
    writer.start()
    assert numbers(open_source(pipe)) == EVERY
    writer.join(10)
    assert not writer.is_alive()


def test_an_interrupt_while_a_pipe_is_waited_for_is_not_swallowed(monkeypatch: pytest.MonkeyPatch, film: Path) -> None:
    class Interrupted(Pipe):
        def read1(self, size: int | None = -1, /) -> bytes:
            data = super().read1(size)
            if not data:
                raise KeyboardInterrupt
            return data

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Interrupted(film.read_bytes())))
    with open_source("-") as source, pytest.raises(KeyboardInterrupt):
        list(source)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Interrupted(b"")))
    with pytest.raises(KeyboardInterrupt):
        open_source("-")


@pytest.mark.parametrize("reader", ["pyav", "opencv"])
def test_a_web_address_is_read(reader: str, film: Path) -> None:
    with serve(film.read_bytes()) as address:
        assert numbers(open_source(f"{address}/film.ts", reader=reader, timeout=5)) == EVERY


@pytest.mark.parametrize("hangs", [True, False])
def test_a_web_server_that_stops_ends_the_source_with_a_word(hangs: bool, film: Path) -> None:
    data = film.read_bytes()
    with serve(data, sent=2 * len(data) // 3, hangs=hangs) as address:
        began = time.monotonic()
        with open_source(f"{address}/film.ts", timeout=1) as source:
            found = [number_of(frame.picture) for frame in source]
        report = source.report()
    assert 10 <= len(found) < COUNT
    assert found[:10] == EVERY[:10]
    assert report.damaged
    assert "it broke off: " + ("no data for 1 seconds" if hangs else "") in report.notes[0]
    assert time.monotonic() - began < 6


@pytest.mark.parametrize("path", ["/missing.mp4", "/never"])
def test_an_address_without_a_video_is_named_within_its_time(path: str) -> None:
    with serve(b"\0" * 100, sent=0, hangs=True) as address:
        began = time.monotonic()
        with pytest.raises(SourceError, match=rf"{path}: cannot be opened as a video \((.*404|no data for 1)"):
            open_source(f"{address}{path}", timeout=1)
        assert time.monotonic() - began < 6


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_takes_the_call_and_says_nothing_is_told_from_bad_data(scheme: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(SourceError, match="no data for 1 seconds"),
    ):
        open_source(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/x", timeout=1)


@pytest.mark.parametrize(
    "address", ["rtsp://127.0.0.1:9/camera", "http://127.0.0.1:9/x.mp4", "nothing://x", "tcp://127.0.0.1:9"]
)
def test_an_address_where_nobody_answers_is_named(address: str) -> None:
    with pytest.raises(SourceError, match=f"{address}: cannot be opened as a video"):
        open_source(address, timeout=1)
