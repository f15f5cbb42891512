"""Writing into the cache of engines: one process at a time per engine, and never a half-written file.

:mod:`spm_rt.cache.engines` reads what is written here, and says where.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spm_rt.cache.engine_facts import EngineFacts
from spm_rt.cache.engines import seal_facts
from spm_rt.errors import EngineError
from spm_rt.files import written_whole
from spm_rt.store import private_folder


def prepare_folder(folder: Path) -> Path:
    """Make the folder of engines, for this user alone, where it is missing.

    Raises:
        EngineError: it cannot be made, or others may write to it.
    """
    try:
        private_folder(folder)
    except OSError as error:
        raise EngineError(f"{folder}: no folder to keep engines in ({error.strerror}); choose another") from error
    return folder


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time is inside, per engine; the lock goes with its process, whatever ends that.

    Where the system knows no such locks (Windows, some network folders), several processes may build the same engine;
    the last one's files stand, whole.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    lock = path.with_suffix(".lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError as error:
        raise EngineError(f"{lock}: cannot be written ({error.strerror})") from error
    with os.fdopen(descriptor):
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def write_engine(path: Path, facts: EngineFacts, plan: bytes | memoryview[int]) -> EngineFacts:
    """Store a plan and its sidecar under their final names, the sidecar last: without it there is no engine.

    To be called inside :func:`locked`.

    Args:
        path: as :func:`spm_rt.cache.engines.engine_path` gives it.
        facts: with its ``tensors``.
        plan: the plan's bytes.

    Returns:
        The facts as stored, with the plan's size and digest.

    Raises:
        EngineError: disk full or the like; nothing new is left behind.
    """
    done = dataclasses.replace(facts, plan_sha256=hashlib.sha256(plan).hexdigest(), plan_bytes=len(plan))
    sidecar = path.with_suffix(".json")
    try:
        sidecar.unlink(missing_ok=True)
        _put(path, plan)
        _put(sidecar, seal_facts(done))
    except OSError as error:
        raise EngineError(f"{path}: cannot be written ({error.strerror}); the engine is not in the cache") from error
    return done


def _put(path: Path, content: bytes | memoryview[Any]) -> None:
    """Write a file for this user alone."""
    with written_whole(path, mode=0o600, suffix=".tmp") as part:
        part.write_bytes(content)


def write_beside(path: Path, content: bytes) -> None:
    """Keep something that is only there to save time (a timing cache): a failure to write it is no error."""
    with contextlib.suppress(OSError):
        _put(path, content)
