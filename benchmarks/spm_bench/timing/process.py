"""A tracking process of its own: what it takes to import, load, and track, in time and in memory.

Started as ``python -m spm_bench.timing.process`` by :func:`measure_process`; the process imports the runtime and one
inference library, like a program that does nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spm_rt.results import Box

    from ..loading import Entry, Frame

UPDATES = 30
"""Frames that are tracked before the peak memory is read."""
LIMIT_SECONDS = 300


def measure_process(entry: Entry, frames: Sequence[Frame], box: Box, device: str, threads: int) -> dict[str, Any]:
    """Start a process that imports spm_rt, loads a bundle and tracks, and then a second one, which is reported.

    The first one fills the caches: the system's of files, and the library's of compiled models, if it keeps one.

    Returns:
        ``import_s``, ``load_s``, ``init_ms``, ``first_frame_ms``, ``peak_memory_mb``, ``frame_memory_mb`` (what two
        frames take, which is part of the peak), and ``first_load_s``, the first process's load; or ``error``.
    """
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "frames.npy", np.stack(frames[:2]), allow_pickle=False)
        load = (str(entry.bundle.path), entry.backend, device)
        order = {
            "load": (load, {"threads": threads, "precision": entry.asked}),
            "box": box,
            "frames": str(Path(folder) / "frames.npy"),
        }
        first = _start(order)
        second = _start(order) if "error" not in first else first
    return second if "error" in second else {**second, "first_load_s": first["load_s"]}


def _start(order: dict[str, Any]) -> dict[str, Any]:
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "spm_bench.timing.process", json.dumps(order)],
            capture_output=True,
            text=True,
            env=variables,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    if ran.returncode:
        return {"error": (ran.stderr.strip().splitlines() or ["no message"])[-1]}
    figures: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return figures


def main(text: str) -> None:
    """In the process itself: ``text`` is the order as JSON, the figures go to standard output."""
    order = json.loads(text)
    marks = [time.perf_counter()]
    import spm_rt
    from spm_rt.backends.registry import BACKENDS

    marks.append(time.perf_counter())
    what, how = order["load"]
    tracker = spm_rt.Tracker.load(*what, **how)
    marks.append(time.perf_counter())
    import numpy

    frames = numpy.load(order["frames"], allow_pickle=False)
    marks.append(time.perf_counter())
    tracker.init(frames[0], order["box"])
    marks.append(time.perf_counter())
    tracker.update(frames[1])
    marks.append(time.perf_counter())
    for number in range(UPDATES):
        tracker.update(frames[number % 2])
    from spm_bench.timing.machine import peak_memory_mb

    imported, loaded, _, ready, tracked = numpy.diff(marks).tolist()
    figures = {
        "import_s": imported,
        "load_s": loaded,
        "init_ms": ready * 1e3,
        "first_frame_ms": tracked * 1e3,
        "peak_memory_mb": peak_memory_mb(),
        "frame_memory_mb": frames.nbytes / 1e6,
        "libraries": sorted({*(e.library for e in BACKENDS.values()), "onnx", "matplotlib"} & set(sys.modules)),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1])
