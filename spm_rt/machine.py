"""The machine that a process runs on: processor, cores, memory, threads."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import math
import os
import platform
import re
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")

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


def usable_cores(root: Path = Path("/")) -> int:
    """Cores' worth of time that this process may use: those it may run on, or fewer where a container's quota is less.

    Parts of a core count as one, as with the JVM, .NET and Go.

    Args:
        root: of the file system that is asked for the quota.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The CPU time per time that this process's control groups grant it, the smallest of a group and those around it.

    Version 1 and 2 of Linux's control groups are read. None where there is no quota, or none can be read.

    Args:
        root: of the file system.
    """
    quotas = []
    try:
        memberships = (root / "proc/self/cgroup").read_text(errors="surrogateescape").splitlines()
        mounts = (root / "proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    for membership in memberships:  # 4:cpu,cpuacct:/a/b of version 1, 0::/a/b of version 2
        _, controllers, group = [*membership.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        for top, mount in _mounts(mounts, "cpu" if controllers else ""):
            folder = root / mount.lstrip("/")
            inside = os.path.relpath(group, top)
            # A container may see its own group as the root of all, under whatever name it is known outside.
            parts = () if inside.startswith("..") else Path(inside).parts
            for depth in range(len(parts) + 1):
                quotas.append(_quota_of(folder.joinpath(*parts[:depth])))
    found = [quota for quota in quotas if quota is not None]
    return min(found, default=None)


def _mounts(mountinfo: list[str], controller: str) -> list[tuple[str, str]]:
    """Which group is mounted where: of a controller of version 1, or of version 2 (empty)."""
    found = []
    for line in mountinfo:  # 30 25 0:26 /group /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
        mount, _, system = line.partition(" - ")
        kind, _, options = [*system.split(" "), "", "", ""][:3]
        fields = mount.split(" ")
        wanted = kind == "cgroup" and controller in options.split(",") if controller else kind == "cgroup2"
        if wanted and len(fields) > 4:
            top, place = (re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), name) for name in fields[3:5])
            found.append((top, place))
    return found


def _quota_of(group: Path) -> float | None:
    """The quota of one group, by the files of whichever version it is."""
    texts = []
    with contextlib.suppress(OSError):
        texts = ((group / "cpu.max").read_text() + " 100000").split()[:2]
    with contextlib.suppress(OSError):
        texts = texts or [(group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")]
    try:
        quota = float(texts[0]) / float(texts[1])
    except (ValueError, IndexError, ZeroDivisionError):  # "max", or nothing of the kind
        return None
    return quota if 0 < quota < math.inf else None


def release_memory() -> None:
    """Give back to the system what the C library keeps of freed memory: over 100 MB after a compilation."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # there is such a call in glibc only
        ctypes.CDLL(None).malloc_trim(0)


def let_threads_sleep() -> None:
    """Has OpenMP's threads, PyTorch's on CPUs, sleep while they wait, unless ``OMP_WAIT_POLICY`` says otherwise.

    For commands of minutes, before PyTorch is imported. As it comes, they wait by computing nothing as fast as they
    can, and where other processes want the cores too, that takes most of the time.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def run_side_by_side(tasks: Sequence[Callable[[], Item]], threads: int) -> list[Item]:
    """What functions return that run at the same time, in threads of their own.

    Whatever is raised, by a task or by the handler of a signal, is raised once no task runs any more; those that have
    not begun are left out after a signal. A thread that comes back from a library's C++ code while the interpreter ends
    aborts the process (up to Python 3.13). Waiting in ``with ThreadPoolExecutor()`` is no protection: up to Python 3.12
    ``Thread.join`` takes a thread for ended whose end it was waiting for when a handler raised.

    Args:
        tasks: the functions.
        threads: the largest number of threads.
    """
    from concurrent.futures import ThreadPoolExecutor, wait

    pool = ThreadPoolExecutor(max(1, min(threads, len(tasks))))
    futures = [pool.submit(task) for task in tasks]
    stop: BaseException | None = None
    while True:
        try:
            wait(futures)
            pool.shutdown()
            break
        except BaseException as error:  # a signal's handler raised it, in this thread
            stop = stop or error
            for future in futures:
                future.cancel()
    if stop is not None:
        raise stop
    return [future.result() for future in futures]


def leave_to_parent(owner: object) -> None:
    """Let no forked child destroy what ``owner`` holds, directly or not: objects of libraries that have threads.

    A child has none of these threads, and their libraries wait for them for ever: in the destructors of such objects,
    and in those of their static variables when the process ends.
    """
    if hasattr(os, "register_at_fork"):
        _abandon_at_fork()
        _parents_own.add(owner)


class OneProcess:
    """Holds objects of libraries that have threads: a forked child neither destroys nor uses them."""

    def __init__(self) -> None:
        self._process = os.getpid()
        leave_to_parent(self)

    @property
    def elsewhere(self) -> bool:
        """Whether this is a child that was forked after the object was made."""
        return os.getpid() != self._process


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
