"""Regions of feature maps: boxes that reach every corner case of the RoI operator, and the reference for them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from spm_export.model.network import SPMTracker, crop_and_resize
from spm_rt.settings import ModelSpec

SPEC = ModelSpec()
Floats = NDArray[np.float32]

ROI_BOXES = {
    "inside": (40.5, 33.2, 130.7, 150.1),
    "whole map": (0, 0, 264, 264),
    "ends on the last cell": (120, 120, 264, 264),
    "ends just past the last cell": (120, 120, 264.01, 264.01),
    "beyond the last cell": (200, 200, 270, 270),
    "starts before the first": (-30, -12, 100, 80),
    "across everything": (-100, -100, 400, 400),
    "outside left": (-200, 50, -100, 90),
    "outside below": (50, 270, 90, 400),
    "empty": (64, 64, 64, 64),
    "empty between cells": (66.1, 61.7, 66.1, 61.7),
    "inverted": (130, 150, 40, 30),
    "no width": (80, 10, 80, 200),
    "tiny": (100.01, 100.02, 100.05, 100.04),
    "far away": (1e6, 1e6, 2e6, 2e6),
    "a corner only": (-66.0, -66.0, 0.0, 0.0),
}


def roi_in_reference(model: SPMTracker, deep: Floats, shallow: Floats, boxes: Floats) -> Floats:
    """The reference model's normalised features in boxes of each target, ``[T * K, 640, 6, 6]``."""
    with torch.inference_mode():
        maps = [model.fine.norm_deep(torch.from_numpy(deep)), model.fine.norm_shallow(torch.from_numpy(shallow))]
        cells = torch.from_numpy(boxes) / SPEC.stride
        features = torch.cat([crop_and_resize(m, cells, SPEC.roi_cells) for m in maps], dim=2)
    return features.flatten(0, 1).numpy()
