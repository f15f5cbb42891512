"""The frames of a run: from where on, and so that a signal ends the wait for the next one."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

from ..errors import SourceError
from ..files import shown
from ..media.sources import Source, SourceFrame, is_camera, open_source
from ..terminal import Stopped


class Stop:
    """Handles signals that ask to end: the first is remembered while ``deferred``, any other raises.

    Attributes:
        number: of the signal; None as long as there was none.
        deferred: whether the run looks at ``number`` by itself.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.deferred = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None or not self.deferred:
            raise Stopped(number)
        self.number = number


class RunFrames:
    """The frames of a run; a context manager. Iterating ends early when ``stop`` has a signal.

    What may keep its reader waiting (pipes, URLs) is read in a thread: FFmpeg waits for data without ever returning to
    Python, which then sees no signal.

    Attributes:
        source: what is read.
    """

    def __init__(self, options: Namespace, stop: Stop) -> None:
        self._options, self._stop = options, stop
        self._reader: _ReadingThread | None = None
        if may_wait(options.source):
            self._reader = _ReadingThread(lambda: _open(options), stop)
            self.source = self._reader.source
        else:
            self.source = _open(options)

    def __enter__(self) -> RunFrames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is None or self._reader.join():
            self.source.close()

    def __iter__(self) -> Iterator[SourceFrame]:
        frames = iter(self._reader or self.source)
        seconds = self._options.start.seconds
        return frames if seconds is None else self._from_time(frames, seconds)

    def _from_time(self, frames: Iterator[SourceFrame], seconds: float) -> Iterator[SourceFrame]:
        """Every Nth frame from the first one at or after a time."""
        step, first = self._options.skip, None
        last = None
        for frame in frames:
            if self._stop.number is not None:
                return
            if frame.time is None:
                name = shown(self.source.name)
                raise SourceError(f"--start {self._options.start.text}: {name} has no times; give a number, or --fps")
            last = frame.time
            if first is None and frame.time >= seconds - 1e-6:
                first = frame.index
            if first is not None and (frame.index - first) % step == 0:
                yield frame
        if first is None and last is not None:
            raise SourceError(
                f"--start {self._options.start.text}: the last frame of {shown(self.source.name)} is at {last:.2f} s"
            )


def may_wait(source: str) -> bool:
    """Whether frames of a source come when somebody else sends them. Cameras are asked, and answer soon."""
    return not (os.path.isfile(source) or os.path.isdir(source) or is_camera(source) or source.startswith("/dev/video"))


def _open(options: Namespace) -> Source:
    by_time = options.start.seconds is not None
    return open_source(
        options.source,
        reader=options.reader,
        start=options.start.frame,
        step=1 if by_time else options.skip,
        levels=options.levels,
        rate=options.fps,
    )


class _ReadingThread:
    """Opens and reads a source in a thread of its own, at most two frames ahead."""

    def __init__(self, open_it: Callable[[], Source], stop: Stop) -> None:
        self._stop, self._ended = stop, threading.Event()
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=2)
        self._thread = threading.Thread(target=self._read, args=(open_it,), daemon=True)
        self._thread.start()
        source = self._next()
        if source is None:
            raise Stopped(stop.number or 0)
        self.source: Source = source

    def __iter__(self) -> Iterator[SourceFrame]:
        while (frame := self._next()) is not None:
            yield frame

    def join(self) -> bool:
        """Ask the thread to end; whether it did so within a moment. Nothing ends one that waits for data."""
        self._ended.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        self._thread.join(0.5)
        return not self._thread.is_alive()

    def _next(self) -> Any:
        """The source at first, then frames; None at the end, or when a signal came."""
        while self._stop.number is None:
            try:
                item = self._queue.get(timeout=0.05)
            except queue.Empty:
                continue
            if isinstance(item, BaseException):
                raise item
            return item
        return None

    def _read(self, open_it: Callable[[], Source]) -> None:
        try:
            source = open_it()
            self._put(source)
            for frame in source:
                self._put(frame)
                if self._ended.is_set():
                    return
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, item: Any) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0.1)
                return
