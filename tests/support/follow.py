"""A tracker run over a clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_export.cli import DEMO_BOX
from spm_rt import TrackResult
from spm_rt.results import Box

Frames = list[NDArray[np.uint8]]


def follow(tracker: Any, frames: Sequence[Any], box: Box = DEMO_BOX) -> NDArray[np.float64]:
    """Started on the first frame: box, score, coarse and fine score of every other one, ``[frames - 1, 7]``."""
    results = results_on(tracker, frames, box)
    return np.array([(*r.box, r.score, r.coarse_score, r.fine_score) for r in results])


def results_on(
    tracker: Any, frames: Sequence[Any], box: Box = DEMO_BOX, before: Callable[[], object] = list, **options: Any
) -> list[TrackResult]:
    """Started on the first frame: the results on every other one; ``before`` is called before each of these."""
    tracker.init(frames[0], box)
    results = []
    for frame in frames[1:]:
        before()
        results.append(tracker.update(frame, **options))
    return results
