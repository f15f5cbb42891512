"""Eight cameras on one machine: what is tracked, how old results are, what memory does; and with one that hangs."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from spm_export.cli import DEMO_BOX, DEMO_CLIP
from spm_rt.pipelines.streams import Observer, StreamOptions, StreamTracker

RATE, STREAMS = 25, 8


class ModelTime(Observer):
    """Seconds of each call of the graphs, and what belongs to it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._call = 0.0

    def stage(self, stream: str, name: str, seconds: float) -> None:
        self._call = seconds if name == "crop" else self._call + seconds
        if name == "fusion":
            self.seconds.append(self._call)


@contextlib.contextmanager
def cameras(clip: Path, count: int, seconds: float) -> Iterator[list[str]]:
    """Addresses of servers, each of which sends the clip over and over, at its own pace."""
    film = ["ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(clip), "-t", str(seconds), "-c", "copy"]
    with contextlib.ExitStack() as stack:
        addresses = []
        for _ in range(count):
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            addresses.append(f"http://127.0.0.1:{port}/camera.ts")
            server = subprocess.Popen([*film, "-f", "mpegts", "-listen", "1", addresses[-1]])
            stack.callback(server.wait)
            stack.callback(server.kill)
        yield addresses


def follow(bundle: Path, addresses: list[str], seconds: float) -> dict[str, Any]:
    """Track in all of them for so long; the numbers."""
    model, ages, memory = ModelTime(), [], []
    process = psutil.Process()
    with StreamTracker.load(bundle, observer=model) as streams:
        for k, address in enumerate(addresses):
            options = StreamOptions(timeout=5, first_wait=0.2, longest_wait=1)
            streams.add(f"camera{k}", address, {"target": DEMO_BOX}, options)
        began = next_look = time.monotonic()
        for result in streams:
            ages.append(result.age)
            if (now := time.monotonic()) >= next_look:
                memory.append(process.memory_info().rss / 2**20)
                next_look = now + 1
            if now - began > seconds:
                break
        report = streams.report()
    third = max(1, len(memory) // 3)
    return {
        "seconds": round(time.monotonic() - began, 1),
        "batches": streams.tracker.seconds,
        "tracked": [entry.tracked for entry in report.values()],
        "dropped": [entry.dropped for entry in report.values()],
        "age_ms": dict(zip(("p50", "p99", "max"), 1000 * np.percentile(ages, [50, 99, 100]), strict=True)),
        "model_ms": dict(zip(("p50", "p99"), 1000 * np.percentile(model.seconds, [50, 99]), strict=True)),
        "memory_mib": {"first third": max(memory[:third]), "last third": max(memory[-third:])},
    }


@pytest.mark.slow
def test_eight_streams_are_followed_and_one_that_hangs_slows_none(
    default_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = float(os.environ.get("SPM_STREAM_SECONDS") or 600)
    bundle = Path(os.environ.get("SPM_RT_BUNDLE") or default_bundle)
    clip = tmp_path / "clip.ts"
    # The shipped clip has 640 x 360 pixels and 25 frames per second; key frames often enough to begin anywhere.
    encoder = ["-an", "-c:v", "libx264", "-g", str(RATE), "-bf", "0"]
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(DEMO_CLIP), *encoder, str(clip)], check=True)
    with cameras(clip, STREAMS, seconds + 60) as addresses:
        well = follow(bundle, addresses, seconds)
    with cameras(clip, STREAMS, seconds + 60) as addresses, socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = follow(bundle, [*addresses, f"http://127.0.0.1:{silent.getsockname()[1]}/x.ts"], seconds)
    with capsys.disabled():
        json.dump({"all well": well, "one more that hangs": hanging}, sys.stdout, indent=1)
    for numbers in (well, hanging):
        bound = 2000 / RATE + numbers["model_ms"]["p99"]
        assert numbers["age_ms"]["p99"] < bound
        assert numbers["memory_mib"]["last third"] < 1.03 * numbers["memory_mib"]["first third"] + 5
        assert min(numbers["tracked"][:STREAMS]) > 0.8 * max(numbers["tracked"][:STREAMS])
    assert hanging["tracked"][STREAMS] == 0
    assert sum(hanging["tracked"]) > 0.95 * sum(well["tracked"])
