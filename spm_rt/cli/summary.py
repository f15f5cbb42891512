"""What a run says in the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..backends import chosen_because
from ..files import shown
from ..media.protocol import SourceReport
from ..outputs import Tracked, Written
from ..outputs.base import count_of
from .following import Follower


class Tally:
    """Numbers of one target over the frames so far."""

    def __init__(self) -> None:
        self.found = 0
        self.last: Tracked | None = None
        self._lowest, self._highest = math.inf, -math.inf

    def add(self, tracked: Tracked) -> None:
        """One more frame."""
        self.last = tracked
        if tracked.result is None:
            self.found += 1
            return
        self.found += tracked.result.found
        score = tracked.result.score
        self._lowest, self._highest = min(self._lowest, score), max(self._highest, score)

    def to_json(self) -> dict[str, Any]:
        """None where there is no number."""
        return {
            "found": self.found,
            "lowest_score": self._lowest if math.isfinite(self._lowest) else None,
            "highest_score": self._highest if math.isfinite(self._highest) else None,
            "last_box": list(self.last.box) if self.last else None,
        }


def make_summary(
    source: str,
    frames: int,
    follower: Follower,
    tallies: Mapping[str, Tally],
    report: SourceReport,
    written: Sequence[Written],
    ended: str | None,
) -> dict[str, Any]:
    """The summary; the numbers at its top are those of the first target."""
    targets = {name: tally.to_json() for name, tally in tallies.items()}
    return {
        "source": shown(source),
        "frames": frames,
        "fps": follower.updates / follower.seconds if follower.seconds else 0.0,
        **next(iter(targets.values())),
        "targets": targets,
        "backend": follower.backend.description,
        "backend_chosen_because": chosen_because(follower.backend),
        "expected": report.expected,
        "unreadable": report.unreadable,
        "damaged": report.damaged,
        "notes": [*report.notes, *output_notes(written)],
        "ended_by": ended,
        "written": [entry.path for entry in written if entry.frames],
    }


def summary_text(summary: Mapping[str, Any]) -> str:
    """The summary for people."""
    lines = [f"{count_of(summary['frames'])} at {summary['fps']:.1f} per second (reading and drawing not counted)"]
    for name, entry in summary["targets"].items():
        scores = ""
        if entry["lowest_score"] is not None:
            scores = f", score {entry['lowest_score']:.2f} to {entry['highest_score']:.2f}"
        text = f"found in {entry['found']}{scores}"
        if len(summary["targets"]) == 1:
            lines[0] += f", {text}"
        else:
            lines.append(f"{name}: {text}")
    because = summary["backend_chosen_because"]
    lines.append(f"{summary['backend']}{because and f' (auto: {because})'}")
    lines += [f"wrote {shown(path)}" for path in summary["written"] if path != "-"]
    return "\n".join(lines)


def damage_text(report: SourceReport) -> str:
    """What is missing of a source, in one line."""
    expected = "" if report.expected is None else f"{report.expected} frames expected, "
    return f"damaged: {expected}{report.read} read, {report.unreadable} could not be read"


def kept_text(written: Sequence[Written]) -> str:
    """What there is of each output after a run that did not come to its end."""
    kept = [f"{shown(entry.path)} ({count_of(entry.frames)})" for entry in written if entry.frames]
    return "; ".join([f"kept: {', '.join(kept)}"] * bool(kept) + output_notes(written))


def output_notes(written: Sequence[Written]) -> list[str]:
    """What outputs have to say, one line each."""
    return [f"{shown(entry.path)}: {entry.note}" for entry in written if entry.note]
