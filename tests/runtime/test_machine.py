"""Cores and containers: what a control group grants counts, whichever version it is of and wherever it is mounted.
Threads: a signal ends the wait for them once they have ended.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from spm_rt.machine import cpu_quota, let_threads_sleep, run_side_by_side, usable_cores
from spm_rt.terminal import Stopped, stop_signals

V2 = "30 23 0:26 {top} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {top} /sys/fs/cgroup/{name} rw,relatime - cgroup cgroup rw,{name}"
BOTH = f"{V1.format(top='/', name='cpu')}\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
ROOT = V2.format(top="/")
Files = dict[str, str]


def quota_files(folder: str, quota: object, period: int = 100_000) -> Files:
    """Those of version 1."""
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


CASES: dict[str, tuple[str, str, Files, float | None]] = {
    "version 2": ("0::/", ROOT, {"cpu.max": "100000 100000\n"}, 1.0),
    "no quota": ("0::/", ROOT, {"cpu.max": "max 100000\n"}, None),
    "no period": ("0::/", ROOT, {"cpu.max": "250000\n"}, 2.5),
    "another period": ("0::/", ROOT, {"cpu.max": "75000 50000\n"}, 1.5),
    "a nested group": ("0::/a/b", ROOT, {"a/b/cpu.max": "150000 100000"}, 1.5),
    "the group around is smaller": (
        "0::/a/b",
        ROOT,
        {"a/cpu.max": "50000 100000", "a/b/cpu.max": "200000 100000"},
        0.5,
    ),
    "the group around has none": ("0::/a/b", ROOT, {"a/cpu.max": "max 100000", "a/b/cpu.max": "200000 100000"}, 2.0),
    "another's group": ("0::/a/b", ROOT, {"a/c/cpu.max": "50000 100000"}, None),
    "mounted from a group": (
        "0::/pod/me",
        V2.format(top="/pod"),
        {"cpu.max": "max", "me/cpu.max": "300000 100000"},
        3.0,
    ),
    "known by another name outside": ("0::/docker/1", V2.format(top="/docker/1"), {"cpu.max": "120000 100000"}, 1.2),
    "a namespace": ("0::/../..", ROOT, {"cpu.max": "100000 100000"}, 1.0),
    "a name with a space": ("0::/a b", V2.format(top=r"/a\040b"), {"cpu.max": "100000 100000"}, 1.0),
    "version 1": ("4:cpu:/", V1.format(top="/", name="cpu"), quota_files("cpu", 150_000), 1.5),
    "version 1 without a quota": ("4:cpu:/", V1.format(top="/", name="cpu"), quota_files("cpu", -1), None),
    "version 1, two controllers, nested": (
        *("9:pids:/x\n4:cpu,cpuacct:/docker/1", V1.format(top="/docker/1", name="cpu,cpuacct")),
        *(quota_files("cpu,cpuacct", 20_000, 10_000), 2.0),
    ),
    "version 1 beside 2": ("4:cpu:/a\n3:cpuacct:/\n0::/", BOTH, quota_files("cpu/a", 100_000), 1.0),
    "a controller of another name": (
        "4:cpuacct:/",
        V1.format(top="/", name="cpuacct"),
        quota_files("cpuacct", 1),
        None,
    ),
    "no number": ("0::/", ROOT, {"cpu.max": "many 100000"}, None),
    "nothing": ("0::/", ROOT, {"cpu.max": ""}, None),
    "a period of none": ("0::/", ROOT, {"cpu.max": "100000 0"}, None),
    "not finite": ("0::/", ROOT, {"cpu.max": "nan inf"}, None),
    "lines of another kind": ("0\n\nnothing", "a line\n - \n", {}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_the_quota_of_a_container_is_read(case: str, tmp_path: Path) -> None:
    groups, mounts, files, wanted = CASES[case]
    write(
        tmp_path, {"proc/self/cgroup": groups, "proc/self/mountinfo": f"23 1 0:5 / / rw - ext4 /dev/vda rw\n{mounts}"}
    )
    write(tmp_path / "sys/fs/cgroup", files)
    assert cpu_quota(tmp_path) == wanted


def write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def test_where_there_is_no_such_thing_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(("quota", "cores"), [("10000", 1), ("100000", 1), ("100001", 2), ("250000", 3), ("max", 8)])
def test_parts_of_a_core_count_as_one(quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"proc/self/cgroup": "0::/", "proc/self/mountinfo": ROOT})
    write(tmp_path, {"sys/fs/cgroup/cpu.max": f"{quota} 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_cores(tmp_path) == cores


def test_a_quota_does_not_make_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"proc/self/cgroup": "0::/", "proc/self/mountinfo": ROOT})
    write(tmp_path, {"sys/fs/cgroup/cpu.max": "6400000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert usable_cores(tmp_path) == 1


def test_functions_run_at_the_same_time_and_results_keep_their_order() -> None:
    together = threading.Barrier(2, timeout=20)
    assert run_side_by_side([lambda: together.wait() * 0 + 1, lambda: together.wait() * 0 + 2], 2) == [1, 2]
    assert run_side_by_side([lambda: 1, lambda: 2, lambda: 3], 1) == [1, 2, 3]
    assert run_side_by_side([], 2) == []
    with pytest.raises(ZeroDivisionError):
        run_side_by_side([lambda: 1, lambda: 1 // 0], 2)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signals")
@pytest.mark.parametrize("times", [1, 2])
def test_what_a_signal_raises_waits_for_functions_that_run_and_begins_no_other(times: int) -> None:
    """A thread that was left in a library's C++ code would abort the process when that ends."""
    begun, ended = [], []

    def work() -> None:
        begun.append(0)
        for _ in range(times):
            time.sleep(0.1)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        time.sleep(0.1)
        ended.append(0)

    def raise_stopped(number: int, frame: object) -> None:
        raise Stopped(number)

    with stop_signals(raise_stopped), pytest.raises(Stopped):
        run_side_by_side([work, *[lambda: begun.append(1)] * 3], 1)
    assert (begun, ended) == ([0], [0])


@pytest.mark.parametrize(("said", "then"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_sleep_unless_the_environment_says_otherwise(
    said: str | None, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", said or "")
    if said is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == then
