"""The light model with weights without training: random ones whose layers keep their values in range."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spm_export.model.network import SPMTracker
from spm_rt.models import LIGHT
from spm_train.objective.network import match, update_statistics


def light_model(crop: NDArray[np.float32]) -> SPMTracker:
    """Random weights; running means and variances are those of ``crop`` ``[1, 3, 255, 255]``, moved about."""
    torch.manual_seed(9)
    model = SPMTracker(LIGHT).eval().requires_grad_(False)
    for name, layer in model.backbone.named_modules():
        if isinstance(layer, nn.Conv2d) and name.startswith(("stem", "blocks")):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if name.endswith("project") else "relu")
            nn.init.uniform_(layer.bias, -0.3, 0.3)
            if name == "stem":
                layer.weight /= 64
    rolled = torch.from_numpy(np.concatenate([np.roll(crop, 16 * k, axis=(2, 3)) for k in range(4)]))
    moved = match(model, rolled, rolled, torch.arange(4), momentum=1.0)
    update_statistics(model, moved.search, 1.0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.7, 1.4)
            nn.init.uniform_(layer.bias, -0.2, 0.6)
    for layer in (model.coarse.regress, model.fine.regress):  # boxes that are not far away from their anchors
        layer.weight /= 16
    for layer in (model.coarse.classify, model.fine.classify):
        layer.weight /= 2
    return model
