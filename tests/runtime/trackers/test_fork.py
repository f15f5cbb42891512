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
from spm_rt import ProcessError, Tracker

bundle, backend, act = sys.argv[1:]
frames = np.random.default_rng(0).integers(0, 255, (3, 120, 160, 3), np.uint8)

def follow(tracker):
    tracker.init(frames[0], (60, 40, 30, 30))
    return [tracker.update(frame).box for frame in frames[1:]]

tracker = Tracker.load(bundle, backend)
wanted = follow(tracker)
other, leave = tracker.sibling(), threading.Event()

def go_on():
    while not leave.is_set():
        follow(other)

thread = threading.Thread(target=go_on)
if act == "in update":
    thread.start()
    time.sleep(0.2)
if act == "closed before":
    tracker.close(), other.close()
    del tracker, other
child = os.fork()
if child == 0:
    print("printed", end="")  # and flushed in the end
    if act == "deleted":
        del tracker, other
    if act == "loaded anew":
        with Tracker.load(bundle, backend) as own:
            assert follow(own) == wanted
    if act == "used":
        try:
            tracker.update(frames[1])
        except ProcessError:
            sys.exit(3)
    if act == "raised":
        raise ValueError("on purpose")
    sys.exit(3)
ended, start = 0, time.monotonic()
while not ended and time.monotonic() < start + 60:
    ended, status = os.waitpid(child, os.WNOHANG)
    time.sleep(0.01)
leave.set()
if thread.ident:
    thread.join()
if not ended:
    os.kill(child, 9)
    sys.exit("the child hangs")
assert os.waitstatus_to_exitcode(status) == (1 if act == "raised" else 3), status
if act != "closed before":
    assert follow(tracker) == wanted
"""
ACTS = ("untouched", "deleted", "used", "raised", "in update", "closed before", "loaded anew")


@pytest.mark.parametrize("backend", [name for name in ("onnxruntime", "openvino", "pytorch") if name in available()])
@pytest.mark.parametrize("act", ACTS)
def test_children_end_whatever_they_do_with_what_their_parent_loaded(
    backend: str, act: str, default_bundle: Path
) -> None:
    arguments = [sys.executable, "-c", PARENT, str(default_bundle), backend, act]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "printed"
