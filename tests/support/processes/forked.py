"""A command run in a forked child: as quick as a call, and the process that asked survives whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from .children import wait_for

INTERNAL = 99
"""Exit status of a child whose command raised."""


class Outcome(NamedTuple):
    """How a command ended: its exit status, or less the number of the signal; None if it had to be killed."""

    status: int | None
    out: str
    error: str


def run_forked(
    command: Callable[[Sequence[str]], int],
    arguments: Sequence[str],
    folder: Path,
    seconds: float = 60,
    kill: signal.Signals = signal.SIGKILL,
) -> Outcome:
    """Run ``command(arguments)`` in a child whose current folder is ``folder``; ``kill`` it after so many seconds.

    What it prints goes to ``folder/../out`` and ``error``. The calling process must have no threads: a child has none
    of them, but the locks that they held.
    """
    paths = [folder.parent / name for name in ("out", "error")]
    child = os.fork()
    if child == 0:
        status = INTERNAL
        try:
            _into(folder, paths)
            status = command(arguments)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1 if end.code else 0
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
            with contextlib.suppress(BaseException):
                sys.stderr.flush()
            os._exit(status)
    status = wait_for(child, seconds)
    if status is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, kill)
        status = wait_for(child, 60)
        if status is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        elif kill == signal.SIGKILL:
            status = None
    return Outcome(status, *(path.read_text(errors="replace") for path in paths))


def _into(folder: Path, paths: Sequence[Path]) -> None:
    """This process's current folder, input (none) and outputs."""
    os.chdir(folder)
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, paths[0], None), (2, paths[1], None)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC if flags is None else flags)
        os.dup2(descriptor, number)
    # pytest or a driver may have put something else there.
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
