"""Live video of a real RTSP server on this machine: read, opened again when the server comes back, given up else."""

from __future__ import annotations

import contextlib
import csv
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from spm_rt import Tracker
from spm_rt.cli import main
from spm_rt.pipelines.streams import StreamOptions, StreamTracker

from ..support.components.environments import system_python
from ..support.fakes.backend import bright_tracker
from ..support.fakes.bundle import small_bundle
from ..support.layers import ROOT

BALL = (60.0, 40.0, 40.0, 40.0)


@contextlib.contextmanager
def rtsp_server(port: int = 0) -> Iterator[int]:
    """GStreamer's server; its port."""
    python, variables = system_python("Gst", "GstRtspServer")
    script = ROOT / "tests" / "support" / "components" / "rtsp_server.py"
    process = subprocess.Popen([python, script, str(port)], stdout=subprocess.PIPE, text=True, env=variables)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def test_spm_track_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av", reason="OpenCV reads RTSP by UDP alone")
    monkeypatch.setattr(Tracker, "load", lambda *_, **__: bright_tracker())
    box, table = ",".join(map(str, BALL)), tmp_path / "boxes.csv"
    words = ["--bundle", str(small_bundle(tmp_path / "bundle")), "--box", box, "--frames", "4", "--csv", str(table)]
    with rtsp_server() as port:
        assert main([f"rtsp://127.0.0.1:{port}/ball", *words]) == 0
    with open(table, newline="", encoding="utf-8") as file:
        assert [row["frame"] for row in csv.DictReader(file)] == ["0", "1", "2", "3"]


def test_a_server_that_comes_back_is_read_again_and_one_that_does_not_is_given_up(streams: StreamTracker) -> None:
    options = StreamOptions(timeout=3, first_wait=0.1, longest_wait=0.2, attempts=40)
    with contextlib.ExitStack() as running:
        port = running.enter_context(rtsp_server())
        streams.add("camera", f"rtsp://me:secret@127.0.0.1:{port}/ball", {"ball": BALL}, options)
        results, restarted = [], 0
        for result in streams:
            results.append(result)
            if len(results) == 3:
                running.close()
                running.enter_context(rtsp_server(port))
                restarted = len(results)
            if streams.report()["camera"].reconnects and len(results) > restarted + 3:
                running.close()
    report = streams.report()["camera"]
    assert (report.live, report.reconnects) == (True, 1)
    assert f"rtsp://me:***@127.0.0.1:{port}/ball: " in str(report.error)
    for values in ([result.frame.index for result in results], [result.frame.time for result in results]):
        assert values == sorted(set(values))
    assert all(result.targets["ball"].result is None or result.targets["ball"].result.found for result in results)
