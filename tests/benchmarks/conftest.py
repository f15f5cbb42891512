"""Measurements are kept small here: what they are made of is tested, not what they come to."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _small_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spm_bench.timing.gemm.SHAPES", ((96, 64, 80), (64, 64, 64)))
    for module in ("timing.verdict", "commands.sweep", "commands.targets"):
        monkeypatch.setattr(f"spm_bench.{module}.PARITY_FRAMES", 3)
