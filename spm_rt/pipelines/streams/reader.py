"""A source that is read in a thread of its own: files whole, live ones by their newest frame, and opened again."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from ...errors import SettingsError, SourceError, SpmError
from ...files import shown
from ...media.protocol import SourceFrame
from ...media.sources import Source, open_source
from .observer import Observer

AHEAD = 2
"""Frames of a file that are read before they are asked for."""
MOST_ABANDONED = 3
"""Threads of one source that hang in a library, at most, before no further one is started."""


@dataclasses.dataclass(frozen=True)
class StreamOptions:
    """How a source is read.

    Attributes:
        live: whether its newest frame counts and others may be left out; None: as the source says of itself (addresses
            and cameras are live, files and folders are not).
        timeout: seconds without a frame after which a live source is opened again, and another one has ended.
        first_wait: seconds before a live source is opened again; twice as many each further time.
        longest_wait: what these seconds grow to; from the next frame on they start from ``first_wait``.
        attempts: how often in a row a live source is opened in vain before it has ended; None: no end.
        opening: further options of :func:`spm_rt.media.sources.open_source`: ``reader``, ``start``, ``step``,
            ``levels``, ``rate``.
    """

    live: bool | None = None
    timeout: float = 10.0
    first_wait: float = 0.5
    longest_wait: float = 30.0
    attempts: int | None = None
    opening: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("timeout", "first_wait", "longest_wait"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingsError(f"{name} is {getattr(self, name)}; it is a number of seconds above 0")
        if self.attempts is not None and self.attempts < 1:
            raise SettingsError(f"attempts is {self.attempts}; it is 1 or more, or None for no end")


@dataclasses.dataclass(frozen=True)
class Arrived:
    """A frame, and when it came by ``time.monotonic``."""

    frame: SourceFrame
    at: float


class StreamReader:
    """Reads one source.

    Threads are daemons: nothing ends one that hangs in a library. It is left behind, and another one started.

    Args:
        name: of the stream.
        source: what :func:`spm_rt.media.sources.open_source` opens.
        options: how.
        changed: is notified whenever there is a frame or an end. Who calls :meth:`take` or reads attributes holds it.
        observer: is told what happens.

    Attributes:
        live: as the options or the source say; None before it was opened.
        read: frames so far.
        dropped: frames that newer ones have replaced.
        reconnects: how often it was opened again with success.
        ended: whether no frame will come after those that wait.
        error: what ended it, if it was not the end of a file.
        notes: what the source had to say, one line each.
        damaged: see :class:`spm_rt.media.sources.SourceReport`.
        newest: when the newest frame came, by ``time.monotonic``.
        frame_rate: of the source.
    """

    def __init__(
        self,
        name: str,
        source: str | os.PathLike[str],
        options: StreamOptions,
        changed: threading.Condition,
        observer: Observer,
    ) -> None:
        self.name, self.source = name, os.fsdecode(source)
        self.live: bool | None = options.live
        self.read = self.dropped = self.reconnects = 0
        self.ended = self.damaged = False
        self.error: SpmError | None = None
        self.notes: tuple[str, ...] = ()
        self.newest = 0.0
        self.frame_rate: float | None = None
        self._options, self._changed, self._observer = options, changed, observer
        self._waiting: deque[Arrived] = deque()
        self._threads: list[threading.Thread] = []
        self._turn = 0
        self._reading_since: float | None = None
        self._began = self._last_time = 0.0
        self._next_index = 0
        self._closed = threading.Event()

    def start(self) -> None:
        """Begin to read, in a new thread; one that reads already is left behind."""
        self._turn += 1
        self._reading_since = time.monotonic()
        thread = threading.Thread(target=self._run, args=(self._turn,), name=f"read {self.name}", daemon=True)
        self._threads = [*(other for other in self._threads if other.is_alive()), thread]
        thread.start()

    @property
    def waiting(self) -> bool:
        """Whether there is a frame to take."""
        return bool(self._waiting)

    def take(self) -> Arrived:
        """The next frame of a file, or the newest one."""
        arrived = self._waiting.popleft()
        self._changed.notify_all()
        return arrived

    def check_time(self) -> None:
        """Leave a thread behind that has been reading for too long: FFmpeg's own time-outs do not end every wait."""
        since, patience = self._reading_since, 1.5 * self._options.timeout + 0.5
        if self.ended or since is None or time.monotonic() - since < patience:
            return
        hanging = len([thread for thread in self._threads if thread.is_alive()])
        if not self.live or hanging > MOST_ABANDONED:
            self._end(self._turn, SourceError(f"{shown(self.source)}: no frame for {patience:g} seconds"))
            return
        self._observer.connected(self.name, False, reason=f"no frame for {patience:g} seconds")
        self.start()

    def close(self, until: float) -> None:
        """Ask the threads to end, and wait for them until a time by ``time.monotonic``."""
        self._closed.set()
        with self._changed:
            self._turn += 1
            self.ended = True
            self._waiting.clear()
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))

    def _run(self, turn: int) -> None:
        """Open and read the source, again and again if it is live."""
        options = self._options
        wait, failures = options.first_wait, 0
        while self._is_current(turn):
            before = self.read
            error: SpmError | None = None
            try:
                self._read(turn)
            except SpmError as one:
                error = one
            except Exception as one:  # whatever a library raises ends this stream, not the others
                error = SourceError(f"{shown(self.source)}: cannot be read ({type(one).__name__}: {one})")
            if self.read > before:
                wait, failures = options.first_wait, 0
            else:
                failures += 1
            if not self._is_current(turn):
                return
            if not self.live or failures == options.attempts:
                self._end(turn, error)
                return
            self._observer.connected(self.name, False, reason=str(error or "; ".join(self.notes) or "it ended"))
            self._reading_since = None
            self._closed.wait(wait)
            wait = min(2 * wait, options.longest_wait)

    def _read(self, turn: int) -> None:
        """Open the source once, and deliver what it gives."""
        self._reading_since = time.monotonic()
        timeout = self._options.timeout
        if self.live is None and "://" in self.source:
            self.live = True  # before it is opened for the first time, which may fail
        with open_source(self.source, timeout=timeout, **self._options.opening) as source:
            if self.live is None:
                self.live = source.live
            self.frame_rate = source.frame_rate
            frames = iter(source)
            shift: tuple[float, int] | None = None
            while self._is_current(turn):
                began = self._reading_since = time.monotonic()
                frame = next(frames, None)
                self._reading_since = None
                if frame is None:
                    break
                if shift is None:
                    shift = self._connect(turn, frame)
                self._deliver(turn, self._moved(frame, shift), time.monotonic() - began)
            self._note(source)

    def _connect(self, turn: int, frame: SourceFrame) -> tuple[float, int]:
        """Seconds and frames to add from now on, where a source that is opened again begins with this frame."""
        now, again = time.monotonic(), self._next_index > 0
        if self._is_current(turn):
            self.reconnects += again
            self._observer.connected(self.name, True, again=again)
        if not again:
            self._began = now
            return 0.0, 0
        begins = max(now - self._began, self._last_time + 0.001)  # who sends faster than it plays is ahead of the clock
        return begins - (frame.time or 0.0), self._next_index - frame.index

    def _moved(self, frame: SourceFrame, shift: tuple[float, int]) -> SourceFrame:
        """A frame whose time and number go on from those of the connections before."""
        at = frame.time
        if at is None and self.live:
            at = time.monotonic() - self._began - shift[0]
        self._next_index = frame.index + shift[1] + 1
        if at is not None:
            at = self._last_time = at + shift[0]
        return frame._replace(index=frame.index + shift[1], time=at)

    def _deliver(self, turn: int, frame: SourceFrame, seconds: float) -> None:
        dropped = False
        with self._changed:
            while not self.live and len(self._waiting) >= AHEAD and turn == self._turn:
                self._changed.wait()
            if turn != self._turn:
                return
            if self.live and self._waiting:
                self._waiting.clear()
                self.dropped += 1
                dropped = True
            self.newest = time.monotonic()
            self._waiting.append(Arrived(frame, self.newest))
            self.read += 1
            self._changed.notify_all()
        self._observer.read(self.name, seconds)
        if dropped:
            self._observer.dropped(self.name)

    def _note(self, source: Source) -> None:
        report = source.report()
        with self._changed:
            if not self.live:
                self.damaged = report.damaged
            self.notes = report.notes[-10:]

    def _end(self, turn: int, error: SpmError | None) -> None:
        with self._changed:
            if turn != self._turn:
                return
            self._turn += 1
            self.ended, self.error = True, error
            self._changed.notify_all()
        self._observer.connected(self.name, False, reason=str(error or ""))

    def _is_current(self, turn: int) -> bool:
        return turn == self._turn and not self._closed.is_set()
