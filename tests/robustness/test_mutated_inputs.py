"""Whatever is fed to the commands: they end with a status that says how, and one line that says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.layers import ROOT
from ..support.processes.mutated import KINDS

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the commands are started by fork"),
]


def check(kind: str, runs: int, seed: int, bundle: Path) -> None:
    words = [kind, "--runs", str(runs), "--seed", str(seed), "--bundle", str(bundle)]
    command = [sys.executable, "-m", "tests.support.processes.mutated", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=7200)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert sum(report["statuses"].values()) == runs
    assert report["problems"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_commands_on_inputs_changed_at_random_end_as_they_should(kind: str, default_bundle: Path) -> None:
    check(kind, 12, 1, default_bundle)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_of_them(kind: str, default_bundle: Path) -> None:
    check(kind, -(-10_000 // len(KINDS)), 2, default_bundle)
