"""Forked children that end in time, or fail the test."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable


def ends_in_child(work: Callable[[], object], seconds: float = 60) -> int:
    """The exit status of a forked child that does some work: 0, or 1 where it raises; an AssertionError if it hangs."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # whatever it is, the child ends here
            traceback.print_exc()
        finally:
            os._exit(status)
    return exit_status(child, seconds)


def exit_status(child: int, seconds: float) -> int:
    """Wait for a child; where it takes longer, it is killed, and that is an AssertionError."""
    status = wait_for(child, seconds)
    if status is not None:
        return status
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"the child was still there after {seconds} s")


def wait_for(child: int, seconds: float) -> int | None:
    """The exit status of a child, or less the number of the signal that ended it; None if it takes longer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None
