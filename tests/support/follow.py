"""A tracker run over a clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_rt.results import Box


def follow(tracker: Any, frames: Sequence[Any], box: Box) -> NDArray[np.float64]:
    """Started on the first frame: box, score, coarse and fine score of every other one, ``[frames - 1, 7]``."""
    tracker.init(frames[0], box)
    results = [tracker.update(frame) for frame in frames[1:]]
    return np.array([(*r.box, r.score, r.coarse_score, r.fine_score) for r in results])
