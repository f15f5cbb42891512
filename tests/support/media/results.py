"""Frames and boxes for outputs: what a run would give them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from spm_rt.media.protocol import SourceFrame
from spm_rt.outputs import Request, Tracked, Written, open_outputs
from spm_rt.results import TrackResult

from .films import SIZE, numbered

NAN = float("nan")
LOST_EVERY = 7
SUFFIX = {
    "video": ".mp4",
    "sheet": ".png",
    "csv": ".csv",
    "jsonl": ".jsonl",
    "mot": ".txt",
    "otb": ".txt",
    "coco": ".json",
}
"""How the names of each kind of output end in tests."""


def source_frames(
    times: Iterable[float | None], size: tuple[int, int] = SIZE, indices: Sequence[int] | None = None
) -> Iterator[SourceFrame]:
    """Numbered frames at these times."""
    for number, time in enumerate(times):
        index = indices[number] if indices else number
        yield SourceFrame(numbered(number % 64, size), index, time, None)


def tracked(index: int, names: Sequence[str] = ("target",)) -> dict[str, Tracked]:
    """Targets in a frame: given in the first one, lost in every seventh; far below the number in the picture."""
    targets = {}
    for place, name in enumerate(names):
        box = (10.25 + index % 50, 90.5 + place, 1 / 3 + 20, 12.0)
        found = index % LOST_EVERY != 3
        state = "tracked" if found else "lost"
        result = TrackResult(box, 0.1 + 0.8 / (1 + index), found, 0.75, NAN, state=state)
        targets[name] = Tracked(box, result if index else None)
    return targets


def write_results(
    requests: Sequence[tuple[str, Path | str]],
    frames: Iterable[SourceFrame],
    names: Sequence[str] = ("target",),
    **how: Any,
) -> list[Written]:
    """A whole run with these outputs."""
    with open_outputs([Request(kind, str(path)) for kind, path in requests], targets=names, **how) as outputs:
        for frame in frames:
            outputs.write(frame, tracked(frame.index, names))
        return outputs.finish()
