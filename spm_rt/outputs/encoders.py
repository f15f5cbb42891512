"""Video files frame by frame: by PyAV, or by OpenCV where PyAV is not installed."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2

from ..errors import SourceError
from ..files import write_all
from ..media.drawing import Picture
from ..media.pyav import import_pyav

CLOCK = 90_000
"""Time stamps are counted in this part of a second, which the usual frame rates divide."""
_CODECS = {
    "libx264": {"preset": "veryfast", "crf": "20"},
    "libopenh264": {},
    "h264_videotoolbox": {},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "6", "row-mt": "1", "crf": "28", "b": "0"},
    "mjpeg": {"qmin": "3", "qmax": "3"},
}
"""Encoders and how they are set up: fast, and good enough to look at."""
_STREAMED = {
    "mp4": {"movflags": "frag_every_frame+empty_moov+default_base_moof"},
    "matroska": {"cluster_time_limit": "1000"},
    "webm": {"cluster_time_limit": "1000"},
    "avi": {},
}
"""Options of containers: what is on the disk can be played while more is being written."""
_H264 = ("libx264", "libopenh264", "h264_videotoolbox", "libvpx-vp9")


class Format(NamedTuple):
    """What a suffix stands for.

    Attributes:
        container: FFmpeg's name.
        codecs: encoders, the first that there is.
        code: OpenCV's name of the codec.
        times: whether every frame has a time stamp of its own.
    """

    container: str
    codecs: tuple[str, ...]
    code: str
    times: bool = True


FORMATS = {
    ".mp4": Format("mp4", _H264, "vp09"),
    ".m4v": Format("mp4", _H264, "vp09"),
    ".mov": Format("mp4", _H264, "vp09"),
    ".mkv": Format("matroska", _H264, "VP90"),
    ".webm": Format("webm", ("libvpx-vp9",), "VP90"),
    ".avi": Format("avi", ("mjpeg",), "MJPG", times=False),
}


class Encoder(Protocol):
    """Writes one video file; errors are OSError and SourceError."""

    error: OSError | None
    """What made it stop."""

    def write(self, picture: Picture, time: float) -> None:
        """One more frame, at so many seconds."""

    def close(self) -> None:
        """Write what is left to write."""


def check_encoder(path: Path, form: Format) -> None:
    """Find out before the first frame whether there is an encoder; ``path`` is an empty file and stays one.

    Raises:
        SourceError: there is none.
    """
    try:
        _known_codec(form)
    except ImportError:
        CvEncoder(path, form, (64, 64), 25.0).close()
        os.truncate(path, 0)


def _known_codec(form: Format) -> str:
    av = import_pyav()
    for name in form.codecs:
        if name in av.codecs_available:
            return name
    raise SourceError(f"this PyAV has no encoder for it ({', '.join(form.codecs)})")


class AvEncoder:
    """H.264, VP9 or Motion JPEG by PyAV, at any time stamps.

    MP4 files are written in fragments, one for each frame, so that what is on the disk can be played at any moment.

    Args:
        path: of the file, which is written from front to end.
        form: container and codec.
        size: width and height, both even.
        rate: frames per second, about.
    """

    def __init__(self, path: Path, form: Format, size: tuple[int, int], rate: float) -> None:
        av = import_pyav()
        self._av, self._form = av, form
        self.error: OSError | None = None
        self._file = _File(path)
        codec = _known_codec(form)
        exact = max(Fraction(rate).limit_denominator(1001), Fraction(1, 1001))
        self._tick = Fraction(1, CLOCK) if form.times else 1 / exact
        self._container: Any = av.open(self._file, "w", format=form.container, options=_STREAMED[form.container])
        stream: Any = self._container.add_stream(codec, rate=exact, options=_CODECS[codec])
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.time_base = stream.codec_context.time_base = self._tick
        stream.codec_context.max_b_frames = 0
        stream.codec_context.gop_size = max(12, min(250, round(2 * rate)))
        if codec != "mjpeg":  # the matrix that FFmpeg converts with, said in the file
            stream.codec_context.colorspace = 6
            stream.codec_context.color_range = 1
        self._stream, self._duration, self._last = stream, max(1, round(1 / rate / self._tick)), -1

    def write(self, picture: Picture, time: float) -> None:
        frame = self._av.VideoFrame.from_ndarray(picture, format="bgr24")
        self._last = max(round(time / self._tick), self._last + 1)
        frame.pts, frame.time_base, frame.duration = self._last, self._tick, self._duration
        self._mux(frame)

    def close(self) -> None:
        try:
            if not self.error:
                self._mux(None)
            self._container.close()
        except self._av.error.FFmpegError:
            if not self.error:
                raise
        finally:
            self._file.close()
            self.error = self.error or self._file.error

    def _mux(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (OSError, self._av.error.FFmpegError) as error:
            self.error = self._file.error or OSError(0, f"FFmpeg: {getattr(error, 'strerror', None) or error}")
            raise self.error from error
        if self._file.error:
            self.error = self._file.error
            raise self.error


class _File:
    """What PyAV writes to; after the first error everything is thrown away, so that it can be closed."""

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self._descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        self._place = 0

    def write(self, content: bytes) -> int:
        if not self.error:
            try:
                write_all(self._descriptor, content)
            except OSError as error:
                self.error = error
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class CvEncoder:
    """VP9 or Motion JPEG by OpenCV: at one frame rate, and without a word when the disk is full.

    Args:
        path: of the file.
        form: container and codec.
        size: width and height.
        rate: frames per second; MP4 and AVI know no finer ones than thousandths.
    """

    def __init__(self, path: Path, form: Format, size: tuple[int, int], rate: float) -> None:
        self.error: OSError | None = None
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise SourceError("OpenCV takes no such file name; install PyAV: pip install 'spm-rt[video]'") from None
        code = cv2.VideoWriter.fourcc(*form.code)
        rates = (rate, round(rate, 2), round(rate, 1), float(round(rate)))
        for number in rates:
            self._writer = cv2.VideoWriter(str(path), code, max(number, 0.1), size)
            if self._writer.isOpened():
                return
        raise SourceError("this OpenCV cannot write such a video; install PyAV: pip install 'spm-rt[video]'")

    def write(self, picture: Picture, time: float) -> None:
        self._writer.write(picture)

    def close(self) -> None:
        self._writer.release()
