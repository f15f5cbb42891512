"""The OpenVINO backend, where it is installed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from spm_export.cli import DEMO_CLIP
from spm_rt import BackendError, Bundle, Tracker
from spm_rt.backends import load_backend
from spm_rt.backends.openvino.backend import shared_core
from spm_rt.backends.protocol import Backend
from spm_rt.frame.geometry import iou
from spm_rt.results import Box
from spm_rt.trackers.compare import follow_both

from ...support.follow import Frames
from ...support.layers import ROOT

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def backend(bundle: Bundle) -> Backend:
    return load_backend(bundle, "openvino")


def test_it_says_what_it_is(backend: Backend, bundle: Bundle) -> None:
    assert backend.name == "openvino"
    assert ", float32, " in backend.description
    int8 = dataclasses.replace(bundle, manifest={**bundle.manifest, "precision": "int8"})
    assert ", int8, the rest float32, " in load_backend(int8, "openvino").description


def test_it_says_how_many_threads_there_are_not_how_many_were_asked_for(bundle: Bundle) -> None:
    described = load_backend(bundle, "openvino", threads=1000).description
    assert int(described.split()[-2]) <= (os.cpu_count() or 1)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: threads cannot be bound to fewer")
def test_no_thread_is_bound_to_a_core(bundle: Bundle, clip: Frames, clip_box: Box) -> None:
    """Two processes with a thread each would share the first one (findings/openvino_shared_core.sh)."""
    before = bound_threads()
    tracker = Tracker.load(bundle, "openvino", threads=1)
    tracker.init(clip[0], clip_box)
    seen, ended = [], threading.Event()

    def look() -> None:
        while not ended.is_set():
            seen.append(bound_threads() - before)
            ended.wait(0.001)

    watching = threading.Thread(target=look)
    watching.start()
    tracker.update(clip[1])
    ended.set()
    watching.join()
    assert len(seen) > 3
    assert not set().union(*seen)


def bound_threads() -> set[int]:
    """Threads of this process that may run on fewer cores than the process."""
    found = set()
    for thread in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            if os.sched_getaffinity(thread) != os.sched_getaffinity(os.getpid()):
                found.add(thread)
    return found


def has_bf16() -> bool:
    return "BF16" in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.skipif(not has_bf16(), reason="this CPU has no bfloat16")
def test_bf16_follows_closely(backend: Backend, bundle: Bundle, clip: Frames, clip_box: Box) -> None:
    half = Tracker.load(bundle, "openvino", precision="bf16")
    assert "bfloat16" in half.backend.description
    tracks = follow_both(Tracker(backend, half.spec, half.settings), half, clip[:10], clip_box)
    overlaps = iou(tracks.first, tracks.forced)
    assert 0.95 < overlaps.mean() < 1


def test_bf16_without_hardware_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain:
        available_devices = ("CPU",)

        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr("spm_rt.backends.openvino.backend.shared_core", Plain)
    with pytest.raises(BackendError, match="no bfloat16"):
        load_backend(bundle, "openvino", precision="bf16")


def test_precisions_are_checked_before_anything_is_compiled(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=r"unknown; there are: float32 \(fp32\), bfloat16 \(bf16\)"):
        load_backend(bundle, "openvino", precision="int4")
    with pytest.raises(BackendError, match="'onnxruntime' does not offer precision 'bfloat16'; openvino, pytorch can"):
        load_backend(bundle, "onnxruntime", precision="bf16")
    int8 = dataclasses.replace(bundle, manifest={**bundle.manifest, "precision": "int8"})
    with pytest.raises(BackendError, match="its graphs are int8"):
        load_backend(int8, "openvino", precision="bf16")


STOPPED = """
import os, signal, sys, threading
from spm_rt.backends.openvino.backend import OpenVinoBackend
from spm_rt.cli import main

compile_graph, main_thread = OpenVinoBackend._compile, threading.main_thread().ident

def stopping(*arguments):
    threading.Timer(0.02, signal.pthread_kill, (main_thread, signal.SIGTERM)).start()
    return compile_graph(*arguments)

OpenVinoBackend._compile = stopping
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signals")
def test_signals_while_graphs_are_compiled_end_the_command_and_abort_nothing(
    default_bundle: Path, tmp_path: Path
) -> None:
    """Compilations run in threads, which come back from C++ code; the interpreter must still be there."""
    words = ["--bundle", str(default_bundle), "--backend", "openvino", "--box", "193,158,57,72", "--quiet"]
    command = [sys.executable, "-c", STOPPED, str(DEMO_CLIP), *words, "--csv", str(tmp_path / "o.csv")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (143, "spm-track: stopped by SIGTERM\n")
    assert list(tmp_path.iterdir()) == []


DROPPED = """
import signal, sys
from spm_rt import Tracker

trackers = [Tracker.load(sys.argv[1], "openvino") for _ in range(2)]
while trackers:
    del trackers[0]
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no stacks for signal handlers")
def test_signals_are_handled_after_trackers_are_gone(default_bundle: Path) -> None:
    command = [sys.executable, "-c", DROPPED, str(default_bundle)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n")
