"""What both stages of the network give for a frame, drawn at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_rt.frame.fusion import AS_DETECTED
from spm_rt.frame.geometry import search_region, to_frame
from spm_rt.frame.steps import Proposals, TargetView
from spm_rt.settings import ModelSpec

Floats = NDArray[np.float32]


def boxes_like_a_frame(count: int, seed: int) -> tuple[Floats, Floats]:
    """Scores in clusters and boxes that overlap much, in crop pixels."""
    rng = np.random.default_rng(seed)
    center = rng.uniform(60, 210, (count, 2)) if seed % 3 else rng.normal(135, 15, (count, 2))
    size = rng.uniform(30, 120, (count, 2))
    boxes = np.concatenate([center - size / 2, center + size / 2], axis=1).astype(np.float32)
    scores = rng.uniform(0, 1, count) ** 4
    if seed % 2:  # many equal scores, as in a crop that is mostly padding
        scores = np.round(scores * 8) / 8
    return scores.astype(np.float32), boxes


def both_stages(count: int, seed: int) -> tuple[Proposals, tuple[Floats, Floats], TargetView]:
    """Proposals, the fine stage's scores and boxes, and where it was looked, as of a frame of 640 x 480."""
    rng = np.random.default_rng(seed)
    scores, crop_boxes = boxes_like_a_frame(count, seed)
    center, size = rng.uniform(-20, 500, 2), rng.uniform(4, 300, 2)
    last = np.concatenate([center - size / 2, center + size / 2])
    region = search_region(last, ModelSpec())
    fine_boxes = (crop_boxes + rng.normal(0, 4, crop_boxes.shape)).astype(np.float32)
    fine_scores = np.round(rng.uniform(0, 1, count) * (8 if seed % 2 else 1e6)) / (8 if seed % 2 else 1e6)
    proposals = Proposals(crop_boxes, to_frame(crop_boxes, region), scores)
    extent = (1.21, 0.83, 0.07, -0.11) if seed % 3 else AS_DETECTED
    return proposals, (fine_scores.astype(np.float32), fine_boxes), TargetView(last, region, (480, 640), extent)
