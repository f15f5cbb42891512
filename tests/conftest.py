"""What all tests share, made once per session: weights, models, bundles, frames.

Folders and arrays given out here are shared. Copy before you change one.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# PyTorch's threads shall sleep while they wait: on a busy machine, those that spin take most of its time. This has to
# be said before PyTorch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Nothing depends on which library is faster today; what they compile is kept for the session, apart from the user's.
os.environ["SPM_RT_AUTO"] = "fixed"
os.environ["SPM_RT_CACHE"] = tempfile.mkdtemp(prefix="spm_rt_cache.")

import numpy as np
import pytest
from numpy.typing import NDArray

import spm_export.bundle as exporter
from spm_export.bundle import ExportOptions
from spm_export.calibration import Calibration, calibrate
from spm_export.cli import DEMO_BOX, DEMO_CLIP
from spm_export.model.checkpoint import load_model
from spm_export.model.network import SPMTracker
from spm_export.proof.compare import sample_inputs
from spm_rt import TrackerSettings
from spm_rt.media.video import frames
from spm_rt.results import Box

from .support.synthetic import write_checkpoint

Frames = list[NDArray[np.uint8]]

EXPORT_FRAMES = 6
"""Bundles made for tests are verified on this many frames of the clip, to be quick, ..."""
EXPORT_INPUTS = slice(1, 3)
"""... and on these inputs: one of noise, one of the clip."""


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["SPM_RT_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session")
def synthetic_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """cm_stage.pt and fm_stage.pt with synthetic weights (tests/support/synthetic.py)."""
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
def calibration(default_model: SPMTracker, clip: Frames, clip_box: Box) -> Calibration:
    """What int8 needs: the shipped weights on a few frames."""
    return calibrate(default_model, TrackerSettings(), [("clip", lambda: clip[:8], clip_box)])


def export_quickly(model: SPMTracker, folder: Path, options: ExportOptions, pictures: Frames, box: Box) -> Path:
    """A bundle that passed a verification on few inputs."""

    def few(*given: Any) -> Iterator[Any]:
        return itertools.islice(sample_inputs(*given), EXPORT_INPUTS.start, EXPORT_INPUTS.stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "sample_inputs", few)
        exporter.export_bundle(model, folder, options, pictures[:EXPORT_FRAMES], box, "clip")
    return folder


@pytest.fixture(scope="session")
def synthetic_bundle(
    tmp_path_factory: pytest.TempPathFactory, synthetic_model: SPMTracker, clip: Frames, clip_box: Box
) -> Path:
    """A verified bundle of the synthetic weights: opset 17, graphs for one target and for two."""
    options = ExportOptions(targets=(1, 2), source="synthetic weights")
    return export_quickly(synthetic_model, tmp_path_factory.mktemp("synthetic") / "bundle", options, clip, clip_box)


@pytest.fixture(scope="session")
def default_bundle(
    tmp_path_factory: pytest.TempPathFactory, default_model: SPMTracker, clip: Frames, clip_box: Box
) -> Path:
    """A verified bundle of the shipped weights: opset 17, graphs for one target."""
    options = ExportOptions(source="shipped weights")
    return export_quickly(default_model, tmp_path_factory.mktemp("default") / "bundle", options, clip, clip_box)
