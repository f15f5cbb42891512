"""Results as files: the tables and the video of ``spm-track``."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from ...errors import SourceError, SpmError, in_words
from ...media.protocol import Picture, SourceFrame
from ...outputs import Request, Tracked, open_outputs
from .frames import Frames
from .lanes import Lane, Row


class Run(Protocol):
    """What is downloaded of: a :class:`spm_rt.pipelines.page.run.Run`."""

    name: str
    frames: Frames
    lanes: list[Lane]
    picture: Picture

    def touch(self) -> None:
        """Tell browsers that something has changed."""


TABLES = {"csv": ".csv", "jsonl": ".jsonl", "mot": ".txt", "coco": ".json"}
"""Kinds of tables, and how their files' names end."""


def file_name(run: Run, suffix: str) -> str:
    """What a result is called when it is downloaded."""
    return f"{Path(run.name).stem or 'track'}_track{suffix}"


def table(run: Run, kind: str) -> bytes:
    """All results so far as a table.

    Args:
        run: whose.
        kind: one of :data:`~spm_rt.pipelines.page.downloads.TABLES`.

    Raises:
        SourceError: there is no such kind, or there are no results.
    """
    if kind not in TABLES:
        raise SourceError(f"results come as {', '.join(TABLES)} or video")
    with tempfile.TemporaryDirectory(prefix="spm_page.") as folder:
        path = Path(folder, file_name(run, TABLES[kind]))
        names = _names(run)
        with open_outputs([Request(kind, str(path))], source=run.name, rate=run.frames.rate, targets=names) as outputs:
            for rows in _rows(run):
                outputs.write(_frame(rows[0], run.picture), _targets(names, rows))
        if not path.exists():
            raise SourceError("there are no results yet: draw a box first")
        return path.read_bytes()


class Video:
    """The annotated video of a run, made in a thread of its own.

    Attributes:
        path: of the video, once it is complete; it stays until another one is asked for.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self._folder = tempfile.mkdtemp(prefix="spm_page.")
        self._state, self._message, self._done, self._total = "none", "", 0, 0
        self._stop = False
        self._thread: threading.Thread | None = None

    def state(self) -> dict[str, Any]:
        """How far it is, for the page."""
        return {"state": self._state, "message": self._message, "done": self._done, "total": self._total}

    def start(self, run: Run) -> None:
        """Make it of the results that there are now.

        Raises:
            SourceError: there are none, or a video is being made.
        """
        rows = list(_rows(run))
        if not rows:
            raise SourceError("there are no results yet: draw a box first")
        if self._state == "working":
            raise SourceError("a video is being made already")
        self._state, self._message, self._done, self._total = "working", "", 0, len(rows)
        self._thread = threading.Thread(target=self._make, args=(run, rows), name="spm-page-video", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and remove it."""
        self._stop = True
        if self._thread is not None:
            self._thread.join(30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make(self, run: Run, rows: list[tuple[Row, ...]]) -> None:
        path = Path(self._folder, "track.mp4")
        try:
            self._write(run, rows, path)
            self.path, self._state = path, "ready"
        except SpmError as error:
            self._state, self._message = "failed", str(error)
        except Exception as error:  # of a library: the page says it, and goes on
            self._state, self._message = "failed", in_words(error)
        run.touch()

    def _write(self, run: Run, rows: list[tuple[Row, ...]], path: Path) -> None:
        names = _names(run)
        with contextlib.closing(run.frames.cursor()) as cursor:
            request = Request("video", str(path))
            with open_outputs([request], source=run.name, rate=run.frames.rate, targets=names) as outputs:
                position = 0
                for done, wanted in enumerate(rows):
                    while (frame := cursor.at(position)) is not None and frame.index < wanted[0].number:
                        position += 1
                    if frame is None:
                        raise SourceError("the source cannot be read to the end of the results any more")
                    if self._stop:
                        raise SourceError("the run was closed")
                    outputs.write(frame, _targets(names, wanted))
                    self._done = done + 1
                    if done % 10 == 0:
                        run.touch()


def _names(run: Run) -> list[str]:
    return ["target"] if len(run.lanes) == 1 else list("AB"[: len(run.lanes)])


def _rows(run: Run) -> Iterator[tuple[Row, ...]]:
    """Rows of all lanes, in order, where all of them have one."""
    lanes = [dict(lane.rows) for lane in run.lanes]
    for position in sorted(lanes[0]):
        if all(position in lane for lane in lanes):
            yield tuple(lane[position] for lane in lanes)


def _frame(row: Row, picture: Any) -> SourceFrame:
    return SourceFrame(picture, row.number, row.time, row.file)


def _targets(names: list[str], rows: tuple[Row, ...]) -> dict[str, Tracked]:
    return {name: Tracked(row.box, row.result, row.corners) for name, row in zip(names, rows, strict=True)}
