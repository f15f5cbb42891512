"""Bundles of all precisions for 1, 4 and 16 targets (int8: 1 and 4): not verified, since they are only compiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spm_rt import Bundle

from ..support.once import MadeOnce

if TYPE_CHECKING:
    from spm_export.model.network import SPMTracker


@pytest.fixture(scope="session")
def typed_bundle(
    made_once: MadeOnce, default_model: SPMTracker, request: pytest.FixtureRequest
) -> Callable[[str], Bundle]:
    """A bundle by precision, made when it is first asked for."""
    from ..support.exports import export_typed

    def bundle_of(precision: str) -> Bundle:
        def export(folder: Path) -> None:
            calibration = request.getfixturevalue("calibration") if precision == "int8" else None
            export_typed(default_model, folder, precision, calibration)

        return Bundle.open(made_once(f"{precision}_bundle", export))

    return bundle_of
