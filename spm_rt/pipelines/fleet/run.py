"""The run over a manifest: what is there already stays, every video is done once, and a report says how it went."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...backends import load_backend
from ...bundle import Bundle
from ...errors import SpmError
from ...files import shown, written_whole
from ...machine import usable_cores
from ...settings import to_json
from ...terminal import Progress, say
from .manifest import Work, read_manifest
from .parts import make_folder, write_part
from .workers import Outcome, here, on_ray, ray_started

NAME = "spm-fleet"
REPORT = "report.json"


def run(options: Namespace) -> int:
    """Do what the options say; 0 if every video has its results, else 1.

    Raises:
        SpmError: what ended the run as a whole. Results that are done are kept.
    """
    bundle = Bundle.of(options.bundle, None)
    settings = dataclasses.replace(bundle.settings, mode=options.mode) if options.mode else bundle.settings
    # Compiled once, here, where an error is one line; workers find the choice of `auto` and the graphs in the cache.
    backend = load_backend(bundle, options.backend, device=options.device, threads=_threads(options)).name
    made_by = json.dumps([str(bundle.manifest["manifest_sha256"]), to_json(settings), backend, options.device])
    works = read_manifest(options.manifest, made_by)
    folder = make_folder(options.out)
    waiting = [work for work in works if not (folder / work.part).is_file()]
    given: dict[str, Any] = {"bundle": str(options.bundle), "backend": backend, "device": options.device}
    given |= {"threads": _threads(options), "settings": settings}
    report = _Report(options, works, waiting)
    try:
        with contextlib.ExitStack() as stack:
            if options.workers and waiting:
                stack.enter_context(ray_started(options.workers, options.address))
            outcomes = on_ray(waiting, given, options.workers) if options.workers else here(waiting, given)
            _keep(folder, outcomes, report, options)
    finally:
        report.write(folder)
    report.say(options)
    return int(bool(report.failed))


def _threads(options: Namespace) -> int:
    """Threads of a worker: its share of this machine's cores."""
    return int(options.threads or max(1, usable_cores() // max(1, options.workers)))


def _keep(folder: Path, outcomes: Iterator[Outcome], report: _Report, options: Namespace) -> None:
    bar = Progress("videos", len(report.waiting), quiet=options.quiet or options.json)
    with contextlib.closing(bar):
        for work, outcome in outcomes:
            if isinstance(outcome, SpmError):
                report.add_failure(work, outcome)
            else:
                write_part(folder, work, outcome.pop("columns"))
                report.add(work, outcome)
            bar.step(Path(work.video).name)


class _Report:
    """What became of every video.

    Attributes:
        waiting: those that had no results before this run.
        failed: messages by video.
    """

    def __init__(self, options: Namespace, works: list[Work], waiting: list[Work]) -> None:
        self.waiting = waiting
        self.failed: dict[str, str] = {}
        self._options, self._works = options, works
        self._done: dict[str, dict[str, Any]] = {}
        self._begun = time.monotonic()

    def add(self, work: Work, outcome: dict[str, Any]) -> None:
        """One more video with results."""
        self._done[work.video] = outcome

    def add_failure(self, work: Work, error: SpmError) -> None:
        """One more video without."""
        self.failed[work.video] = str(error)
        say(f"{NAME}: {shown(work.video)}: {str(error).removeprefix(f'{shown(work.video)}: ')}")

    def as_json(self) -> dict[str, Any]:
        """The numbers, and each video of this run."""
        seconds = time.monotonic() - self._begun
        before = len(self._works) - len(self.waiting)
        return {
            "videos": len(self._works),
            "done_before": before,
            "done": len(self._done),
            "failed": len(self.failed),
            "left": len(self.waiting) - len(self._done) - len(self.failed),
            "workers": self._options.workers,
            "seconds": seconds,
            "tracking_seconds": sum(one["tracking"] for one in self._done.values()),
            "worker_seconds": sum(one["seconds"] for one in self._done.values()),
            "errors": self.failed,
            "parts": {work.part: {"video": work.video, **self._done.get(work.video, {})} for work in self._works},
        }

    def write(self, folder: Path) -> None:
        """Put it beside the results; a disk that is full is complained of elsewhere."""
        with contextlib.suppress(OSError), written_whole(folder / REPORT) as part:
            part.write_text(json.dumps(self.as_json(), indent=1), encoding="utf-8")

    def say(self, options: Namespace) -> None:
        """The summary, as is asked for."""
        summary = self.as_json()
        if options.json:
            print(json.dumps(summary, indent=1))
        elif not options.quiet:
            print(
                f"{summary['videos']} videos: {summary['done_before']} were done, {summary['done']} are now, "
                f"{summary['failed']} failed; {summary['seconds']:.1f} s, {summary['tracking_seconds']:.1f} of tracking"
            )
