"""What a fleet tracks: a table of videos, first frames and boxes, checked before anything is tracked."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import BoxError, SourceError
from ...files import shown
from ...results import Box
from ...trackers.checks import check_box

COLUMNS = ("video", "frame", "x", "y", "width", "height")
_ANY_SIZE = (1 << 20, 1 << 20)


class Target(NamedTuple):
    """One row: a target, from its first frame on."""

    name: str
    frame: int
    box: Box


class Work(NamedTuple):
    """One video with all its targets: what is done, and done again, as a whole.

    Attributes:
        video: its path.
        targets: in the order of the manifest.
        part: name of the Parquet file of its results, which tells what they are the results of.
    """

    video: str
    targets: tuple[Target, ...]
    part: str


def read_manifest(path: str | os.PathLike[str], made_by: str = "") -> list[Work]:
    """The work that a manifest asks for, in its order.

    Args:
        path: a CSV file with the columns ``video``, ``frame``, ``x``, ``y``, ``width``, ``height`` (and ``target``, a
            name, if there are several in a video), or JSON lines with these keys. Videos are found from its folder.
        made_by: what results depend on besides, such as the bundle: parts of other results have other names.

    Raises:
        SourceError: it cannot be read, a row makes no sense or stands there twice, or a video is missing; the message
            has the line.
    """
    name, folder = os.fsdecode(path), Path(path).parent
    rows: dict[str, list[Target]] = {}
    for line, row in _rows(name):
        try:
            video, target = _target(row)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise SourceError(f"{shown(name)}: line {line}: {reason}; a row has {', '.join(COLUMNS)}") from error
        place = str(folder / video)
        if not os.path.exists(place):
            raise SourceError(f"{shown(name)}: line {line}: {shown(place)}: no such file or folder")
        targets = rows.setdefault(place, [])
        target = target._replace(name=target.name or f"target{len(targets) + 1}")
        if any(one.name == target.name or one[1:] == target[1:] for one in targets):
            raise SourceError(f"{shown(name)}: line {line}: this target of {shown(place)} stands there already")
        targets.append(target)
    if not rows:
        raise SourceError(f"{shown(name)}: it has no rows")
    return [Work(video, tuple(targets), _part(video, targets, made_by)) for video, targets in rows.items()]


def _rows(name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows with the numbers of their lines."""
    try:
        with open(name, encoding="utf-8-sig", newline="") as file:
            if Path(name).suffix.lower() in (".jsonl", ".ndjson", ".json"):
                for line, text in enumerate(file, 1):
                    if text.strip():
                        row = json.loads(text)
                        if not isinstance(row, dict):
                            raise SourceError(f"{shown(name)}: line {line}: no JSON object")
                        yield line, row
            else:
                reader = csv.DictReader(file, strict=True)
                for row in reader:
                    yield reader.line_num, row
    except OSError as error:
        raise SourceError(f"{shown(name)}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise SourceError(f"{shown(name)}: neither a CSV file nor JSON lines ({error})") from error


def _target(row: Mapping[str, Any]) -> tuple[str, Target]:
    """A row's video and target.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: what is wrong with it.
    """
    if not row["video"] or not isinstance(row["video"], str):
        raise ValueError("there is no video")
    frame = float(row["frame"])
    if not (frame.is_integer() and 0 <= frame < 2**31):
        raise ValueError(f"frame {row['frame']} is no number of a frame")
    box = tuple(float(row[name]) for name in ("x", "y", "width", "height"))
    try:
        check_box(box, _ANY_SIZE)  # whether it is inside is known once its frame is
    except BoxError as error:
        raise ValueError(str(error)) from error
    return row["video"], Target(str(row.get("target") or ""), int(frame), (box[0], box[1], box[2], box[3]))


def _part(video: str, targets: list[Target], made_by: str) -> str:
    said = json.dumps([os.path.abspath(video), targets, made_by], sort_keys=True)
    stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in Path(video).stem)[:60]
    return f"{stem}-{hashlib.sha256(said.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}.parquet"
