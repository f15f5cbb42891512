"""Bundles of trained and of synthetic weights, verified in a short way or not at all."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import spm_export.bundle as exporter
import spm_export.proof.verification as verification
from spm_export.bundle import ExportOptions
from spm_export.calibration import Calibration
from spm_export.graphs.files import WEIGHTS
from spm_export.model.network import SPMTracker
from spm_export.model.weights import graph_weights
from spm_export.proof.compare import TrackCheck, check_tensors, sample_inputs
from spm_export.proof.self_test import record_self_test
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


_computed: WeakKeyDictionary[SPMTracker, dict[Any, Any]] = WeakKeyDictionary()
MOST_COMPUTED = 40
"""Results that are kept of a model, of which features take some 4 MB each."""


def _once_per_model(compute: Callable[..., Any]) -> Callable[..., Any]:
    """The same function; computed anew only where the model, one of its tensors or another argument is another."""

    def of(model: SPMTracker, *rest: Any) -> Any:
        state = tuple((value.data_ptr(), value._version) for value in model.state_dict().values())
        given = tuple((one.shape, one.numpy().tobytes()) if isinstance(one, torch.Tensor) else one for one in rest)
        known, key = _computed.setdefault(model, {}), (compute, state, given)
        known[key] = known.pop(key) if key in known else compute(model, *rest)
        if len(known) > MOST_COMPUTED:
            del known[next(iter(known))]
        return copy.copy(known[key])

    return of


_ONCE = {
    (exporter, "graph_weights"): _once_per_model(graph_weights),
    (exporter, "record_self_test"): _once_per_model(record_self_test),
    (SPMTracker, "features"): _once_per_model(SPMTracker.features),
}


def compute_once(patch: pytest.MonkeyPatch) -> None:
    """Have what the reference model gives for exports and their verification computed by the first that needs it."""
    for (place, name), compute in _ONCE.items():
        patch.setattr(place, name, compute)


def verify_quickly(patch: pytest.MonkeyPatch, inputs: slice = EXPORT_INPUTS, variants: Sequence[str] = ()) -> None:
    """Have bundles verified on some of the inputs, and only the graphs of these forms (by default all)."""

    def few_inputs(*arguments: Any) -> Iterator[Any]:
        return itertools.islice(sample_inputs(*arguments), inputs.start, inputs.stop)

    compute_once(patch)
    patch.setattr(verification, "sample_inputs", few_inputs)
    patch.setattr(verification, "check_tensors", functools.partial(check_tensors, variants=variants))


def alter_weight(patch: pytest.MonkeyPatch, name: str, by: float) -> None:
    """Have bundles written with a weight to which ``by`` was added (after :func:`verify_quickly`)."""
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


def export_unverified(model: SPMTracker, folder: Path, options: ExportOptions, self_test: bool = True) -> Path:
    """A bundle whose graphs nobody has compared with the reference, for tests that only compile or time them."""
    with pytest.MonkeyPatch.context() as patch:
        compute_once(patch)
        if not self_test:
            patch.setattr(exporter, "record_self_test", lambda *_: None)
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
    return export_unverified(model, folder, options, self_test=False)
