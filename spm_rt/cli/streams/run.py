"""The run over several sources, which come to their ends or are stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
from argparse import Namespace
from collections.abc import Iterator
from types import FrameType
from typing import Any

from ...backends import chosen_because
from ...errors import SpmError
from ...files import shown
from ...outputs.base import count_of
from ...pipelines.streams import Observer, Observers, StreamOptions, StreamReport, StreamTracker
from ...terminal import Progress, Stopped, say, stop_signals
from ..frames import Stop
from ..summary import Tally
from .sources import NamedSource
from .tables import SourceTables

NAME = "spm-track"


def run_streams(options: Namespace) -> int:
    """Track in all sources until each has ended; returns the exit status.

    Raises:
        SpmError: what ended the run as a whole.
        KeyboardInterrupt: a signal did; the message says what is kept.
    """
    sources: list[NamedSource] = options.streams
    stop = Stop()
    tables = SourceTables(options.requests, [one.source for one in sources], str(options.bundle or ""))
    with stop_signals(stop), tables, _observer(options) as observer:
        given = {"threads": options.threads, "precision": options.precision, "observer": observer}
        with StreamTracker.load(options.bundle, options.backend, options.device, **given) as streams:
            if options.mode:
                streams.tracker.settings = dataclasses.replace(streams.tracker.settings, mode=options.mode)
            opening = {"reader": options.reader, "start": options.start.frame, "step": options.skip}
            opening |= {"levels": options.levels, "rate": options.fps}
            for name, source, boxes in sources:
                streams.add(name, source, boxes, StreamOptions(opening=opening))
            stop.deferred = True
            with stop_signals(lambda number, frame: _stop(stop, streams, number, frame)):
                tallies = _follow(options, streams, tables)
            return _end(options, stop, streams, tallies, tables)


def _stop(stop: Stop, streams: StreamTracker, number: int, frame: FrameType | None) -> None:
    stop(number, frame)
    streams.stop()


class _Speaker(Observer):
    """Says when a source breaks off, and when it is there again."""

    def connected(self, stream: str, up: bool, again: bool = False, reason: str = "") -> None:
        if again:
            say(f"{NAME}: {shown(stream)}: opened again")
        elif reason:
            say(f"{NAME}: {shown(stream)}: {reason}")


@contextlib.contextmanager
def _observer(options: Namespace) -> Iterator[Observer]:
    if options.metrics_port is None:
        yield _Speaker()
        return
    from ...pipelines.metrics import StreamMetrics, serve_metrics

    metrics = StreamMetrics()
    with serve_metrics(metrics, options.metrics_port) as address:
        if not options.quiet:
            say(f"{NAME}: metrics at {address}")
        yield Observers(metrics, _Speaker())


def _follow(options: Namespace, streams: StreamTracker, tables: SourceTables) -> dict[str, dict[str, Tally]]:
    tallies: dict[str, dict[str, Tally]] = {}
    bar = Progress("tracking", None, quiet=options.quiet or options.json)
    with contextlib.closing(bar):
        for result in streams:
            name = result.stream
            tables.write(name, result.frame, result.targets)
            for target, tracked in result.targets.items():
                tallies.setdefault(name, {}).setdefault(target, Tally()).add(tracked)
            bar.step()
            if streams.report()[name].tracked == options.frames:
                streams.end(name)
    return tallies


def _end(
    options: Namespace,
    stop: Stop,
    streams: StreamTracker,
    tallies: dict[str, dict[str, Tally]],
    tables: SourceTables,
) -> int:
    """Say what became of every source; the exit status."""
    reports, written = streams.report(), tables.finish()
    ended = signal.Signals(stop.number).name if stop.number is not None else None
    if options.json:
        summary = {
            "streams": {name: _as_json(report, tallies.get(name, {})) for name, report in reports.items()},
            "backend": streams.backend.description,
            "backend_chosen_because": chosen_because(streams.backend),
            "ended_by": ended,
            "written": [entry.path for entry in written if entry.frames],
        }
        print(json.dumps(summary, indent=1, allow_nan=False))
    elif not options.quiet:
        lines = [_as_text(name, report, tallies.get(name, {})) for name, report in reports.items()]
        for line in lines:
            say(line) if any(path == "-" for _, path, _ in options.requests) else print(line)
    if stop.number is not None:
        kept = ", ".join(f"{shown(entry.path)} ({count_of(entry.frames)})" for entry in written if entry.frames)
        raise Stopped(stop.number, f"; kept: {kept}" if kept else "")
    return int(any(report.error is not None or report.damaged for report in reports.values()))


def _as_json(report: StreamReport, tallies: dict[str, Tally]) -> dict[str, Any]:
    error: SpmError | None = report.error
    return {
        "source": shown(report.source),
        "live": report.live,
        "read": report.read,
        "dropped": report.dropped,
        "tracked": report.tracked,
        "reconnects": report.reconnects,
        "error": None if error is None else str(error),
        "notes": list(report.notes),
        "damaged": report.damaged,
        "targets": {name: tally.to_json() for name, tally in tallies.items()},
    }


def _as_text(name: str, report: StreamReport, tallies: dict[str, Tally]) -> str:
    parts = [f"{count_of(report.tracked)} tracked"]
    parts += [f"{report.dropped} dropped"] if report.live else []
    parts += [f"opened again {report.reconnects} times"] if report.reconnects else []
    parts += [f"{target} found in {tally.found}" for target, tally in tallies.items()]
    parts += [f"damaged: {'; '.join(report.notes)}"] if report.damaged else []
    return f"{shown(name)}: {', '.join(parts)}"
