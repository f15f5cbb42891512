"""A bundle's self-test (:mod:`spm_rt.bundle.self_test`): recorded from the reference model, and
compared with the exported graphs."""

from __future__ import annotations

from typing import Any

import numpy as np

from spm_rt.backends.protocol import Backend
from spm_rt.bundle.self_test import MOST_PROPOSALS, OUTPUTS, SelfTest, observe, self_test_box, self_test_crop
from spm_rt.settings import TrackerSettings

from ..model.backend import ReferenceBackend
from ..model.network import SPMTracker
from .bounds import tolerance
from .compare import TensorCheck

BEST, SPREAD = 8, 8
"""Rows of search that are kept: those of the best scores, where the target is, and some from all over the map."""


def record_self_test(model: SPMTracker, precision: str, settings: TrackerSettings) -> SelfTest | None:
    """What the reference gives, with the tolerances of :mod:`spm_export.proof.bounds` for a bundle's precision.

    None for int8, whose grids fit pictures like those of its calibration and not a formula's, and for a model that
    gives no numbers, which the comparison of its graphs refuses.
    """
    if precision == "int8":
        return None
    context: Any = ReferenceBackend(model).context()
    context.crop[:] = self_test_crop(model.spec.crop_size)
    context.set_template(self_test_box())
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
    return SelfTest(positions, outputs, allowed)


def check_self_test(self_test: SelfTest, backend: Backend) -> list[TensorCheck]:
    """A bundle's own graphs on its self-test, one stage after the other: an engine that fails it differs from them."""
    found = observe(backend.context(), self_test.positions, self_test.proposals)
    checks = []
    for name, worst in self_test.differences(found).items():
        mean = float(np.abs(found[name].astype(np.float64) - self_test.outputs[name]).mean())
        stage, tensor = name.split(".")
        checks.append(TensorCheck("self_test", stage, tensor, "absolute", worst, mean, self_test.allowed[name]))
    return checks
