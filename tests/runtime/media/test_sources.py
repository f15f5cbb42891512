"""Videos of every kind, whole and damaged: which frames come out, when, and what is said of those that do not."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from spm_rt.errors import SourceError
from spm_rt.media.sources import SourceFrame, SourceReport, open_source

from ...support.layers import ROOT
from ...support.media.cells import DAMAGED, WHOLE, Cell, count_frames, cut, has_ffprobe
from ...support.media.films import COUNT, RATE, SIZE, number_of, numbered, write_film

Films = Callable[[str], Path]
FROM_THE_KEYFRAME_BEHIND = set(range(16, COUNT))
DEMO = ROOT / "export" / "spm_export" / "data" / "bunny.mp4"


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Films:
    """Gives the film of a cell, which is written once."""
    folder = tmp_path_factory.mktemp("films")
    cells = {**WHOLE, **DAMAGED}

    def film(name: str) -> Path:
        path = folder / name
        return path if path.exists() else cells[name].write(path)

    return film


def read(path: Path, **options: object) -> tuple[list[SourceFrame], SourceReport]:
    with open_source(path, **options) as source:  # type: ignore[arg-type]
        return list(source), source.report()


def numbers(frames: list[SourceFrame]) -> list[int]:
    return [number_of(frame.picture) for frame in frames]


def assert_times(frames: list[SourceFrame], cell: Cell) -> None:
    assert cell.times is not None
    np.testing.assert_allclose([frame.time for frame in frames], cell.times, atol=cell.accuracy)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="asks for the scheduling of this thread")
@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9", "libsvtav1"])
def test_films_leave_the_priority_of_those_who_make_them_alone(codec: str, tmp_path: Path) -> None:
    before = os.sched_getscheduler(0)
    write_film(tmp_path / "film.mkv", codec, numbers=range(5))
    assert os.sched_getscheduler(0) == before


@pytest.mark.parametrize("name", WHOLE)
def test_every_frame_arrives_once_and_in_order_at_its_own_time(name: str, films: Films) -> None:
    cell = WHOLE[name]
    frames, report = read(films(name))
    assert numbers(frames) == list(cell.numbers)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert_times(frames, cell)
    assert (report.read, report.unreadable, report.expected) == (len(frames), 0, len(frames))
    assert not report.damaged


@pytest.mark.skipif(not has_ffprobe(), reason="ffprobe is not installed (apt-get install ffmpeg)")
@pytest.mark.parametrize("name", [*WHOLE, *DAMAGED])
def test_as_many_frames_arrive_as_ffprobe_counts(name: str, films: Films) -> None:
    """Of damaged videos, up to two more or fewer: whether a torn picture is given out is the decoder's choice."""
    frames, _ = read(films(name))
    assert abs(len(frames) - count_frames(films(name))) <= (0 if name in WHOLE else 2)


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_behind_a_damaged_spot_is_read_and_the_difference_is_said(name: str, films: Films) -> None:
    frames, report = read(films(name))
    found = numbers(frames)
    assert report.damaged
    assert 9 <= report.read == len(frames) < COUNT
    if name.startswith("cut"):
        assert found == sorted(set(found))
        assert found[-1] <= len(found)  # of reordered frames at the cut, one may lack
        assert report.unreadable or "end" in report.notes[0] or "cut off" in report.notes[0]
    else:
        assert set(range(5)) | FROM_THE_KEYFRAME_BEHIND <= set(found)
        assert report.unreadable or name == "zeros.h264"  # which has neither times nor an index
    times = [frame.time for frame in frames if frame.time is not None]
    assert times == sorted(set(times))


@pytest.mark.parametrize("name", ["zeros_ffv1.mkv", "zeros.ts", "zeros_index_at_end.mp4"])
def test_frames_behind_a_damaged_spot_keep_their_numbers(name: str, films: Films) -> None:
    frames, report = read(films(name))
    assert [frame.index for frame in frames[-8:]] == numbers(frames)[-8:] == sorted(FROM_THE_KEYFRAME_BEHIND)
    assert report.expected == report.read + report.unreadable == COUNT


def test_the_documented_table_has_every_kind_of_video_and_what_comes_out_of_it(films: Films) -> None:
    page = (ROOT / "docs" / "notes" / "sources.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\S+)` \| \d+ \| (\d+)", page, re.M))
    assert set(rows) == {*WHOLE, *DAMAGED}
    read_here = {name: len(read(films(name))[0]) for name in rows}
    assert {name: int(rows[name]) for name in WHOLE} == {name: read_here[name] for name in WHOLE}
    # What zeros hit depends on how many threads the encoder of this machine has.
    assert [name for name in DAMAGED if abs(int(rows[name]) - read_here[name]) > 1] == []


def test_start_step_and_rate() -> None:
    frames, report = read(DEMO, start=5, step=3, rate=10)
    assert [frame.index for frame in frames] == list(range(5, 122, 3))
    assert [frame.time for frame in frames] == [frame.index / 10 for frame in frames]
    assert report.expected == report.read == len(frames)


def test_a_start_behind_the_end_says_how_many_frames_there_are(films: Films) -> None:
    with pytest.raises(SourceError, match=r"no frame can be read from it \(it has 24 frames"):
        read(films("h264.mp4"), start=24)


@pytest.mark.parametrize("name", ["h264.mp4", "hevc_10_bit.mkv", "odd_size.webm", "h264_444.mp4", "animated.gif", DEMO])
def test_pixels_are_those_of_opencv(name: str | Path, films: Films) -> None:
    path = films(name) if isinstance(name, str) else name
    ours, _ = read(path, reader="pyav")
    theirs, _ = read(path, reader="opencv")
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.picture, b.picture)
        assert a.picture.flags.c_contiguous


READ_BIG = """
import gc, resource, sys
from spm_rt.media.sources import open_source

gc.disable()
faults, pages = [], 0
with open_source(sys.argv[1], reader="pyav") as source:
    for frame in source:
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
        pages = frame.picture.nbytes // resource.getpagesize()
left = sum(type(thing).__name__ == "VideoFrame" for thing in gc.get_objects())
print((faults[-1] - faults[len(faults) // 2]) / (len(faults) // 2) / pages, left)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts page faults as Linux does")
def test_frames_use_the_memory_of_those_before_them(tmp_path: Path) -> None:
    """In a process of its own, where no large block has been freed yet, and garbage is not collected."""
    film = write_film(tmp_path / "big.mp4", numbers=range(12), size=(1280, 720), options={"preset": "ultrafast"})
    done = subprocess.run([sys.executable, "-c", READ_BIG, film], capture_output=True, check=True, text=True)
    fresh, left = done.stdout.split()
    assert float(fresh) < 0.2
    assert int(left) <= 2


@pytest.mark.parametrize("degrees", [90, 180, 270, -90])
@pytest.mark.parametrize("reader", ["pyav", "opencv"])
def test_a_turned_video_is_shown_upright(degrees: int, reader: str, tmp_path: Path) -> None:
    path = write_film(tmp_path / "turned.mp4", rotation=degrees, numbers=[0b010011])
    (frame,), _ = read(path, reader=reader)
    upright = np.rot90(numbered(0b010011), degrees // 90)
    assert frame.picture.shape == upright.shape
    assert np.abs(frame.picture.astype(int) - upright).mean() < 8


MIRRORED = {"left and right": (-1, 0, 0, 1), "top and bottom": (1, 0, 0, -1), "both axes": (0, 1, 1, 0)}


@pytest.mark.parametrize("matrix", [*MIRRORED.values(), (0, -2, -2, 0), (0, 0, 0, 0)], ids=str)
def test_a_mirrored_video_is_shown_as_players_show_it(matrix: tuple[int, int, int, int], tmp_path: Path) -> None:
    """The matrix moves a pixel from x, y to a x + c y, b x + d y."""
    path = write_film(tmp_path / "mirrored.mp4", numbers=[0b010011])
    film, (a, b, c, d) = path.read_bytes(), matrix
    at = film.index(b"tkhd") + 44
    stated = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(film[:at] + stated + film[at + 36 :])
    (frame,), _ = read(path, reader="pyav")
    wanted = numbered(0b010011)
    if b:
        wanted, a, d = wanted.transpose(1, 0, 2), c, b
    wanted = wanted[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    assert frame.picture.shape == wanted.shape
    assert np.abs(frame.picture.astype(int) - wanted).mean() < 8


CHILDREN = """
import os, sys
from spm_rt import ProcessError
from spm_rt.media.sources import open_source

def end(child):
    try:
        next(frames)
    except ProcessError:
        if child == "closes it":
            source.close()
        sys.exit(3)

path, reader = sys.argv[1:]
with open_source(path, reader=reader) as source:
    frames = iter(source)
    for child in ("leaves it open", "closes it"):
        next(frames)
        pid = os.fork()
        if not pid:
            end(child)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert len(list(frames)) == int(source.expected) - 2
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("reader", ["pyav", "opencv"])
def test_a_forked_child_ends_and_reads_no_video_of_its_parent(reader: str, films: Films) -> None:
    arguments = [sys.executable, "-c", CHILDREN, str(films("h264.mp4")), reader]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("matrix", "inside"), [({"colorspace": "bt709"}, "bt709"), ({"colorspace": "smpte170m"}, "smpte170m")]
)
def test_colors_are_those_that_the_video_states(matrix: dict[str, str], inside: str, tmp_path: Path) -> None:
    """The same BGR picture, written by either matrix, comes back as it was."""
    import av

    color = np.full((SIZE[1], SIZE[0], 3), (40, 60, 210), np.uint8)
    frame = av.VideoFrame.from_ndarray(color, format="bgr24").reformat(
        format="yuv444p", dst_colorspace="ITU709" if inside == "bt709" else "ITU601", dst_color_range="MPEG"
    )
    with av.open(str(tmp_path / "c.mkv"), "w") as film:
        stream = film.add_stream("ffv1", rate=RATE, options=matrix)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv444p"
        frame.pts = 0
        film.mux([*stream.encode(frame), *stream.encode(None)])
    (found,), _ = read(tmp_path / "c.mkv")
    np.testing.assert_allclose(found.picture.reshape(-1, 3).mean(axis=0), (40, 60, 210), atol=2)


def _segments(folder: Path, codec: str, form: str) -> Path:
    """A film in segments of eight frames, and the list of them."""
    options = {
        "segment": {"segment_time": "0.3", "segment_list": str(folder / "list.m3u8")},
        "hls": {"hls_time": "0.3", "hls_list_size": "0", "hls_segment_filename": str(folder / "s%d.ts")},
    }
    name = {"segment": "s%d.ts", "hls": "list.m3u8"}[form]
    write_film(folder / name, codec, form=form, container=options[form])
    assert len(list(folder.glob("s*.ts"))) > 1
    return folder / "list.m3u8"


@pytest.mark.parametrize("form", ["segment", "hls"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
@pytest.mark.parametrize("joined", [False, True])
def test_segments_are_no_damage(codec: str, form: str, joined: bool, tmp_path: Path) -> None:
    """In a list, or one behind the other in one file, where the counts of packets start anew and the times do not."""
    source = _segments(tmp_path, codec, form)
    if joined:
        parts = sorted(tmp_path.glob("s*.ts"))
        source = tmp_path / "joined.ts"
        source.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames, report = read(source)
    assert numbers(frames) == list(range(COUNT))
    assert (report.read, report.unreadable, report.expected, report.damaged) == (COUNT, 0, COUNT, False)


@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("x.mkv", "libx264", {"bf": "2"}),
        ("x.mkv", "libx264", {"bf": "5", "b_adapt": "0", "b-pyramid": "strict"}),
        ("x.mkv", "mpeg4", {}),
        ("x.mkv", "libx265", {}),
        ("x.webm", "libvpx", {}),
        ("x.ogv", "libvpx", {}),
        ("x.ts", "libx264", {}),
        ("x.mpg", "mpeg2video", {}),
    ],
)
def test_joined_files_are_no_damage(name: str, codec: str, options: dict[str, str], times: int, tmp_path: Path) -> None:
    """As by ``cat``; some readers of containers end behind the second, then so does ffprobe's count."""
    path = write_film(tmp_path / name, codec, options=options)
    path.write_bytes(path.read_bytes() * times)
    frames, report = read(path)
    assert numbers(frames) == list(range(COUNT)) * (len(frames) // COUNT)
    assert len(frames) >= 2 * COUNT
    assert [frame.index for frame in frames] == list(range(len(frames)))
    steps = np.diff([frame.time for frame in frames])  # type: ignore[arg-type]
    assert 0.5 / RATE < steps.min() <= steps.max() < 2.5 / RATE
    assert (report.unreadable, report.damaged) == (0, False)
    assert any("start anew" in note for note in report.notes)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="PyAV's wheel cannot write Theora (apt-get install ffmpeg)")
def test_headers_in_the_middle_are_no_frames(tmp_path: Path) -> None:
    path = write_film(tmp_path / "x.mkv")
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", path, "-c:v", "libtheora", tmp_path / "x.ogv"], check=True, timeout=60
    )
    (tmp_path / "x.ogv").write_bytes((tmp_path / "x.ogv").read_bytes() * 2)
    frames, report = read(tmp_path / "x.ogv")
    assert [frame.index for frame in frames] == list(range(2 * COUNT))
    assert (report.unreadable, report.damaged) == (0, False)


def test_a_change_of_size_is_named(tmp_path: Path) -> None:
    first = write_film(tmp_path / "a.ts").read_bytes()
    second = write_film(tmp_path / "b.ts", size=(320, 240)).read_bytes()
    (tmp_path / "both.ts").write_bytes(first + second)
    with open_source(tmp_path / "both.ts") as source:
        with pytest.raises(SourceError, match=r"both\.ts: frame 2\d is 320 x 240, those before it are 160 x 120"):
            list(source)
        assert 20 <= source.report().read <= COUNT


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "text.mp4": (lambda path: path.write_text("no video"), "cannot be opened as a video"),
    "nothing.mp4": (lambda path: path.touch(), "the file is empty"),
    "a_folder.mp4": (lambda path: path.mkdir(), "no pictures in it"),
    "noise.mkv": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)), "cannot be opened as a video"),
    "without_index.mp4": (Cell(change=cut(0.6)).write, "its index, which is written last, is missing"),
    "no_header.mkv": (
        Cell(change=lambda data: bytes(600) + data[600:]).write,
        "(cannot be opened|no frame can be read)",
    ),
    "only_header.mkv": (Cell(change=cut(0.05)).write, "(cannot be opened|no frame can be read|no video)"),
}


@pytest.mark.parametrize("reader", ["pyav", "opencv"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_no_video_is_named_with_the_reason(name: str, reader: str, tmp_path: Path) -> None:
    make, reason = REFUSED[name]
    make(tmp_path / name)
    reason = reason if reader == "pyav" or "index" not in reason else "cannot be opened as a video"
    with pytest.raises(SourceError, match=rf"{name}: .*{reason}") as caught:
        read(tmp_path / name, reader=reader)
    assert "\n" not in str(caught.value)


def test_sound_alone_is_no_video_even_with_a_picture_on_its_cover(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "song.mp3"), "w") as song:
        sound = song.add_stream("libmp3lame", rate=44100, layout="mono")
        cover = song.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = *SIZE, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4608), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        picture = av.VideoFrame.from_ndarray(numbered(1), format="bgr24").reformat(format="yuvj420p")
        picture.pts = 0
        song.mux([*cover.encode(picture), *cover.encode(None), *sound.encode(silence), *sound.encode(None)])
    with pytest.raises(SourceError, match=r"song\.mp3: there is no video in it"):
        open_source(tmp_path / "song.mp3")


@pytest.mark.parametrize("name", ["h264.mp4", "uneven.mkv", "mpeg4.avi", "vp9.webm", "joined.ts", "fragmented.mp4"])
def test_opencv_alone_reads_the_same_frames_and_says_what_it_cannot_know(name: str, films: Films) -> None:
    frames, report = read(films(name), reader="opencv")
    assert numbers(frames) == list(WHOLE[name].numbers)
    assert "OpenCV" in report.notes[0]
    assert not report.damaged


def test_opencv_alone_goes_on_behind_a_damaged_spot(films: Films) -> None:
    """What it makes of Matroska's depends on the number of its threads, which is that of the cores."""
    frames, report = read(films("zeros.mp4"), reader="opencv")
    assert set(numbers(frames)) >= FROM_THE_KEYFRAME_BEHIND
    assert report.damaged
    assert report.unreadable


def test_opencv_reads_where_pyav_cannot_be_imported(films: Films, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    frames, report = read(films("h264.mp4"))
    assert len(frames) == COUNT
    assert "PyAV" in report.notes[0]
    with pytest.raises(SourceError, match=r"PyAV cannot be imported .*pip install 'spm-rt\[video\]'"):
        open_source(films("h264.mp4"), reader="pyav")
    with pytest.raises(SourceError, match="read by PyAV only"):
        open_source("/dev/zero")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": -1}, "start -1"),
        ({"step": 0}, "step 0"),
        ({"rate": 0.0}, "rate 0"),
        ({"rate": float("nan")}, "rate nan"),
        ({"timeout": float("inf")}, "timeout inf"),
        ({"levels": (5, 5)}, "levels 5, 5"),
        ({"reader": "vlc"}, "reader 'vlc': there are auto, pyav, opencv"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], message: str, films: Films) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(films("h264.mp4"), **options)  # type: ignore[arg-type]


def test_a_camera_is_read_by_opencv_at_its_own_pace(
    monkeypatch: pytest.MonkeyPatch, films: Films, tmp_path: Path
) -> None:
    """A film stands in for the camera; a folder of the same name is taken first."""
    opened = []
    film, capture = str(films("mpeg4.avi")), cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: opened.append(source) or capture(film))
    monkeypatch.chdir(tmp_path)
    with open_source("2024") as source:
        times = [frame.time for frame in source]
        assert source.live
        assert source.expected is None
    assert opened == [2024]
    assert len(times) == COUNT
    assert times == sorted(times)
    cv2.imwrite("2024.png", numbered(3))
    Path("2024").mkdir()
    Path("2024.png").rename("2024/1.png")
    assert numbers(read(Path("2024"))[0]) == [3]


def test_a_camera_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match="97: there is no such camera"):
        open_source("97")


WITH_BROKEN_PYAV = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from spm_rt.media.sources import open_source
from spm_rt.outputs.reading import count_frames
with open_source(sys.argv[2]) as source:
    frames = len(list(source))
    print(frames, count_frames(Path(sys.argv[2])), source.report().notes[-1])
"""


@pytest.mark.parametrize("body", ["raise OSError('libx.so.1: no such file')", "import numpy.nowhere", "1 / 0"])
def test_a_pyav_that_cannot_be_imported_is_as_good_as_none_and_the_reason_is_told(body: str, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4")
    (tmp_path / "av.py").write_text(body)
    command = [sys.executable, "-c", WITH_BROKEN_PYAV, str(tmp_path), str(film)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("24 24 PyAV is installed and cannot be imported (")
