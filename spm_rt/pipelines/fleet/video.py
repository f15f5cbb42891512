"""One whole video: the unit of work, and of doing it again."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any

from ...errors import SourceError
from ...files import shown
from ...media.sources import open_source
from ...outputs.base import Tracked
from ...trackers.multi import MultiTracker
from .manifest import Work

COLUMNS = {
    **{"video": "string", "target": "string", "frame": "int64", "time": "double"},
    **dict.fromkeys(("x", "y", "width", "height", "score", "coarse_score", "fine_score"), "double"),
    **{"found": "bool", "state": "string"},
}
"""Columns of the results, and their types."""


class Settings(dict[str, Any]):
    """How targets are followed: the arguments of :meth:`spm_rt.MultiTracker.load`."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))


@functools.lru_cache(maxsize=1)
def _loaded(settings: Settings) -> MultiTracker:
    """A process loads the graphs once; no target stays in this tracker, whose siblings follow them."""
    return MultiTracker.load(**settings)


def track_video(work: Work, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Follow all targets of one video, from its first frame to its last.

    Nothing is kept between two calls but the compiled graphs: whoever lost a call's result calls again.

    Args:
        work: the video and its targets.
        settings: arguments of :meth:`spm_rt.MultiTracker.load`.

    Returns:
        ``columns``: lists by the names of :data:`COLUMNS`, a row for each target and frame; ``seconds`` in all, and
        ``tracking`` of these; ``damaged``, and ``notes`` of the source.

    Raises:
        SpmError: the video or one of its boxes cannot be used.
    """
    begun, tracking = time.perf_counter(), 0.0
    tracker = _loaded(Settings(settings)).sibling()
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    waiting = sorted(work.targets, key=lambda target: target.frame)
    ids: dict[int, str] = {}
    with open_source(work.video) as source:
        for frame in source:
            start = time.perf_counter()
            results = tracker.update(frame.picture) if ids else {}
            rows = {ids[id]: Tracked(result.box, result) for id, result in results.items()}
            while waiting and waiting[0].frame <= frame.index:
                target = waiting.pop(0)
                if target.frame < frame.index:
                    raise SourceError(f"{shown(work.video)}: frame {target.frame} cannot be read")
                ids[tracker.add(frame.picture, target.box)] = target.name
                rows[target.name] = Tracked(target.box, None)
            tracking += time.perf_counter() - start
            for name, tracked in rows.items():
                _add(columns, work.video, name, frame.index, frame.time, tracked)
        report = source.report()
    if waiting:
        raise SourceError(f"{shown(work.video)}: it has no frame {waiting[0].frame}, where {waiting[0].name} begins")
    return {
        "columns": columns,
        "seconds": time.perf_counter() - begun,
        "tracking": tracking,
        "damaged": report.damaged,
        "notes": list(report.notes),
    }


def _add(
    columns: dict[str, list[Any]], video: str, name: str, frame: int, time: float | None, tracked: Tracked
) -> None:
    box, result, _ = tracked
    scores = (result.score, result.coarse_score, result.fine_score) if result else (None, None, None)
    ending = (result.found, result.state) if result else (True, "tracked")
    for column, value in zip(columns.values(), (video, name, frame, time, *box, *scores, *ending), strict=True):
        column.append(value)
