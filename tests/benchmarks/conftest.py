"""Measurements are kept small here: what they are made of is tested, not what they come to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

SMALL = {
    "timing.gemm.SHAPES": ((96, 64, 80), (64, 64, 64)),
    "timing.turns.UNCOUNTED": 1,
    "timing.turns.WARM_UP": 1,
    **{f"{module}.PARITY_FRAMES": 3 for module in ("timing.verdict", "commands.sweep", "commands.targets")},
}


@pytest.fixture(autouse=True, scope="module")
def _small_measurements() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(f"spm_bench.{name}", value)
        yield
