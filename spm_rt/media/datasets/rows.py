"""Ground truth as text: boxes, VOT's regions, and marks of absence."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import SourceError

COMMENT = re.compile(r"#|%|//")
SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")
NOWHERE = [np.nan] * 4


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Number (from 1) and text of every line that says something: comments and empty lines are left out.

    A byte order mark, any kind of line end and bytes that are no UTF-8 are taken.

    Raises:
        SourceError: the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if utf16 else "utf-8-sig", errors="replace")
    lines = ((number, COMMENT.split(line)[0].strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line]


def read_numbers(line: str) -> list[float] | None:
    """The numbers of a line, separated by commas, semicolons or blanks; None if something else is in it."""
    if not line.isascii() or "_" in line:  # which float() takes
        return None
    line = line.strip()
    try:
        return [float(part) for part in SEPARATOR.split(line[:-1].rstrip() if line[-1:] in (",", ";") else line)]
    except ValueError:
        return None


def usable(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows ``[n, 4]`` are boxes: finite, with width and height."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0))


def read_boxes(path: Path, *, regions: bool = False) -> NDArray[np.float64]:
    """Rows of four numbers (x, y, width, height) or eight (a polygon, which becomes its bounds).

    Args:
        path: of a text file with one box a line.
        regions: whether VOT's other regions may occur: a mask (``m`` and a run-length code), which becomes the bounds
            of its pixels, and ``0``, which is no region.

    Returns:
        Boxes ``[lines, 4]``, float64; rows that are no box (NaN, no width or height) are all NaN.

    Raises:
        SourceError: which line cannot be read.
    """
    rows = []
    for number, line in read_lines(path):
        box = _read_region(line) if regions else None
        box = box or _read_rectangle(line)
        if box is None:
            raise SourceError(
                f"{path}, line {number}: {line[:60]!r} is neither four numbers x, y, w, h nor a polygon of eight"
            )
        rows.append(box)
    boxes = np.array(rows, np.float64).reshape(-1, 4)
    boxes[~usable(boxes)] = np.nan
    return boxes


def read_marks(path: Path, rows: int) -> NDArray[np.float64]:
    """A number for each of ``rows`` frames, one a line or all in one line.

    Raises:
        SourceError: something else is in it, or another count.
    """
    marks: list[float] = []
    for number, line in read_lines(path):
        values = read_numbers(line)
        if values is None:
            raise SourceError(f"{path}, line {number}: {line[:60]!r} is no mark, a number for each picture")
        marks += values
    if len(marks) != rows:
        raise SourceError(f"{path}: {len(marks)} marks for {rows} boxes")
    return np.array(marks)


def _read_rectangle(line: str) -> list[float] | None:
    values = read_numbers(line)
    if values is None or len(values) not in (4, 8):
        return None
    if not np.isfinite(values).all():
        return NOWHERE
    if len(values) == 8:
        x, y = values[0::2], values[1::2]
        return [min(x), min(y), max(x) - min(x), max(y) - min(y)]
    return values


def _read_region(line: str) -> list[float] | None:
    """A mask's bounds, or none for ``0``; None if the line is neither."""
    if read_numbers(line) == [0]:
        return NOWHERE
    values = read_numbers(line[1:]) if line[:1] in ("m", "M") else None
    if values is None or len(values) < 4 or any(v != int(v) for v in values if np.isfinite(v)):
        return None
    left, top, width, height = values[:4]
    runs = np.array(values[4:])
    if not np.isfinite(values).all() or min(width, height, *runs, 0) < 0 or runs.sum() > width * height:
        return None
    ends = np.cumsum(runs)
    inside = [(int(end - run), int(end) - 1) for end, run in zip(ends[1::2], runs[1::2], strict=True) if run]
    if not inside:
        return NOWHERE
    rows = inside[0][0] // width, inside[-1][1] // width
    columns = [(0, width - 1) if a // width < b // width else (a % width, b % width) for a, b in inside]
    x = min(a for a, _ in columns), max(b for _, b in columns)
    return [left + x[0], top + rows[0], x[1] - x[0] + 1, rows[1] - rows[0] + 1]
