"""Writing a bundle: graphs, shared weights, proof, manifest, whole or not at all. Format: docs/reference/bundle.md."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

import spm_rt
from spm_engines import libraries
from spm_rt.bundle import FORMAT, FORMAT_VERSION, MANIFEST, STAGES, Bundle
from spm_rt.bundle.forms import graph_file, graphs_of
from spm_rt.bundle.self_test import SelfTest
from spm_rt.errors import ExportError
from spm_rt.files import file_digest, folder_beside, seal_manifest
from spm_rt.precision import PRECISIONS
from spm_rt.results import Box
from spm_rt.settings import TrackerSettings, to_json

from .calibration import Calibration
from .graphs.files import WEIGHTS, save_graph, tensor_spans
from .graphs.forms import build_graph, bundle_weights
from .model.checkpoint import checkpoint_digest, expected_weights
from .model.network import SPMTracker
from .model.weights import graph_weights
from .place import check_place, put_in_place
from .proof.compare import SAMPLES
from .proof.self_test import record_self_test
from .proof.verification import Verification, verify

VERIFICATION = "verification.json"

MOST_RETURNED = 3
"""Layers of an int8 bundle that go back to float32, the most sensitive first, while it drifts too far."""

Step = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What is written.

    Attributes:
        settings: the tracker settings that the bundle carries.
        opset: of the standard operators.
        targets: numbers of targets to write graphs for; 1 is always among them.
        source: where the weights came from, in words, for the manifest.
        precision: of the tensors, ``float32``, ``float16`` or ``bfloat16`` (:mod:`spm_export.graphs.half`), or
        ``int8``:
            then search and relation compute in int8 (:mod:`spm_export.graphs.int8`), for CPUs in the ``fast`` forms,
            for TensorRT in the portable ones; the template, and search in its ``plain`` form, stay float32.
        calibration: what int8 needs, and nothing else does.
    """

    settings: TrackerSettings = dataclasses.field(default_factory=TrackerSettings)
    opset: int = 17
    targets: tuple[int, ...] = (1,)
    source: str = ""
    precision: str = "float32"
    calibration: Calibration | None = None

    @property
    def all_targets(self) -> tuple[int, ...]:
        """Numbers of targets that the bundle has graphs for, ascending."""
        return tuple(sorted({1, *self.targets}))

    def __post_init__(self) -> None:
        lowest = PRECISIONS[self.precision].lowest_opset
        if self.opset < lowest:
            raise ExportError(f"opset {self.opset}: {self.precision} graphs need operator set {lowest} or later")
        if (self.precision == "int8") != (self.calibration is not None):
            raise ExportError(f"precision {self.precision}: a calibration belongs to int8, and int8 needs one")


def export_bundle(
    model: SPMTracker,
    out: str | os.PathLike[str],
    options: ExportOptions,
    clip: Sequence[NDArray[np.uint8]],
    box: Box,
    clip_name: str,
    step: Step = lambda what: None,
) -> Verification:
    """Write a verified bundle.

    Everything happens in a folder beside ``out`` that takes its place only when all is written, read back and verified;
    a bundle that was there before stays until then.

    Args:
        model: the reference model with its weights.
        out: the bundle's folder. An older bundle is replaced, by its own manifest's list of files; where anything else
            is there, nothing is written (:func:`spm_export.place.check_place`).
        options: see there.
        clip: frames that the exported tracker is compared with the reference on.
        box: the target in the first of them, ``x, y, width, height``.
        clip_name: how the report names the clip.
        step: called with what has just been done.

    Raises:
        ExportError: the place is taken, the disk is full, or the graphs fail their tolerance.
    """
    target = Path(out).absolute()
    check_place(target)
    try:
        with folder_beside(target) as staging:
            self_test = record_self_test(model, options.precision, options.settings)
            for left in range(MOST_RETURNED, -1, -1):
                graphs = _write_graphs(model, staging, options, step)
                manifest = _manifest(model, options, graphs, self_test)
                _write_manifest(staging, manifest)
                verification = verify(model, Bundle.open(staging), clip, box, clip_name, step)
                if not (left and verification.only_drifts and options.calibration and options.calibration.plan.layers):
                    break
                options = dataclasses.replace(options, calibration=options.calibration.with_fewer_layers())
                for path in staging.iterdir():  # not written over: a library may have them mapped
                    path.unlink()
            if not verification.passed:
                raise ExportError(
                    "the exported graphs do not compute what the reference computes; nothing was written:\n"
                    + "\n".join(verification.failures())
                )
            (staging / VERIFICATION).write_text(json.dumps(verification.to_json(), indent=1) + "\n", encoding="utf-8")
            _write_manifest(staging, manifest)
            Bundle.open(staging)
            put_in_place(staging, target)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExportError(f"{target}: cannot be written ({reason}); nothing was changed") from error
    return verification


def _write_graphs(model: SPMTracker, folder: Path, options: ExportOptions, step: Step) -> dict[str, Any]:
    """All graph files and the weights they share; returns the manifest's table of them."""
    plan = options.calibration.plan if options.calibration else None
    weights = bundle_weights(graph_weights(model), options.precision, plan)
    save_file(weights, folder / WEIGHTS, metadata={"format": "spm_rt graph weights"})
    spans = tensor_spans(folder / WEIGHTS)
    step(WEIGHTS)
    table: dict[str, dict[str, dict[str, str]]] = {}
    for targets in options.all_targets:
        names = table[str(targets)] = {stage: {} for stage in STAGES}
        how: dict[str, Any] = {"opset": options.opset, "targets": targets, "precision": options.precision, "plan": plan}
        for stage, form in graphs_of(options.precision):
            names[stage][form] = graph_file(stage, form, targets)
            save_graph(build_graph(stage, form, model.spec, weights, **how), folder / names[stage][form], spans)
            step(names[stage][form])
    return table


def _manifest(
    model: SPMTracker, options: ExportOptions, graphs: dict[str, Any], self_test: SelfTest | None
) -> dict[str, Any]:
    """The manifest, but for the facts of files."""
    tools = ("torch", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "numpy", "safetensors")
    versions = {library.name: library.version for library in libraries() if library.version and library.name in tools}
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "precision": options.precision,
        "opset": options.opset,
        "model": to_json(model.spec),
        "tracker": to_json(options.settings),
        "graphs": graphs,
        "files": {},
        "checkpoint": {"sha256": checkpoint_digest(expected_weights(model)), "source": options.source},
        **({"self_test": self_test.to_json()} if self_test else {}),
        **({"quantization": options.calibration.to_json()} if options.calibration else {}),
        "tools": {"spm_rt": spm_rt.__version__, **versions},
    }


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Seal the manifest with the facts of all files beside it; those that it has already are as they were taken."""
    files = manifest["files"]
    for path in folder.iterdir():
        if path.name != MANIFEST and path.name not in files:
            files[path.name] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    (folder / MANIFEST).write_bytes(seal_manifest(manifest))
    for path in folder.iterdir():  # some writers keep their files private; the folder's rights are the umask's
        path.chmod(folder.stat().st_mode & 0o666)


def export_steps(options: ExportOptions, clip_length: int) -> int:
    """How many times ``step`` is called by :func:`export_bundle`."""
    runs = 2 if options.precision == "int8" else 1
    graphs = len(graphs_of(options.precision))
    return 1 + len(options.all_targets) * (graphs + SAMPLES) + runs * (clip_length - 1)
