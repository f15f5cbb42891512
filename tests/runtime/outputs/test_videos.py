"""Annotated videos: every frame, at its own time, in files that browsers play."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from spm_rt.errors import SourceError
from spm_rt.outputs import Request, encoders, open_outputs, video
from spm_rt.outputs.video import Clock

from ...support.media.films import number_of, numbered
from ...support.media.results import source_frames, write_results

av = pytest.importorskip("av")
SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
UNEVEN = [0.0, 0.04, 0.05, 0.3, 0.31, 1.0, 1.5, 1.501, 4.0]
"""Times of frames as of a screen recording."""


def read(path: Path) -> tuple[list[float], list[int]]:
    """Times of all frames of a video, and their numbers."""
    with av.open(str(path)) as container:
        frames = [(frame.time, number_of(frame.to_ndarray(format="bgr24"))) for frame in container.decode(video=0)]
    return [time for time, _ in frames], [number for _, number in frames]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("rate", [5.0, 24000 / 1001, 66.667, 119.881, 144.002, 196.263, 211.222, 1000.0])
def test_a_video_has_every_frame_at_any_rate(suffix: str, rate: float, tmp_path: Path) -> None:
    path = tmp_path / f"o{suffix}"
    written = write_results([("video", path)], source_frames(k / rate for k in range(20)), rate=rate)
    assert [(w.frames, w.note) for w in written] == [(20, "")]
    times, numbers = read(path)
    assert numbers == list(range(20))
    tick = 0.0011 if suffix in (".mkv", ".webm") else 2e-5 * 20
    assert times == pytest.approx([k / rate for k in range(20)], abs=tick)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("start", [0.0, 12.5])
def test_frames_are_shown_when_the_source_showed_them(suffix: str, start: float, tmp_path: Path) -> None:
    path = tmp_path / f"o{suffix}"
    write_results([("video", path)], source_frames(start + time for time in UNEVEN), rate=25)
    times, numbers = read(path)
    assert (numbers, times) == (list(range(len(UNEVEN))), pytest.approx(UNEVEN, abs=0.0011))
    with av.open(str(path)) as container:
        assert container.duration / 1e6 == pytest.approx(UNEVEN[-1] + 0.04, abs=0.01)


def test_an_avi_has_one_frame_rate_and_it_is_said_that_times_differ(tmp_path: Path) -> None:
    (written,) = write_results([("video", tmp_path / "o.avi")], source_frames(UNEVEN), rate=25)
    assert "25 frames per second throughout" in written.note
    assert read(tmp_path / "o.avi")[1] == list(range(len(UNEVEN)))


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([None, None, None], [0, 0.1, 0.2]),
        ([7.0, 7.5, 7.6], [0, 0.5, 0.6]),
        ([0, 0.1, 0.0, 0.1], [0, 0.1, 0.2, 0.3]),  # two recordings, one behind the other
        ([0, 0, 0], [0, 0.1, 0.2]),
        ([0, float("nan"), float("inf")], [0, 0.1, 0.2]),
        ([0, 95443.7, 95443.8], [0, 0.1, 0.2]),  # a counter of 33 bits that began again
        ([-1.0, -0.5, 0.0], [0, 0.5, 1.0]),
    ],
)
def test_time_only_goes_forward(times: list[float | None], expected: list[float]) -> None:
    clock = Clock(10)
    assert [clock.next(frame) for frame in source_frames(times)] == pytest.approx(expected)


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
@pytest.mark.parametrize("size", [(161, 121), (160, 121), (161, 120), (17, 3), (2, 2), (1, 1)])
def test_sizes_may_be_odd(suffix: str, size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / f"o{suffix}"
    (written,) = write_results([("video", path)], source_frames([0, 0.04, 0.08], size=size))
    assert written.frames == 3
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert [picture.shape[1::-1] for picture in pictures] == [(size[0] + size[0] % 2, size[1] + size[1] % 2)] * 3


def test_frames_of_another_size_are_fitted_into_the_first_one_s(tmp_path: Path) -> None:
    frames = [*source_frames([0.0]), *source_frames([0.04], size=(320, 120), indices=[1])]
    write_results([("video", tmp_path / "o.mp4")], frames)
    with av.open(str(tmp_path / "o.mp4")) as container:
        first, second = (frame.to_ndarray(format="bgr24") for frame in container.decode(video=0))
    assert first.shape == second.shape == (120, 160, 3)
    assert second[:20].max() < 30 < second[50:70].mean()


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_browsers_play_it(suffix: str, tmp_path: Path) -> None:
    """H.264 or VP9 with halved colours, its index in front of the pictures, and the right colours."""
    path = tmp_path / f"o{suffix}"
    write_results([("video", path)], source_frames(k / 25 for k in range(30)))
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ({".mp4": "h264", ".webm": "vp9"}[suffix], "yuv420p")
        picture = next(container.decode(video=0)).to_ndarray(format="bgr24")
    difference = np.abs(picture[:80].astype(int) - numbered(0)[:80])
    assert difference.mean() < 3
    if suffix == ".mp4":
        content = path.read_bytes()
        assert content.find(b"moov") < content.find(b"mdat")
        assert b"moof" not in content


def test_where_there_is_no_room_for_a_copy_the_fragments_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, into: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(video, "put_index_in_front", full)
    (written,) = write_results([("video", tmp_path / "o.mp4")], source_frames(k / 25 for k in range(30)))
    assert "in fragments" in written.note
    assert read(tmp_path / "o.mp4")[1] == list(range(30))
    assert [path.name for path in tmp_path.iterdir()] == ["o.mp4"]


WITHOUT_PYAV = """
import sys
from pathlib import Path
sys.modules["av"] = None
from tests.support.media.results import source_frames, write_results
for suffix in (".mp4", ".webm", ".mkv", ".avi"):
    for rate in (25.0, 66.667, 119.881, 211.222):
        path = Path(sys.argv[1]) / f"{round(rate)}{suffix}"
        frames = source_frames((k / rate for k in range(20)), size=(161, 121))
        written, = write_results([("video", path)], frames, rate=rate)
        assert (written.frames, written.note) == (20, ""), written
"""


def test_without_pyav_opencv_writes_what_browsers_play(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_PYAV, str(tmp_path)], check=True, cwd=Path(__file__).parents[3])
    for path in tmp_path.iterdir():
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == ("mjpeg" if path.suffix == ".avi" else "vp9")
            assert float(stream.average_rate) == pytest.approx(float(path.stem), rel=0.01)
        assert read(path)[1] == list(range(20))


def test_frames_too_large_for_the_codec_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    frames = source_frames([0.0], size=(20000, 16))
    with pytest.raises(SourceError, match=r"o\.mp4: .*kept: nothing"):
        write_results([("video", tmp_path / "o.mp4")], frames)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["pipe:1", "a%04d", "bär 日本", "-o", "\udcff", "x" * 240])
def test_videos_have_any_name(suffix: str, name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (written,) = write_results([("video", folder / f"{name}{suffix}")], source_frames([3.0]))
    assert written.frames == 1
    assert os.listdir(folder) == [f"{name}{suffix}"]


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_an_encoder_that_is_missing_is_known_before_the_first_frame(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(av, "codecs_available", {"libvpx-vp9"})
    open_outputs([Request("video", str(tmp_path / "o.mp4"))]).finish()
    monkeypatch.setattr(av, "codecs_available", set())
    with pytest.raises(SourceError, match=rf"o{suffix}: this PyAV has no encoder for it \(.*libvpx-vp9\)"):
        open_outputs([Request("video", str(tmp_path / f"o{suffix}"))])
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr(encoders.cv2, "VideoWriter", Mock(return_value=Mock(isOpened=lambda: False)))
    with pytest.raises(SourceError, match=rf"o{suffix}: this OpenCV cannot write such a video; install PyAV"):
        open_outputs([Request("video", str(tmp_path / f"o{suffix}"))])
    assert list(tmp_path.iterdir()) == []
