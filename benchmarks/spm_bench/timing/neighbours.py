"""Processes that do nothing but compute, so that a tracker has to share the machine, as it does where it is used."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

BUSY = "x = 0\nwhile True: x += 1"


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[None]:
    """``count`` busy processes of one thread each, until the block ends."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
