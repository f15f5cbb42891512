"""Results as lines of text: CSV, JSON lines, and the tables of the MOT challenge and of OTB."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..media.drawing import Picture
from ..media.protocol import SourceFrame
from ..results import TRACKED
from .base import Request, Targets, Tracked, label, number
from .destinations import paths_of
from .lines import LineFile

COLUMNS = (
    *("frame", "x", "y", "width", "height", "score", "coarse_score", "fine_score", "found"),
    *("time", "file", "target", "state"),
)
"""Columns of a CSV file."""

Rows = Callable[[SourceFrame, Targets], Sequence[str]]
"""Blocks of lines that a frame adds, one for each file of the output."""


def csv_rows(frame: SourceFrame, targets: Targets, source: str | None = None) -> Sequence[str]:
    """One line for each target. What is not known is empty; the given box has no scores. A source is the last cell."""
    last = [] if source is None else [source]
    return ["".join(_csv_line([*_csv_cells(frame, name, one), *last]) for name, one in targets.items())]


def _csv_cells(frame: SourceFrame, name: str, tracked: Tracked) -> Iterator[object]:
    yield frame.index
    yield from (f"{value:.3f}" for value in tracked.box)
    yield from ("" if score is None else f"{score:.6f}" for score in _scores(tracked).values())
    yield int(_found(tracked))
    time = None if frame.time is None else number(frame.time)
    yield "" if time is None else f"{time:.6f}"
    yield frame.file
    yield name
    yield _state(tracked)


def _csv_line(cells: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def jsonl_rows(
    frame: SourceFrame, targets: Targets, about: Mapping[str, Any] | None = None, source: str | None = None
) -> Sequence[str]:
    """One object for each target, with all digits, so that tracking can go on from it; the first has ``about`` too, and
    each its ``source`` where there are several.
    """
    lines: list[str] = []
    for name, tracked in targets.items():
        content: dict[str, Any] = {
            **({} if source is None else {"source": source}),
            "frame": frame.index,
            "time": None if frame.time is None else number(frame.time),
            "file": frame.file,
            "target": name,
            "box": [number(value) for value in tracked.box],
            **_scores(tracked),
            "found": _found(tracked),
            "state": _state(tracked),
            "corners": tracked.corners and [number(value) for value in tracked.corners],
        }
        if about is not None and not lines:
            content["run"] = about
        lines.append(json.dumps(content, allow_nan=False) + "\n")
    return ["".join(lines)]


def mot_rows() -> Rows:
    """``frame,id,left,top,width,height,confidence,-1,-1,-1``: all count from 1; only what was found."""
    numbers: dict[str, int] = {}

    def rows(frame: SourceFrame, targets: Targets) -> Sequence[str]:
        lines = []
        for name, tracked in targets.items():
            identity = numbers.setdefault(name, len(numbers) + 1)
            if _found(tracked):
                x, y, width, height = tracked.box
                score = _scores(tracked)["score"]
                values = (x + 1, y + 1, width, height, 1.0 if score is None else score)
                place = ",".join(f"{value:.3f}" for value in values)
                lines.append(f"{frame.index + 1},{identity},{place},-1,-1,-1\n")
        return ["".join(lines)]

    return rows


def otb_rows() -> Rows:
    """``x,y,width,height``, pixels from 1, a line for every frame from the first one; NaN where it was jumped over."""
    last: list[int] = []

    def rows(frame: SourceFrame, targets: Targets) -> Sequence[str]:
        jumped = "NaN,NaN,NaN,NaN\n" * (frame.index - last[0] - 1 if last else 0)
        last[:] = [frame.index]
        boxes = ((x + 1, y + 1, width, height) for (x, y, width, height), *_ in targets.values())
        return [jumped + ",".join(f"{value:.3f}" for value in box) + "\n" for box in boxes]

    return rows


TABLES: dict[str, Callable[[], Rows]] = {
    "csv": lambda: csv_rows,
    "jsonl": lambda: jsonl_rows,
    "mot": mot_rows,
    "otb": otb_rows,
}
"""How each kind of table makes its lines."""


class TableOutput:
    """Results as a table, or several side by side (OTB: one for each target).

    Args:
        request: its kind and path.
        targets: names of all targets.
    """

    def __init__(self, request: Request, targets: Sequence[str]) -> None:
        self.label, self.note, self.frames = label(request.path), "", 0
        self._header = ",".join(COLUMNS) + "\n" if request.kind == "csv" else ""
        self._rows = TABLES[request.kind]()
        self._kind = request.kind
        self._resume_after = -1 if request.resume_after is None else request.resume_after
        self._files: list[LineFile] = []
        with contextlib.ExitStack() as undo:
            for path in paths_of(request, targets):
                resume = request.resume_after is not None
                self._files.append(LineFile(path, whole=request.kind != "jsonl", resume=resume))
                undo.callback(self._files[-1].close)
            undo.pop_all()

    def begin(self, about: Mapping[str, Any]) -> None:
        """What makes the results, for the first line of JSON lines."""
        if self._kind == "jsonl":
            self._rows = lambda frame, targets: jsonl_rows(frame, targets, None if self.frames else about)

    def write(self, frame: SourceFrame, targets: Targets, drawn: Callable[[], Picture]) -> None:
        blocks = self._rows(frame, targets) if frame.index > self._resume_after else [""] * len(self._files)
        for file, block in zip(self._files, blocks, strict=True):
            file.write((self._header if not self.frames else "") + block)
        self.frames += 1

    def finish(self) -> None:
        for file in self._files:
            file.finish(self.frames > 0)

    def close(self) -> None:
        for file in self._files:
            file.close()


def _scores(tracked: Tracked) -> dict[str, float | None]:
    """Its scores; None where there are none."""
    names = ("score", "coarse_score", "fine_score")
    return {name: number(getattr(tracked.result, name)) if tracked.result else None for name in names}


def _found(tracked: Tracked) -> bool:
    return bool(tracked.result.found) if tracked.result else True


def _state(tracked: Tracked) -> str:
    return tracked.result.state if tracked.result else TRACKED
