"""What all tests share, made once per session: weights, models, bundles, frames.

Folders and arrays given out here are shared. Copy before you change one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from spm_export.bundle import ExportOptions, export_bundle
from spm_export.checkpoint import load_model
from spm_export.cli import DEMO_BOX, DEMO_CLIP
from spm_export.model import SPMTracker
from spm_rt.tracker import Box
from spm_rt.video import frames

from .synthetic import write_checkpoint

Frames = list[NDArray[np.uint8]]

EXPORT_FRAMES = 6
"""Bundles made for tests are verified on this many frames of the clip, to be quick."""


@pytest.fixture(scope="session")
def synthetic_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """cm_stage.pt and fm_stage.pt with synthetic weights (tests/synthetic.py)."""
    return write_checkpoint(tmp_path_factory.mktemp("synthetic_checkpoint"))


@pytest.fixture(scope="session")
def synthetic_model(synthetic_checkpoint: tuple[Path, Path]) -> SPMTracker:
    """The reference model with synthetic weights."""
    return load_model(synthetic_checkpoint)


@pytest.fixture(scope="session")
def default_model() -> SPMTracker:
    """The reference model with the shipped weights."""
    return load_model()


@pytest.fixture(scope="session")
def clip() -> Frames:
    """All frames of the shipped clip, read-only."""
    pictures = list(frames(DEMO_CLIP))
    for picture in pictures:
        picture.flags.writeable = False
    return pictures


@pytest.fixture(scope="session")
def clip_box() -> Box:
    """The target in the clip's first frame, x, y, width, height."""
    return DEMO_BOX


@pytest.fixture(scope="session")
def synthetic_bundle(
    tmp_path_factory: pytest.TempPathFactory, synthetic_model: SPMTracker, clip: Frames, clip_box: Box
) -> Path:
    """A verified bundle of the synthetic weights: opset 17, graphs for one target and for two."""
    folder = tmp_path_factory.mktemp("synthetic") / "bundle"
    options = ExportOptions(targets=(1, 2), source="synthetic weights")
    export_bundle(synthetic_model, folder, options, clip[:EXPORT_FRAMES], clip_box, "clip")
    return folder


@pytest.fixture(scope="session")
def default_bundle(
    tmp_path_factory: pytest.TempPathFactory, default_model: SPMTracker, clip: Frames, clip_box: Box
) -> Path:
    """A verified bundle of the shipped weights: opset 17, graphs for one target."""
    folder = tmp_path_factory.mktemp("default") / "bundle"
    options = ExportOptions(source="shipped weights")
    export_bundle(default_model, folder, options, clip[:EXPORT_FRAMES], clip_box, "clip")
    return folder
