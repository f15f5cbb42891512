"""One stream: what it gives, and what became of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

from ...errors import SpmError
from ...media.protocol import SourceFrame
from ...outputs.base import Tracked
from ...results import Box
from .reader import StreamReader


@dataclasses.dataclass(frozen=True)
class StreamResult:
    """All targets of a stream in one frame.

    Attributes:
        stream: its name.
        frame: picture, number, time in seconds since the stream's first frame.
        targets: by name; without results in the stream's first frame, where the boxes were given.
        age: seconds from the frame's arrival, decoded, to this result.
    """

    stream: str
    frame: SourceFrame
    targets: dict[str, Tracked]
    age: float


@dataclasses.dataclass(frozen=True)
class StreamReport:
    """What became of a stream, so far or in the end.

    Attributes:
        source: as it was given.
        live: whether its newest frame counts; None before it was opened.
        read: frames. Those that are none of the following three wait, or were left when the stream was ended.
        dropped: frames that newer ones have replaced.
        tracked: frames that have results.
        failed: frames that could not be tracked on.
        reconnects: how often it was opened again with success.
        error: what ended it, if not the end of a file; None otherwise.
        notes: what the source had to say, one line each.
        damaged: something is missing of a file.
    """

    source: str
    live: bool | None
    read: int
    dropped: int
    tracked: int
    failed: int
    reconnects: int
    error: SpmError | None
    notes: tuple[str, ...]
    damaged: bool


class Stream:
    """A reader, the boxes to begin with, and the targets' numbers once they are followed.

    Attributes:
        reader: gives the frames.
        boxes: of the first frame, by target.
        ids: numbers of the targets in the tracker; empty before the first frame and after the end.
        tracked: frames that have results.
        failed: frames that could not be tracked on.
    """

    def __init__(self, reader: StreamReader, boxes: Mapping[str, Box]) -> None:
        self.reader, self.boxes = reader, boxes
        self.ids: dict[str, int] = {}
        self.tracked = self.failed = 0

    def newest_age(self) -> float:
        """Seconds since the newest frame came; 0 before the first."""
        return time.monotonic() - self.reader.newest if self.reader.newest else 0.0

    def report(self) -> StreamReport:
        """What became of it."""
        reader = self.reader
        return StreamReport(
            source=reader.source,
            live=reader.live,
            read=reader.read,
            dropped=reader.dropped,
            tracked=self.tracked,
            failed=self.failed,
            reconnects=reader.reconnects,
            error=reader.error,
            notes=reader.notes,
            damaged=reader.damaged,
        )
