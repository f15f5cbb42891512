"""Twenty thousand frames, and no more memory than early on. By hand: pytest -m slow
tests/runtime/trackers/test_soak.py"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spm_rt import MultiTracker, Tracker
from spm_rt.backends import ON_CPU, available
from spm_rt.results import Box

from ...support.follow import Frames

FRAMES = int(os.environ.get("SPM_SOAK_FRAMES", "20000"))
WARM = 1000
ALLOWED_MB = 4.0


def resident_mb() -> float:
    """Resident memory of this process without files that are mapped into it."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("this system does not tell a process's resident memory")
    found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text())
    assert found
    return int(found[1]) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("backend", ON_CPU)
def test_memory_does_not_grow(backend: str, targets: int, synthetic_bundle: Path, clip: Frames, clip_box: Box) -> None:
    if backend not in available():
        pytest.skip(f"{backend} is not installed")
    tracker: Any = (MultiTracker if targets > 1 else Tracker).load(synthetic_bundle, backend)

    def start(frame: NDArray[np.uint8]) -> None:
        if targets == 1:
            tracker.init(frame, clip_box)
            return
        for id in tracker.ids:
            tracker.remove(id)
        for _ in range(targets):
            tracker.add(frame, clip_box)

    height, width = clip[0].shape[:2]
    rng = np.random.default_rng(0)
    before = float("nan")
    for number in range(FRAMES):
        frame = clip[number % len(clip)]
        # Now and then a new template, and a place on the frame's rim: other numbers of proposals, the mean colour.
        place = (*(float(v) for v in rng.uniform(-20, (width - 20, height - 20))), *clip_box[2:])
        if number % 500 == 0:
            start(frame)
        elif number % 7 == 0:
            tracker.move_to(*([] if targets == 1 else tracker.ids[-1:]), place)
        tracker.update(frame, candidates=number % 3 == 0)
        if number == min(WARM, FRAMES // 4):
            before = resident_mb()
    assert resident_mb() - before < ALLOWED_MB
