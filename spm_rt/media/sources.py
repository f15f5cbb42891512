"""One way to open everything that has frames: files, folders, patterns, URLs, cameras, standard input.

=======================  ====================================================================================
source                   what it is
=======================  ====================================================================================
``clip.mp4``             a file: a video, or one picture
``frames/``              the pictures of a folder in natural order (2 before 10)
``frames/%04d.png``      the pictures that fit: a C pattern, or one with ``*`` and ``?``
``rtsp://...``           a URL that FFmpeg reads: rtsp, http, https, udp, srt, ...
``0``, ``/dev/video0``   a camera
``-``                    standard input
=======================  ====================================================================================
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import SourceError
from . import containers
from .capture import CaptureReader
from .pictures import SUFFIXES, PictureReader, picture_files
from .protocol import Reader, SourceFrame, SourceReport

__all__ = ["Source", "SourceFrame", "SourceReport", "is_camera", "open_source"]
READERS = ("auto", "pyav", "opencv")


class Source:
    """Frames of one source, to be iterated once. A context manager.

    Attributes:
        name: as it was given.
        expected: frames that the source states: for progress bars, never to stop at. None where nobody knows.
        frame_rate: frames per second on average; None where the source does not say.
        live: whether frames come at their own pace and end when somebody ends them.
    """

    def __init__(self, name: str, reader: Reader, *, start: int, step: int, rate: float | None) -> None:
        self.name = name
        self.frame_rate = rate or reader.frame_rate
        self.live = reader.live
        self.expected = None if reader.expected is None else len(range(start, reader.expected, step))
        self._reader, self._start, self._step, self._rate = reader, start, step, rate
        self._read = 0

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[SourceFrame]:
        size = None
        for index, time, file, convert in self._reader:
            if index < self._start or (index - self._start) % self._step:
                continue
            picture = convert()
            where = f"{self.name}: {file or f'frame {index}'}"
            if size is not None and picture.shape[:2] != size:
                raise SourceError(
                    f"{where} is {picture.shape[1]} x {picture.shape[0]}, the frames before it are "
                    f"{size[1]} x {size[0]}; a track needs frames of one size"
                )
            size = picture.shape[:2]
            self._read += 1
            yield SourceFrame(picture, index, index / self._rate if self._rate else time, file)
        if not self._read:
            raise SourceError(f"{self.name}: no frame can be read from it")

    def report(self) -> SourceReport:
        """What became of it, so far or in the end."""
        reader = self._reader
        damaged = reader.damaged or reader.unreadable > 0
        return SourceReport(self._read, reader.unreadable, self.expected, tuple(reader.notes), damaged)

    def close(self) -> None:
        """Let go of the file, stream or camera."""
        self._reader.close()


def is_camera(source: str) -> bool:
    """Whether the source names a camera by its number, as OpenCV does: ``0``, ``1``, ..."""
    return source.isascii() and source.isdigit()


def open_source(
    source: str | os.PathLike[str],
    *,
    reader: str = "auto",
    start: int = 0,
    step: int = 1,
    levels: tuple[int, int] | None = None,
    rate: float | None = None,
    timeout: float = 10.0,
) -> Source:
    """Open a source of frames; see :mod:`spm_rt.media.sources` for what counts as one.

    Args:
        source: what to read.
        reader: ``pyav`` or ``opencv`` for videos and streams; ``auto``: PyAV if it is installed.
        start: frames that are jumped over at the beginning.
        step: 1: every frame; 2: every second one, and so on.
        levels: the counts of 16-bit pictures that become 0 and 255; by default the range of the whole sequence.
        rate: frames per second. Times are then counted by it, whatever the source says; folders say nothing.
        timeout: seconds to wait for a stream's next data.

    Raises:
        SourceError: there is nothing to read; the message says what is wrong with which source.
    """
    name = os.fspath(source)
    return Source(name, _reader(name, reader, timeout, rate), start=start, step=step, rate=rate)


def _reader(name: str, reader: str, timeout: float, rate: float | None) -> Reader:
    """What can read this source."""
    if is_camera(name) and not os.path.exists(name):
        return CaptureReader(int(name), name, live=True, timeout=timeout)
    if os.path.isdir(name):
        return PictureReader(picture_files(name), rate)
    if os.path.isfile(name) and Path(name).suffix.lower() in SUFFIXES:
        return PictureReader([Path(name)], rate)
    is_url = re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name) is not None
    if not is_url and name != "-" and not os.path.exists(name):
        raise SourceError(f"{name}: no such file or folder")
    if reader == "opencv" or (reader == "auto" and not containers.is_installed()):
        return CaptureReader(name, name, live=is_url, timeout=timeout)
    if name == "-":
        return containers.ContainerReader(sys.stdin.buffer, name, live=False, timeout=None)
    return containers.open_file(name, live=is_url, timeout=timeout if is_url else None)
