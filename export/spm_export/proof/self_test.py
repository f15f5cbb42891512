"""A bundle's canary (:mod:`spm_rt.bundle.self_test`): recorded from the reference model, and asked of the exported
graphs."""

from __future__ import annotations

from typing import Any

import numpy as np

from spm_rt.backends.protocol import Backend
from spm_rt.bundle.self_test import MOST_PROPOSALS, OUTPUTS, Canary, canary_box, canary_crop, observe
from spm_rt.settings import TrackerSettings

from ..model.backend import TorchBackend
from ..model.network import SPMTracker
from .compare import TensorCheck, tolerance

BEST, SPREAD = 8, 8
"""Rows of search that are kept: those of the best scores, where the target is, and some from all over the map."""


def record_canary(model: SPMTracker, precision: str, settings: TrackerSettings) -> Canary | None:
    """What the reference gives, with the tolerances of :mod:`spm_export.proof.compare` for a bundle's precision.

    None for int8, whose grids fit pictures like those of its calibration and not a formula's, and for a model that
    gives no numbers, which the comparison of its graphs refuses.
    """
    if precision == "int8":
        return None
    context: Any = TorchBackend(model).context()
    context.crop[:] = canary_crop(model.spec.crop_size)
    context.set_template(canary_box())
    scores = context.search()[0][0]
    best = np.argsort(-scores, kind="stable")[:BEST].tolist()
    positions = tuple(sorted({*best, *np.linspace(0, len(scores) - 1, SPREAD).astype(int).tolist()}))
    outputs = observe(context, positions, min(MOST_PROPOSALS, settings.num_candidates))
    if not all(np.isfinite(array).all() for array in outputs.values()):
        return None
    allowed = {}
    for name in OUTPUTS:
        stage, tensor = name.split(".")
        allowed[name] = tolerance(stage, tensor, precision)[1]
    return Canary(positions, outputs, allowed)


def check_canary(canary: Canary, backend: Backend) -> list[TensorCheck]:
    """A bundle's own graphs on its canary, one stage after the other: no GPU shall be blamed for what they do."""
    found = observe(backend.context(), canary.positions, canary.proposals)
    checks = []
    for name, worst in canary.differences(found).items():
        mean = float(np.abs(found[name].astype(np.float64) - canary.outputs[name]).mean())
        stage, tensor = name.split(".")
        checks.append(TensorCheck("canary", stage, tensor, "absolute", worst, mean, canary.allowed[name]))
    return checks
