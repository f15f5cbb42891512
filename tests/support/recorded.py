"""The recorded sets of tests/data/parity by name."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from spm_bench.recorded import reading
from spm_bench.recorded.reading import Arrays, RecordedSet
from spm_rt.settings import ModelSpec

FOLDER = Path(__file__).parents[1] / "data" / "parity"
SETS = ("noise", "shapes", "border", "border_small")
SPEC = ModelSpec()
MEAN = np.array(SPEC.pixel_mean_bgr, np.float32)[:, None, None]


def read_arrays(name: str) -> Arrays:
    return reading.read_arrays(FOLDER / f"{name}.npz")


@functools.cache
def read_set(name: str) -> RecordedSet:
    """Shared, as those of the fixtures: copy before you change it."""
    return reading.read_set(FOLDER / f"{name}.npz")
