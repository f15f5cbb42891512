"""Bundles of trained and of synthetic weights, verified in a short way or not at all."""

from __future__ import annotations

import functools
import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import spm_export.bundle as exporter
import spm_export.proof.verification as verification
from spm_export.bundle import ExportOptions
from spm_export.calibration import Calibration
from spm_export.graphs.files import WEIGHTS
from spm_export.model.network import SPMTracker
from spm_export.proof.compare import TrackCheck, check_tensors, sample_inputs
from spm_export.proof.verification import Verification
from spm_rt.bundle import MANIFEST
from spm_rt.precision import PRECISIONS
from spm_rt.results import Box

Frames = list[NDArray[np.uint8]]

EXPORT_FRAMES = 6
"""Bundles made for tests are verified on this many frames of the clip, to be quick, ..."""
EXPORT_INPUTS = slice(1, 3)
"""... and on these inputs: one of noise, one of the clip."""
TARGETS_OF = {"float32": (1, 4, 16), "float16": (1, 4, 16), "bfloat16": (1, 4, 16), "int8": (1, 4)}
"""The numbers of targets that :func:`export_typed` exports for, by precision."""
UNVERIFIED = Verification([], TrackCheck("none", 0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0))


def verify_quickly(patch: pytest.MonkeyPatch, inputs: slice = EXPORT_INPUTS, variants: Sequence[str] = ()) -> None:
    """Have bundles verified on some of the inputs, and only the graphs of these forms (by default all)."""

    def few_inputs(*arguments: Any) -> Iterator[Any]:
        return itertools.islice(sample_inputs(*arguments), inputs.start, inputs.stop)

    patch.setattr(verification, "sample_inputs", few_inputs)
    patch.setattr(verification, "check_tensors", functools.partial(check_tensors, variants=variants))


def alter_weight(patch: pytest.MonkeyPatch, name: str, by: float) -> None:
    """Have bundles written with a weight to which ``by`` was added."""
    original = exporter.graph_weights

    def altered(model: SPMTracker) -> Any:
        weights = original(model)
        return weights | {name: weights[name] + np.float32(by)}

    patch.setattr(exporter, "graph_weights", altered)


def export_quickly(
    model: SPMTracker, folder: Path, options: ExportOptions, pictures: Frames, box: Box, frames: int = EXPORT_FRAMES
) -> Path:
    """A bundle that passed a verification on few inputs and frames."""
    with pytest.MonkeyPatch.context() as patch:
        verify_quickly(patch)
        exporter.export_bundle(model, folder, options, pictures[:frames], box, "clip")
    return folder


def export_unverified(model: SPMTracker, folder: Path, options: ExportOptions) -> Path:
    """A bundle whose graphs nobody has compared with the reference, for tests that only compile or time them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "verify", lambda *_: UNVERIFIED)
        exporter.export_bundle(model, folder, options, [], (0.0, 0.0, 1.0, 1.0), "none")
    return folder


def copy_graphs(bundle: Path, folder: Path) -> dict[str, Any]:
    """Another bundle's graphs and weights in ``folder``, in a moment; returns the manifest's table of the graphs."""
    for path in bundle.glob("*.onnx"):
        shutil.copy(path, folder)
    shutil.copy(bundle / WEIGHTS, folder)
    table: dict[str, Any] = json.loads((bundle / MANIFEST).read_bytes())["graphs"]
    return table


def export_typed(model: SPMTracker, folder: Path, precision: str, calibration: Calibration | None) -> Path:
    """A bundle of a precision for all :data:`TARGETS_OF` it, not verified and without the reference's numbers."""
    opset, targets = PRECISIONS[precision].lowest_opset, TARGETS_OF[precision]
    options = ExportOptions(opset=opset, targets=targets, precision=precision, calibration=calibration)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "record_self_test", lambda *_: None)
        return export_unverified(model, folder, options)
