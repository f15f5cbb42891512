"""The machine that a process runs on: processor, cores, memory."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
from pathlib import Path


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
