"""Commands killed at random moments; a process of its own, since it forks.

``python -m tests.support.processes.killed track|export --runs 100 --seed 1`` prints a summary as JSON. What may be left
of a killed command: nothing under a final name that is not whole, no temporary file once the next command has ended.
"""

from __future__ import annotations

import argparse
import collections
import csv
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import cv2

from spm_rt import Bundle, Tracker
from spm_rt.errors import SpmError

from ..fakes.backend import bright_frame, bright_tracker
from .forked import INTERNAL, Outcome, run_forked

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: None}
FRAMES = 150


class Kind(NamedTuple):
    """A command to kill."""

    program: str
    arguments: list[str]
    prepare: Callable[[Path], None]
    check: Callable[[Path], str]
    """What is not whole in a folder; nothing if all is."""


def _pictures(folder: Path) -> None:
    (folder / "pictures").mkdir()
    for k in range(FRAMES):
        cv2.imwrite(str(folder / "pictures" / f"{k}.png"), bright_frame(70 + k % 20, 60 - k % 10))


def _tracked(folder: Path) -> str:
    rows = 0
    if (folder / "o.jsonl").exists():
        text = (folder / "o.jsonl").read_text()
        rows = len([json.loads(line) for line in text.splitlines()])
        if text and not text.endswith("\n"):
            return "o.jsonl: torn last line"
    if (folder / "o.csv").exists():
        lines = (folder / "o.csv").read_text()
        table = list(csv.reader(lines.splitlines()))
        if not lines.endswith("\n") or len({len(row) for row in table}) != 1:
            return "o.csv: torn"
    if (folder / "s.png").exists() and cv2.imread(str(folder / "s.png")) is None:
        return "s.png: not a picture"
    return _playable(folder / "o.mp4", rows)


def _playable(path: Path, rows: int) -> str:
    """A video has all frames that it says it has, and as many as there are rows of results (one row may be ahead)."""
    if not path.exists():
        return ""
    import av

    try:
        with av.open(path) as container:
            stated = container.streams.video[0].frames
            decoded = sum(1 for _ in container.decode(video=0))
    except av.FFmpegError as error:
        return f"{path.name}: {error}"
    if stated and stated != decoded:
        return f"{path.name}: {decoded} of {stated} frames"
    return f"{path.name}: {decoded} frames, {rows} rows" if rows and abs(rows - decoded) > 1 else ""


def _exported(folder: Path) -> str:
    bundle = folder / "bundle"
    if not bundle.exists():
        return ""
    try:
        Bundle.open(bundle)
    except SpmError as error:
        return f"bundle: {error}"
    return ""


TRACK = Kind(
    "spm_rt.cli",
    [
        "pictures",
        "--box",
        "58,48,24,24",
        "--quiet",
        "--out",
        "o.mp4",
        "--csv",
        "o.csv",
        "--jsonl",
        "o.jsonl",
        "--sheet",
        "s.png",
    ],
    _pictures,
    _tracked,
)
EXPORT = Kind("spm_export.cli", ["--model", "light", "--out", "bundle", "--quiet"], lambda folder: None, _exported)
KINDS = {"track": TRACK, "export": EXPORT}


def patch(kind: str) -> None:
    """A tracker of bright things, a little slower than real ones write; an export without its minute of proof."""
    if kind == "track":

        def load(*_: Any, **__: Any) -> Tracker:
            tracker = bright_tracker()
            update = tracker.update
            tracker.update = lambda *a, **k: (time.sleep(0.003), update(*a, **k))[1]  # type: ignore[method-assign]
            return tracker

        Tracker.load = load  # type: ignore[method-assign,assignment]
    else:
        import spm_export.bundle as exporter

        from ..exports import UNVERIFIED

        exporter.verify = lambda *_: UNVERIFIED  # type: ignore[attr-defined,assignment]


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


def complaint(outcome: Outcome, how: signal.Signals, folder: Path, kind: Kind) -> str:
    if outcome.status not in {0, STATUS[how]} or outcome.status == INTERNAL:
        return f"status {outcome.status} after {how.name}"
    if how != signal.SIGKILL and "Traceback" in outcome.error:
        return "traceback"
    if how != signal.SIGKILL and hidden(folder):
        return f"left behind by itself: {hidden(folder)}"
    return kind.check(folder)


def run(name: str, runs: int, seed: int) -> dict[str, Any]:
    """The summary: how the commands ended, and what was not as it should be."""
    kind = KINDS[name]
    patch(name)
    command = importlib.import_module(kind.program).main
    ends: collections.Counter[str] = collections.Counter()
    problems: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as top:
        template = Path(top) / "template"
        template.mkdir()
        kind.prepare(template)
        full = _whole_run(command, kind, template, Path(top) / "first")
        for number in range(runs):
            rng = Random(f"{seed} {name} {number}")
            how, after = rng.choice(SIGNALS), rng.uniform(0, full * 1.05)
            folder = Path(top) / f"run{number}" / "work"
            shutil.copytree(template, folder)
            outcome = run_forked(command, kind.arguments, folder, after, how)
            why = complaint(outcome, how, folder, kind)
            ends[f"{how.name} {outcome.status}"] += 1
            if not why and number % 5 == 0:
                why = _next_run(command, kind, folder)
            if why:
                problems.append({"why": why, "number": number, "after": after, "said": outcome.error[-800:]})
            shutil.rmtree(folder.parent)
    return {"kind": name, "runs": runs, "seconds": full, "ends": dict(ends), "problems": problems}


def _whole_run(command: Callable[[Sequence[str]], int], kind: Kind, template: Path, folder: Path) -> float:
    """Seconds of a run that nobody kills."""
    shutil.copytree(template, folder / "work")
    start = time.monotonic()
    outcome = run_forked(command, kind.arguments, folder / "work", 120)
    if outcome.status != 0 or kind.check(folder / "work"):
        raise SystemExit(f"the command fails by itself: {outcome} {kind.check(folder / 'work')}")
    return time.monotonic() - start


def _next_run(command: Callable[[Sequence[str]], int], kind: Kind, folder: Path) -> str:
    """The next command with the same outputs removes what a killed one left."""
    outcome = run_forked(command, kind.arguments, folder, 120)
    if outcome.status != 0:
        return f"the next run: status {outcome.status}: {outcome.error[-300:]}"
    return f"after the next run: {hidden(folder)}" if hidden(folder) else kind.check(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    os.environ["SPM_RT_AUTO"] = "fixed"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where it is started in the background, it is ignored
    report = run(options.kind, options.runs, options.seed)
    print(json.dumps(report))
    return bool(report["problems"])


if __name__ == "__main__":
    sys.exit(main())
