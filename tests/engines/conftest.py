"""Bundles of all precisions for 1, 4 and 16 targets (int8: 1 and 4): not verified, since they are only compiled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import spm_export.bundle as exporter
from spm_export.bundle import ExportOptions, Verification, export_bundle
from spm_export.model.network import SPMTracker
from spm_export.proof.compare import TrackCheck
from spm_rt import Bundle
from spm_rt.precision import PRECISIONS

TARGETS = (1, 4, 16)
TARGETS_OF = {"float32": TARGETS, "float16": TARGETS, "bfloat16": TARGETS, "int8": (1, 4)}
UNVERIFIED = Verification([], TrackCheck("none", 0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0))


@pytest.fixture(scope="session")
def typed_bundle(
    tmp_path_factory: pytest.TempPathFactory, default_model: SPMTracker, request: pytest.FixtureRequest
) -> Callable[[str], Bundle]:
    """A bundle by precision, made when it is first asked for."""
    made: dict[str, Bundle] = {}

    def give(precision: str) -> Bundle:
        if precision not in made:
            folder = tmp_path_factory.mktemp("typed") / precision
            options = ExportOptions(
                opset=PRECISIONS[precision].lowest_opset,
                targets=TARGETS_OF[precision],
                precision=precision,
                calibration=request.getfixturevalue("calibration") if precision == "int8" else None,
            )
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(exporter, "_verify", lambda *_: UNVERIFIED)
                frames: list[NDArray[np.uint8]] = []
                export_bundle(default_model, folder, options, frames, (0.0, 0.0, 1.0, 1.0), "none")
            made[precision] = Bundle.open(folder)
        return made[precision]

    return give
