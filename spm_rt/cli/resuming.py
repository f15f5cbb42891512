"""What an earlier run wrote as JSON lines, for ``--resume``."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from ..errors import SourceError
from ..files import shown
from ..media.sources import SourceFrame
from ..outputs import Tracked
from ..results import Box, TrackResult


@dataclasses.dataclass
class Record:
    """Frames that were tracked by an earlier run; all targets of one frame are there or none.

    Attributes:
        path: where it was read.
        frames: by number, ascending; the first one has the given boxes.
        files: the file name of each.
    """

    path: str
    frames: dict[int, dict[str, Tracked]]
    files: dict[int, str | None]

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

    def check(self, frame: SourceFrame, number: int | None) -> None:
        """Refuse a frame that is not the one that comes next here, by its number.

        Raises:
            SourceError: it is another one.
        """
        if frame.index != number or self.files[number] != frame.file:
            what = shown(frame.file) if frame.file else f"frame {frame.index}"
            raise SourceError(
                f"{shown(self.path)}: what follows there is not {what}; it is of another source, or was written with "
                "another --start or --skip"
            )


def read_record(path: str, boxes: Mapping[str, Box]) -> Record | None:
    """The record in a file; what is torn at its end is cut off. None where there is no file, or nothing in it.

    Args:
        path: of the JSON lines.
        boxes: those given by the user now, if any.

    Raises:
        SourceError: the file is not what ``--jsonl`` writes, or began with other boxes.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SourceError(f"{shown(path)}: cannot be read ({error.strerror})") from error
    record, groups, place = Record(path, {}, {}), dict[int, int](), 0
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        _read_line(record, line, f"{shown(path)}, line {number}")
        place += len(line)
        groups[next(reversed(record.frames))] = place
    torn = place < len(content)
    if record.frames and (len(record.frames[record.last]) < len(record.names) or (torn and len(record.frames) == 1)):
        del record.files[record.last], groups[record.last], record.frames[record.last]
    if not record.frames:
        return None
    incomplete = [number for number, targets in record.frames.items() if list(targets) != record.names]
    if incomplete:
        raise SourceError(f"{shown(path)}: frame {incomplete[0]} has not the targets of frame {record.first}")
    if boxes and boxes != record.boxes(record.first):
        raise SourceError(f"{shown(path)}: was begun with other boxes than those given now; --resume needs none")
    if groups[record.last] < len(content):
        os.truncate(path, groups[record.last])
    return record


def _read_line(record: Record, line: bytes, where: str) -> None:
    try:
        entry: dict[str, Any] = json.loads(line)
        number, name = entry["frame"], entry["target"]
        x, y, width, height = (float(value) for value in entry["box"])
        box = x, y, width, height
        score, coarse, fine = (math.nan if entry[key] is None else float(entry[key]) for key in SCORES)
        result = None if entry["score"] is None else TrackResult(box, score, bool(entry["found"]), coarse, fine)
        in_order = isinstance(number, int) and (not record.frames or number >= record.last)
        if not (isinstance(name, str) and in_order and all(map(math.isfinite, box))):
            raise ValueError
        if (result is None) != (not record.frames or number == record.first):
            raise ValueError
        if name in record.frames.get(number, {}):
            raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise SourceError(f"{where}: not what --jsonl writes; --resume cannot go on from it") from error
    record.frames.setdefault(number, {})[name] = Tracked(box, result)
    record.files[number] = entry.get("file")


SCORES = ("score", "coarse_score", "fine_score")
