"""Commands killed at random moments leave nothing under a final name that is not whole, and nothing for long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from ..support.layers import ROOT

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the commands are started by fork"),
]


def killed(kind: str, runs: int, seed: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.support.processes.killed", kind, "--runs", str(runs), "--seed", str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert sum(report["ends"].values()) == runs
    return report


@pytest.mark.parametrize(("kind", "runs"), [("track", 8), ("export", 4)])
def test_what_a_killed_command_leaves_is_whole(kind: str, runs: int) -> None:
    assert killed(kind, runs, seed=1)["problems"] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["track", "export"])
def test_what_a_hundred_killed_commands_leave_is_whole(kind: str) -> None:
    report = killed(kind, 100, seed=2)
    assert report["problems"] == []
    assert {name.partition(" ")[0] for name in report["ends"]} == {"SIGINT", "SIGTERM", "SIGKILL"}
    assert report["ends"]["SIGINT 130"] > 10
    assert report["ends"]["SIGTERM 143"] > 10
