"""What is made once per test run, although the run may have several processes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


class MadeOnce:
    """Gives the path of what a function writes: one process of the run writes it, the others wait and use it."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        own = factory.getbasetemp()
        self._folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "made_once"
        self._folder.mkdir(exist_ok=True)

    def __call__(self, name: str, write: Callable[[Path], object]) -> Path:
        path, unfinished = self._folder / name, self._folder / f"{name}.unfinished"
        with open(self._folder / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                write(unfinished)
                unfinished.rename(path)
        return path
