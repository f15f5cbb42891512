"""Whatever is fed to the commands: they end with a status that says how, and one line that says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ..support.layers import ROOT
from ..support.processes.mutated import KINDS

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the commands are started by fork"),
]


Report = dict[str, Any]


def reports(kinds: Iterable[str], runs: int, seed: int, bundle: Path) -> dict[str, Report]:
    words = [*kinds, "--runs", str(runs), "--seed", str(seed), "--bundle", str(bundle)]
    command = [sys.executable, "-m", "tests.support.processes.mutated", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=7200)
    assert done.stdout, done.stderr
    return {report["kind"]: report for report in map(json.loads, done.stdout.splitlines())}


def check(report: Report, runs: int) -> None:
    assert sum(report["statuses"].values()) == runs
    assert report["problems"] == []


@pytest.fixture(scope="module")
def a_few(default_bundle: Path) -> dict[str, Report]:
    """Twelve of each kind, by one process."""
    return reports(KINDS, 12, 1, default_bundle)


@pytest.mark.parametrize("kind", KINDS)
def test_commands_on_inputs_changed_at_random_end_as_they_should(kind: str, a_few: dict[str, Report]) -> None:
    check(a_few[kind], 12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_of_them(kind: str, default_bundle: Path) -> None:
    runs = -(-10_000 // len(KINDS))
    check(reports([kind], runs, 2, default_bundle)[kind], runs)
