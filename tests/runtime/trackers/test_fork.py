"""Real libraries in forked children: what was loaded before does not keep them from ending, nor from loading anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spm_rt.backends import available

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

PARENT = """
import os, sys, threading, time
import numpy as np
from spm_rt import BackendError, ProcessError, Tracker

bundle, backend = sys.argv[1:]
frames = np.random.default_rng(0).integers(0, 255, (3, 120, 160, 3), np.uint8)

def follow(tracker):
    tracker.init(frames[0], (60, 40, 30, 30))
    return [tracker.update(frame).box for frame in frames[1:]]

def go_on():
    while not leave.is_set():
        follow(other)

def act(name):
    global tracker, other
    if name == "deletes it":
        del tracker, other
    if name in ("uses it", "while a thread is in update"):
        for one in (tracker, other):
            try:
                one.update(frames[1])
                sys.exit(1)
            except ProcessError:
                pass
    if name == "raises":
        raise ValueError("on purpose")
    if name == "loads anew":
        try:
            with Tracker.load(bundle, backend) as own:
                assert follow(own) == wanted
        except BackendError as error:
            assert backend == "pytorch" and "spawn" in str(error), error

def fork(name):
    child = os.fork()
    if child == 0:
        act(name)
        print(name, "printed")  # and flushed in the end
        sys.exit(3)
    ended, start = 0, time.monotonic()
    while not ended and time.monotonic() < start + 60:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)
    if not ended:
        os.kill(child, 9)
        print(name, "hangs")
    elif os.waitstatus_to_exitcode(status) != (1 if name == "raises" else 3):
        print(name, status)

tracker = Tracker.load(bundle, backend)
wanted = follow(tracker)
other, leave = tracker.sibling(), threading.Event()
for name in ("leaves it alone", "deletes it", "uses it", "raises", "loads anew"):
    fork(name)
thread = threading.Thread(target=go_on)
thread.start()
time.sleep(0.2)
fork("while a thread is in update")
leave.set()
thread.join()
assert follow(tracker) == wanted
tracker.close(), other.close()
del tracker, other
fork("after it was closed")
"""
SAID = ("leaves it alone", "deletes it", "uses it", "loads anew", "while a thread is in update", "after it was closed")


@pytest.mark.parametrize("backend", [name for name in ("onnxruntime", "openvino", "pytorch") if name in available()])
def test_children_end_whatever_they_do_with_what_their_parent_loaded(backend: str, default_bundle: Path) -> None:
    arguments = [sys.executable, "-c", PARENT, str(default_bundle), backend]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{what} printed" for what in SAID]
