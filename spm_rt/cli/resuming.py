"""What an earlier run wrote as JSON lines, for ``--resume``."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from argparse import Namespace
from typing import Any

import numpy as np

from ..errors import SourceError
from ..files import shown
from ..frame.geometry import xyxy_to_xywh
from ..media.sources import SourceFrame
from ..outputs import Tracked
from ..results import STATES, Box, Corners, TrackResult
from .provenance import take_over
from .targets import is_name


class OtherFramesError(SourceError):
    """The frames of the source are not those of the record; all outputs stay as they were."""


@dataclasses.dataclass
class Record:
    """Frames that were tracked by an earlier run; all targets of one frame are there or none.

    Attributes:
        path: where it was read.
        about: what made it (:func:`~spm_rt.cli.provenance.provenance`).
        frames: by number, ascending; the first one has the given boxes.
        seen: the file name and the time of each.
    """

    path: str
    about: dict[str, Any]
    frames: dict[int, dict[str, Tracked]]
    seen: dict[int, tuple[str | None, float | None]]

    @property
    def first(self) -> int:
        return next(iter(self.frames))

    @property
    def last(self) -> int:
        return next(reversed(self.frames))

    @property
    def names(self) -> list[str]:
        return list(self.frames[self.first])

    def boxes(self, number: int) -> dict[str, Box]:
        return {name: tracked.box for name, tracked in self.frames[number].items()}

    def corners(self) -> dict[str, Corners]:
        """Of the last frame, all that the next one depends on."""
        return {name: tracked.corners for name, tracked in self.frames[self.last].items() if tracked.corners}

    def check(self, frame: SourceFrame, number: int | None) -> None:
        """Refuse a frame that is not the one that comes next here, by its number.

        Raises:
            OtherFramesError: it is another one.
        """
        file, time = self.seen.get(number if number is not None else -1, (None, None))
        same_time = time == frame.time or (None not in (time, frame.time) and abs(time - frame.time) < _SAME_TIME)  # type: ignore[operator]
        if frame.index != number or file != frame.file or not same_time:
            what = shown(frame.file) if frame.file else f"frame {frame.index}"
            at = "" if frame.time is None else f" at {frame.time:.3f} s"
            raise OtherFramesError(
                f"{shown(self.path)}: what follows there is not {what}{at}; the source has changed since: begin anew "
                "with another --jsonl FILE"
            )

    def check_end(self, count: int) -> None:
        """Refuse a source that ended after ``count`` frames, which are fewer than there are here.

        Raises:
            OtherFramesError: so it is.
        """
        if count < len(self.frames):
            raise OtherFramesError(
                f"{shown(self.path)}: has {len(self.frames)} frames of a source that ends after {count} now; give the "
                "source that it was, or begin anew with another --jsonl FILE"
            )


def read_record(options: Namespace) -> Record | None:
    """The record in the file of ``--jsonl``; what is torn at its end is cut off. None where there is none in it.

    Args:
        options: of the run; those that decide the boxes become those of the record.

    Raises:
        SourceError: the file is not what ``--jsonl`` writes, or of a run with another source or other options.
    """
    path = str(options.jsonl)
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SourceError(f"{shown(path)}: cannot be read ({error.strerror})") from error
    record, groups, place = Record(path, {}, {}, {}), dict[int, int](), 0
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        _read_line(record, line, f"{shown(path)}, line {number}")
        place += len(line)
        groups[next(reversed(record.frames))] = place
    torn = place < len(content)
    if record.frames and (len(record.frames[record.last]) < len(record.names) or (torn and len(record.frames) == 1)):
        del record.seen[record.last], groups[record.last], record.frames[record.last]
    if not record.frames:
        return None
    incomplete = [number for number, targets in record.frames.items() if list(targets) != record.names]
    if incomplete:
        raise SourceError(f"{shown(path)}: frame {incomplete[0]} has not the targets of frame {record.first}")
    boxes = dict(zip(options.names, (box for _, box in options.box), strict=True)) if options.box else {}
    if boxes and boxes != record.boxes(record.first):
        raise SourceError(f"{shown(path)}: was begun with other boxes than those given now; --resume needs none")
    if options.frames is not None and options.frames < len(record.frames):
        raise SourceError(f"{shown(path)}: has {len(record.frames)} frames already; --frames {options.frames} is less")
    try:
        take_over(options, record.about, record.first, path)
    except SourceError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SourceError(f"{shown(path)}, line 1: {_OTHER}") from error
    options.names = record.names
    if groups[record.last] < len(content):
        os.truncate(path, groups[record.last])
    return record


def _read_line(record: Record, line: bytes, where: str) -> None:
    try:
        entry: dict[str, Any] = json.loads(line)
        number, name = entry["frame"], entry["target"]
        if not record.frames:
            if "run" not in entry and "box" in entry:
                raise SourceError(
                    f"{where}: does not say what made it, as files of earlier versions do not, so that no run can "
                    "go on from it safely; begin anew with another --jsonl FILE"
                )
            record.about = dict(entry["run"])
        x, y, width, height = (float(value) for value in entry["box"])
        box = x, y, width, height
        x1, y1, x2, y2 = (float(value) for value in entry["corners"])
        if xyxy_to_xywh(np.array([x1, y1, x2, y2])) != box and record.frames:
            raise ValueError
        score, coarse, fine = (math.nan if entry[key] is None else float(entry[key]) for key in SCORES)
        found, state = bool(entry["found"]), entry["state"]
        result = None if entry["score"] is None else TrackResult(box, score, found, coarse, fine, state=state)
        file, time = entry["file"], entry["time"]
        time = None if time is None else float(time)
        known = isinstance(file, (str, type(None))) and is_name(name)
        in_order = known and isinstance(number, int) and number >= (record.last if record.frames else 0)
        finite = all(map(math.isfinite, box)) and (result is None or math.isfinite(score))
        given = not record.frames or number == record.first
        if not (in_order and finite and state in STATES) or (result is None) != given:
            raise ValueError
        if name in record.frames.get(number, {}):
            raise ValueError
    except SourceError:
        raise
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise SourceError(f"{where}: {_OTHER}") from error
    record.frames.setdefault(number, {})[name] = Tracked(box, result, (x1, y1, x2, y2))
    record.seen[number] = file, time


_OTHER = "not what --jsonl writes; --resume cannot go on from it"
_SAME_TIME = 0.001
"""Seconds by which two readers may differ about the time of a frame."""
SCORES = ("score", "coarse_score", "fine_score")
