"""Trackers by bundle and backend, and a lane: one of them on one source, from box to box that somebody gave."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...backends import BACKENDS
from ...backends.registry import available
from ...bundle import Bundle
from ...errors import SettingsError
from ...media.protocol import Picture
from ...results import Box, Corners, TrackResult
from ...trackers.checks import check_box
from ...trackers.single import Tracker
from .frames import Cursor

Boxes = Mapping[int, Box]
"""Boxes that were given, by position."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which tracker.

    Attributes:
        bundle: its number on the command line.
        backend: ``auto``, ``onnxruntime``, ...
    """

    bundle: int
    backend: str


class Row(NamedTuple):
    """What a lane has for a frame."""

    box: Box
    result: TrackResult | None
    corners: Corners
    seconds: float
    number: int
    time: float | None
    file: str | None


class Trackers:
    """The trackers that can be chosen; each is loaded once, and lanes get siblings of it.

    Args:
        bundles: folders or archives, at least one.
        backend: what is chosen at first.
        threads: threads per inference call; by default all usable cores.

    Raises:
        BundleError: one of them is none.
    """

    def __init__(self, bundles: Sequence[str], backend: str = "auto", threads: int | None = None) -> None:
        self.bundles = [Bundle.open(bundle) for bundle in bundles]
        names = [Path(os.path.abspath(bundle)).name for bundle in bundles]
        self.names = [str(b) if names.count(n) > 1 else n for n, b in zip(names, bundles, strict=True)]
        self.backends = ["auto", *(name for name in BACKENDS if name in available())]
        self.first = Choice(0, backend)
        self._threads = threads
        self._loaded: dict[Choice, Tracker] = {}
        self._lock = threading.Lock()

    def check(self, asked: object) -> Choice:
        """A choice as the page sends it.

        Raises:
            SettingsError: it is none of those that there are.
        """
        values = asked if isinstance(asked, dict) else {}
        bundle, backend = values.get("bundle"), values.get("backend")
        if type(bundle) is not int or not 0 <= bundle < len(self.bundles) or backend not in self.backends:
            raise SettingsError("a tracker is a bundle's number and the name of a backend that is installed here")
        return Choice(bundle, str(backend))

    def load(self, choice: Choice) -> Tracker:
        """A tracker of its own; the first time of each choice takes a moment.

        Raises:
            BackendError, BundleError: it cannot be loaded.
        """
        with self._lock:
            if choice not in self._loaded:
                self._loaded[choice] = Tracker.load(self.bundles[choice.bundle], choice.backend, threads=self._threads)
            return self._loaded[choice].sibling()

    def described(self) -> dict[str, Any]:
        """Bundles, backends and the first choice, for the page."""
        about = [
            {"name": name, "precision": b.precision, "source": str(b.manifest.get("source", ""))}
            for name, b in zip(self.names, self.bundles, strict=True)
        ]
        return {"bundles": about, "backends": self.backends, "first": dataclasses.asdict(self.first)}


class Lane:
    """One tracker's way through a source.

    Between two boxes that were given, every result follows from the first of them alone. So a new box changes what
    comes behind it, up to the next one, and nothing else.

    Attributes:
        choice: which tracker.
        rows: what it has, by position.
        description: of its backend, once it is loaded.
    """

    def __init__(self, choice: Choice, trackers: Trackers) -> None:
        self.choice, self.description = choice, ""
        self.rows: dict[int, Row] = {}
        self._trackers = trackers
        self._tracker: Tracker | None = None
        self._stands: tuple[int, int, Box] | None = None
        self._whole = 0

    @property
    def loaded(self) -> bool:
        """Whether the tracker is there."""
        return self._tracker is not None

    def load(self) -> None:
        """Load the tracker."""
        self._tracker = self._trackers.load(self.choice)
        self.description = self._tracker.backend.description

    def missing(self, first: int) -> int:
        """The first position from ``first`` on without a row."""
        position = max(first, self._whole)
        while position in self.rows:
            position += 1
        self._whole = position
        return position

    def step(self, position: int, given: Boxes, cursor: Cursor) -> Row | None:
        """What comes at a position, all that is before it in its part being there; None behind the source's end.

        Raises:
            SpmError: the frame or the box cannot be tracked on.
        """
        tracker = self._tracker
        assert tracker is not None
        begin = max(key for key in given if key <= position)
        stands = (position - 1, begin, given[begin])
        known = position == begin or self._stands == stands
        if not known and not self._return(tracker, position, given[begin], begin, cursor):
            return None
        frame = cursor.at(position)
        if frame is None:
            return None
        began, result, box = time.perf_counter(), None, given[begin]
        self._stands = None
        if position == begin:
            tracker.init(frame.picture, box)
        else:
            result = tracker.update(frame.picture)
            box = result.box
        seconds = time.perf_counter() - began
        self._stands = (position, begin, given[begin])
        return Row(box, result, tracker.corners, seconds, frame.index, frame.time, frame.file)

    def _return(self, tracker: Tracker, position: int, box: Box, begin: int, cursor: Cursor) -> bool:
        """Bring the tracker to where it was before a position: the template of the part's box, the last corners."""
        frame = cursor.at(begin)
        if frame is None:
            return False
        tracker.init(frame.picture, box)
        if position - 1 > begin:
            tracker.restore(self.rows[position - 1].corners)
        return True

    def forget(self, first: int, last: int | None) -> list[int]:
        """Drop what is there from a position on, up to another one; returns the positions."""
        gone = [position for position in self.rows if position >= first and (last is None or position < last)]
        for position in gone:
            del self.rows[position]
        self._whole = min(self._whole, first)
        return gone

    def pace(self) -> float | None:
        """Median milliseconds of the tracker in the last frames."""
        recent = sorted(row.seconds for row in list(self.rows.values())[-60:] if row.result is not None)
        return 1000 * recent[len(recent) // 2] if recent else None


def checked_box(asked: object, picture: Picture) -> Box:
    """A box as the page sends it.

    Raises:
        BoxError: see :func:`spm_rt.trackers.checks.check_box`.
    """
    values = asked if isinstance(asked, (list, tuple)) else ()
    check_box(values, picture.shape[:2])
    x, y, width, height = (float(v) for v in values)
    return x, y, width, height
