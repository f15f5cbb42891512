"""One way to open everything that has frames: files, folders, patterns, URLs, cameras, standard input.

=======================  ============================================================================================
source                   what it is
=======================  ============================================================================================
``clip.mp4``             a file: a video, a picture, or a TIFF, WebP, AVIF or PNG of several
``frames/``              the pictures of a folder in natural order (2 before 10)
``frames/%04d.png``      the pictures that fit, as in C; or ``'frames/*.png'``
``rtsp://...``           a URL that FFmpeg reads: rtsp, http, https, udp, srt, ...
``0``, ``/dev/video0``   a camera
``-``                    standard input; a named pipe is read in the same way
=======================  ============================================================================================

What is there under a name is taken first: a folder called ``2024`` is no camera, a file called ``50%d.mp4`` no pattern.
"""

from __future__ import annotations

import math
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import SourceError
from ..files import shown
from . import READERS
from .capture import CameraReader, CaptureReader
from .pictures import SUFFIXES, PageReader, PictureReader, files_of_pattern, picture_files
from .protocol import Reader, SourceFrame, SourceReport

__all__ = ["Source", "SourceFrame", "SourceReport", "is_camera", "open_source", "source_name"]
_INSTALL = "install it: pip install 'spm-rt[video]'"


class Source:
    """Frames of one source, to be iterated once. A context manager.

    Attributes:
        name: as it was given.
        frame_rate: frames per second on average; None where the source does not say.
        live: whether frames come at their own pace and end when somebody ends them.
    """

    def __init__(self, name: str, reader: Reader, *, start: int, step: int, rate: float | None) -> None:
        self.name = name
        self.frame_rate = rate or reader.frame_rate
        self.live = reader.live
        self._reader, self._start, self._step, self._rate = reader, start, step, rate
        self._read = self._unreadable = 0
        self._notes: list[str] = []

    @property
    def expected(self) -> int | None:
        """Frames that the source states or that its length suggests: for progress bars, never to stop at."""
        expected = self._reader.expected
        return None if expected is None else len(range(self._start, expected, self._step))

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[SourceFrame]:
        size, seen = None, 0
        for number, time, file, convert in self._reader:
            seen = number + 1
            if number < self._start or (number - self._start) % self._step:
                continue
            try:
                picture = convert()
            except SourceError as error:
                if not self._read:
                    raise
                self._unreadable += 1
                self._notes.append(f"left out: {error}")
                continue
            if size not in (None, picture.shape):
                raise SourceError(self._change_of_size(file or f"frame {number}", picture.shape, size))
            size = picture.shape
            self._read += 1
            yield SourceFrame(picture, number, number / self._rate if self._rate else time, file)
        if not self._read:
            reasons = "; ".join(self._reader.notes) or (f"it has {seen} frames" if seen else "it is empty or damaged")
            raise SourceError(f"{self._called()}: no frame can be read from it ({reasons})")

    def report(self) -> SourceReport:
        """What became of it, so far or in the end."""
        reader = self._reader
        unreadable = reader.unreadable + self._unreadable
        notes = (*reader.notes, *self._notes)
        return SourceReport(self._read, unreadable, self.expected, notes, reader.damaged or unreadable > 0)

    def close(self) -> None:
        """Let go of the file, stream or camera."""
        self._reader.close()

    def _called(self) -> str:
        return "standard input" if self.name == "-" else shown(self.name)

    def _change_of_size(self, what: str, now: Any, before: Any) -> str:
        return (
            f"{self._called()}: {shown(what)} is {now[1]} x {now[0]}, those before it are {before[1]} x {before[0]}; "
            "a track needs frames of one size"
        )


def is_camera(source: str) -> bool:
    """Whether the source names a camera by its number (``0``, ``1``, ...), and no file or folder has that name."""
    return source.isascii() and source.isdigit() and not os.path.exists(source)


def open_source(
    source: str | os.PathLike[str],
    *,
    reader: str = "auto",
    start: int = 0,
    step: int = 1,
    levels: tuple[float, float] | None = None,
    rate: float | None = None,
    timeout: float = 10.0,
) -> Source:
    """Open a source of frames; :mod:`spm_rt.media.sources` has a table of what is one.

    Args:
        source: what to read.
        reader: ``pyav`` or ``opencv`` for videos and streams; ``auto``: PyAV if it is installed.
        start: frames that are jumped over at the beginning.
        step: 1: every frame; 2: every second one, and so on.
        levels: the values of 16-bit pictures that become 0 and 255; by default the range of the whole sequence.
        rate: frames per second. Times are then counted by it, whatever the source says; folders say nothing.
        timeout: seconds to wait for the next data of a URL.

    Returns:
        The source; frames are read when it is iterated.

    Raises:
        SourceError: there is nothing to read; the message says what is wrong with which source.
    """
    name = os.fsdecode(source)
    if start < 0 or step < 1:
        raise SourceError(f"start {start}, step {step}: start is 0 or more, step 1 or more")
    if (rate is not None and not 0 < rate < math.inf) or not 0 < timeout < math.inf:
        raise SourceError(f"rate {rate}, timeout {timeout}: both are above 0")
    if levels is not None and not -math.inf < levels[0] < levels[1] < math.inf:
        raise SourceError(f"levels {levels[0]}, {levels[1]}: the second is above the first")
    if reader not in READERS:
        raise SourceError(f"reader {reader!r}: there are {', '.join(READERS)}")
    return Source(name, _open(name, reader, levels, timeout), start=start, step=step, rate=rate)


def _open(name: str, reader: str, levels: tuple[float, float] | None, timeout: float) -> Reader:
    """What reads this source."""
    if name == "-":
        return _open_pipe(_standard_input(), "standard input", reader)
    if name.lower().startswith("file://"):
        name = path_of_url(name)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name):
        return _open_video(name, name, reader, live=True, timeout=timeout)
    if is_camera(name) or re.fullmatch(r"/dev/video[0-9]+", name):
        return CameraReader(int(name) if is_camera(name) else name)
    mode = _mode(name)
    if mode is None:
        if files := files_of_pattern(name) if re.search(r"%0?[0-9]*d|[*?\[]", name) else []:
            return PictureReader(files, levels)
        raise SourceError(f"{shown(name)}: no such file or folder")
    if stat.S_ISDIR(mode):
        return PictureReader(picture_files(name), levels)
    if not stat.S_ISREG(mode):
        return _open_pipe(_opened(name), name, reader)
    if Path(name).suffix.lower() in SUFFIXES and not _is_animated(name):
        return PageReader(Path(name), levels)
    if not os.path.getsize(name):
        raise SourceError(f"{shown(name)}: the file is empty")
    return _open_video(name, name, reader, live=False, timeout=timeout)


def _open_video(source: Any, name: str, reader: str, *, live: bool, timeout: float) -> Reader:
    """A file or URL, by the reader that is asked for."""
    why = ""
    if reader != "opencv":
        try:
            from .containers import ContainerReader

            return ContainerReader(
                source if live else f"file:{source}", name, live=live, timeout=timeout if live else None
            )
        except ImportError as error:
            if reader == "pyav":
                raise SourceError(f"{shown(name)}: PyAV cannot be imported ({error}); {_INSTALL}") from error
            why = "" if isinstance(error, ModuleNotFoundError) else str(error)
    capture = CaptureReader(source, live=live, timeout=timeout)
    capture.notes += [why] * bool(why)
    return capture


def _open_pipe(stream: Any, name: str, reader: str) -> Reader:
    """What can be read once, from front to end."""
    from .containers import ContainerReader

    try:
        if reader == "opencv":
            raise ImportError("the reader is opencv")
        return ContainerReader(stream, name, live=False, timeout=None)
    except ImportError as error:
        raise SourceError(f"{shown(name)}: a pipe is read by PyAV only ({error}); {_INSTALL}") from error


def path_of_url(url: str) -> str:
    """The path that a ``file://`` URL names."""
    import urllib.parse  # takes as long to import as all of this package
    import urllib.request

    return urllib.request.url2pathname(urllib.parse.urlsplit(url).path)


def source_name(source: str) -> str:
    """What a source is called wherever it lies: the last part of a path, a URL as a whole."""
    if source.lower().startswith("file://"):
        source = path_of_url(source)
    name = source if source == "-" or re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source) else os.path.abspath(source)
    return shown(name if "://" in name else os.path.basename(name) or name)


def _standard_input() -> Any:
    if sys.stdin is None or sys.stdin.isatty():
        raise SourceError("standard input: there is no video in a terminal; send one, as in `cat clip.mkv | ...`")
    # Not its buffer, where there is a file behind: a thread that waits in one aborts a process that ends.
    return getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)


def _opened(name: str) -> Any:
    try:
        return open(name, "rb", buffering=0)
    except OSError as error:
        raise SourceError(f"{shown(name)}: cannot be opened ({error.strerror})") from error


def _mode(name: str) -> int | None:
    """Kind of file; None if there is none of this name."""
    try:
        return os.stat(name).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{shown(name)}: cannot be opened ({reason})") from error


def _is_animated(name: str) -> bool:
    """Whether a PNG has more than one picture, which only FFmpeg shows."""
    with open(name, "rb") as file:
        return b"acTL" in file.read(1024)
