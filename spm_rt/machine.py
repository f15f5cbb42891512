"""The machine that a process runs on: processor, cores, memory."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import weakref
from pathlib import Path

_parents_own: weakref.WeakSet[object] = weakref.WeakSet()
_left_behind: list[object] = []


@functools.lru_cache(maxsize=1)
def processor() -> str:
    """The CPU's name and instruction sets, as far as the system tells: what compiled graphs depend on."""
    model = cpu_facts().get("model name") or platform.processor() or "unknown"
    flags = hashlib.sha256(" ".join(sorted(instruction_sets())).encode())
    return f"{model} {platform.machine()} {platform.system()} {flags.hexdigest()[:16]}"


def instruction_sets() -> frozenset[str]:
    """The CPU's instruction sets by the kernel's names; empty where the system does not tell."""
    facts = cpu_facts()
    return frozenset((facts.get("flags") or facts.get("Features") or "").split())


@functools.lru_cache(maxsize=1)
def cpu_facts() -> dict[str, str]:
    """What the kernel says of the first CPU, by its own names; empty where the system does not tell."""
    facts: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    return facts


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def release_memory() -> None:
    """Give back to the system what the C library keeps of freed memory: over 100 MB after a compilation."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # there is such a call in glibc only
        ctypes.CDLL(None).malloc_trim(0)


def leave_to_parent(owner: object) -> None:
    """Let no forked child destroy what ``owner`` holds, directly or not: objects of libraries that have threads.

    A child has none of these threads, and their libraries wait for them for ever: in the destructors of such objects,
    and in those of their static variables when the process ends.
    """
    if hasattr(os, "register_at_fork"):
        _abandon_at_fork()
        _parents_own.add(owner)


def is_forked_child() -> bool:
    """Whether this process was forked from one in which there were such libraries."""
    return bool(_left_behind)


@functools.cache
def _abandon_at_fork() -> None:
    os.register_at_fork(after_in_child=_abandon)


def _abandon() -> None:
    """In a child: references to all owners that nobody drops, and an end of the process without static destructors."""
    owners = list(_parents_own)
    _left_behind.append(owners)
    for owner in owners:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))  # dropping _left_behind at the end is no end of them
    with contextlib.suppress(OSError, AttributeError, TypeError):  # glibc has both; what is set later runs earlier
        library = ctypes.CDLL(None)
        library.on_exit(library._exit, None)
        library["__cxa_atexit"](library.fflush, None, None)
