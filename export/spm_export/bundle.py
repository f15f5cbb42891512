"""Writing a bundle: graphs, shared weights, proof, manifest, whole or not at all. Format: docs/reference/bundle.md."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import CheckerPass, InlinePass, NameFixPass, ShapeInferencePass
from safetensors import SafetensorError
from safetensors.numpy import save_file

import spm_rt
from spm_engines import libraries
from spm_rt.bundle import FORMAT, FORMAT_VERSION, MANIFEST, STAGES, Bundle
from spm_rt.bundle.self_test import Canary
from spm_rt.errors import ExportError
from spm_rt.files import file_digest, seal_manifest
from spm_rt.precision import PRECISIONS
from spm_rt.results import Box
from spm_rt.settings import TrackerSettings, to_json
from spm_rt.trackers.single import Tracker

from .calibration import Calibration
from .graphs.builder import DOMAIN, GraphBuilder
from .graphs.fast import FAST_BUILDERS, fast_weights
from .graphs.half import retype, typed_weights
from .graphs.int8 import NOTHING, QUANTIZED_BUILDERS, SignedBuilder, build_quantized_search, quantized_weights
from .graphs.portable import BUILDERS, GraphOptions, Maker
from .model.checkpoint import checkpoint_digest, expected_weights
from .model.network import SPMTracker
from .model.weights import graph_weights
from .proof.compare import SAMPLES, TRACK_BOUNDS, TensorCheck, TrackCheck, check_tensors, check_tracks, sample_inputs
from .proof.runners import RUNNERS, RunnerBackend
from .proof.self_test import check_canary, record_canary

WEIGHTS = "weights.safetensors"
VERIFICATION = "verification.json"
_INLINE_BYTES = 1024
"""Tensors up to this size stay inside the graph files."""

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

    def __post_init__(self) -> None:
        lowest = PRECISIONS[self.precision].lowest_opset
        if self.opset < lowest:
            raise ExportError(f"opset {self.opset}: {self.precision} graphs need operator set {lowest} or later")
        if (self.precision == "int8") != (self.calibration is not None):
            raise ExportError(f"precision {self.precision}: a calibration belongs to int8, and int8 needs one")


@dataclasses.dataclass(frozen=True)
class Verification:
    """What the exporter found out about a bundle before it let it go.

    Attributes:
        tensors: every output of every graph.
        track: with the graphs that most will use: those for CPUs, if the bundle has any.
        runner: what computed them, in words.
        portable_track: the same with the portable graphs, where int8 is said in two ways.
    """

    tensors: list[TensorCheck]
    track: TrackCheck
    runner: str = RUNNERS["float32"]
    portable_track: TrackCheck | None = None

    @property
    def tracks(self) -> dict[str, TrackCheck]:
        return {"track": self.track, **({"portable_track": self.portable_track} if self.portable_track else {})}

    @property
    def passed(self) -> bool:
        return all(track.passed for track in self.tracks.values()) and all(check.passed for check in self.tensors)

    def to_json(self) -> dict[str, Any]:
        tensors = [{**dataclasses.asdict(check), "passed": check.passed} for check in self.tensors]
        tracks = {name: {**dataclasses.asdict(one), "passed": one.passed} for name, one in self.tracks.items()}
        return {"passed": self.passed, "runner": self.runner, "tensors": tensors, **tracks}


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
        out: the bundle's folder. An existing bundle is replaced; anything else is left alone.
        options: see there.
        clip: frames that the exported tracker is compared with the reference on.
        box: the target in the first of them, ``x, y, width, height``.
        clip_name: how the report names the clip.
        step: called with what has just been done.

    Raises:
        ExportError: the place is taken, the disk is full, or the graphs fail their tolerance.
    """
    target = Path(out)
    _check_place(target)
    staging: Path | None = None
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.absolute().parent))
        graphs = _write_graphs(model, staging, options, step)
        canary = record_canary(model, options.precision, options.settings)
        _write_manifest(model, staging, options, graphs, canary)
        verification = _verify(model, staging, options, clip, box, clip_name, step)
        if not verification.passed:
            raise ExportError(
                "the exported graphs do not compute what the reference computes; nothing was written:\n"
                + "\n".join(_failures(verification))
            )
        (staging / VERIFICATION).write_text(json.dumps(verification.to_json(), indent=1) + "\n", encoding="utf-8")
        _write_manifest(model, staging, options, graphs, canary)
        Bundle.open(staging)
        staging.chmod(0o755)
        _put_in_place(staging, target)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExportError(f"{target}: cannot be written ({reason}); nothing was changed") from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return verification


def _check_place(target: Path) -> None:
    if target.exists():
        is_bundle = target.is_dir() and ((target / MANIFEST).is_file() or not any(target.iterdir()))
        if not is_bundle:
            raise ExportError(f"{target} exists and is no bundle; it is left alone, choose another --out")
    if not target.absolute().parent.is_dir():
        raise ExportError(f"{target.absolute().parent}: no such folder")


def _put_in_place(staging: Path, target: Path) -> None:
    """Rename, with the old bundle set aside until the new one stands."""
    if not target.exists():
        staging.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.absolute().parent))
    target.rename(aside / target.name)
    try:
        staging.rename(target)
    except OSError:
        (aside / target.name).rename(target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_graphs(model: SPMTracker, folder: Path, options: ExportOptions, step: Step) -> dict[str, Any]:
    """All graph files and the weights they share; returns the manifest's table of them."""
    typed = options.precision in ("float16", "bfloat16")
    arrays = typed_weights(graph_weights(model), options.precision) if typed else fast_weights(graph_weights(model))
    plan = options.calibration.plan if options.calibration else None
    if plan:
        arrays = quantized_weights(arrays, plan)
    save_file(arrays, folder / WEIGHTS, metadata={"format": "spm_rt graph weights"})
    places = _tensor_places(folder / WEIGHTS)
    step(WEIGHTS)
    table: dict[str, Any] = {}
    for targets in sorted({1, *options.targets}):
        suffix = "" if targets == 1 else f"_t{targets}"
        table[str(targets)] = {}
        for stage in STAGES:
            graph_options = GraphOptions(options.opset, targets)
            # What is computed once per target is not rounded: it decides about every frame that follows.
            rounded = None if stage == "template" else plan
            make: Maker = functools.partial(SignedBuilder, plan=rounded) if rounded else GraphBuilder
            portable = BUILDERS[stage](model.spec, arrays, graph_options, make)
            if typed:
                portable = retype(portable, options.precision)
            flat = ir.serde.from_proto(ir.serde.to_proto(portable))
            InlinePass()(flat)
            flat.functions.clear()
            flat.graph.opset_imports.pop(DOMAIN, None)
            made = {"portable": (f"{stage}{suffix}.onnx", portable), "flat": (f"{stage}{suffix}_flat.onnx", flat)}
            if stage != "relation" and not typed:
                expanded = BUILDERS[stage](model.spec, arrays, GraphOptions(options.opset, targets, "expanded"), make)
                made["expanded"] = (f"{stage}{suffix}_expanded.onnx", expanded)
            if stage == "search" and not typed:
                plain = build_quantized_search(model.spec, arrays, graph_options, NOTHING, "plain")
                made["plain"] = (f"{stage}{suffix}_plain.onnx", plain)
            for variant, lrn in () if typed else (("fast", "operator"), ("fast_expanded", "expanded")):
                form = GraphOptions(options.opset, targets, lrn)
                if rounded:
                    fast = QUANTIZED_BUILDERS[stage](model.spec, arrays, form, rounded, variant)
                elif stage == "search" or (stage, variant) == ("relation", "fast"):
                    fast = FAST_BUILDERS[stage](model.spec, arrays, form)
                else:
                    continue
                made[variant] = (f"{stage}{suffix}_{variant}.onnx", fast)
            for name, graph in made.values():
                _save_graph(graph, folder / name, places)
            table[str(targets)][stage] = {variant: name for variant, (name, _) in made.items()}
            names = table[str(targets)][stage]
            step(made["portable"][0])
            if typed:
                continue
            # Where a graph has no such form, another one serves: the relation has no LRN, the template runs once.
            names.setdefault("expanded", names["portable"])
            names.setdefault("fast", names["flat"])
            names.setdefault("plain", names["fast"])
            names.setdefault("fast_expanded", names["fast"] if stage == "relation" else names["expanded"])
    return table


def _tensor_places(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and length of each tensor in a safetensors file (8 bytes of length, a JSON header, the data)."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    return {
        name: (8 + length + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _save_graph(model: ir.Model, path: Path, places: dict[str, tuple[int, int]]) -> None:
    """Name and infer everything, move the large tensors' bytes to the shared file, check, and write."""
    NameFixPass()(model)
    for function in model.functions.values():
        _rename_inside(function)
    ShapeInferencePass(check_type=True, strict_mode=True, data_prop=True)(model)
    CheckerPass(full_check=True)(model)
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        assert tensor is not None
        if tensor.nbytes > _INLINE_BYTES:
            offset, length = places[name]
            assert length == tensor.nbytes
            shape = ir.Shape(tensor.shape.numpy())
            value.const_value = ir.ExternalTensor(
                WEIGHTS, offset, length, tensor.dtype, shape=shape, name=name, base_dir=path.parent
            )
    ir.save(model, path)
    onnx.checker.check_model(str(path))


def _rename_inside(function: ir.Function) -> None:
    """Give a function's values and nodes names that the graph around it does not use.

    ONNX lets each have names of its own, but TensorRT's parser takes values of the same name for one another: a
    constant of the body then stands in for one of the graph.
    """
    for value in (*function.inputs, *(value for node in function for value in node.outputs)):
        value.name = f"{function.name}_{value.name}"
    for node in function:
        node.name = f"{function.name}_{node.name}"


def _write_manifest(
    model: SPMTracker, folder: Path, options: ExportOptions, graphs: dict[str, Any], canary: Canary | None
) -> None:
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    tools = ("torch", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "numpy", "safetensors")
    versions = {library.name: library.version for library in libraries() if library.version and library.name in tools}
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "precision": options.precision,
        "opset": options.opset,
        "model": to_json(model.spec),
        "tracker": to_json(options.settings),
        "graphs": graphs,
        "files": files,
        "checkpoint": {"sha256": checkpoint_digest(expected_weights(model)), "source": options.source},
        **({"canary": canary.to_json()} if canary else {}),
        **({"quantization": options.calibration.to_json()} if options.calibration else {}),
        "tools": {"spm_rt": spm_rt.__version__, **versions},
    }
    (folder / MANIFEST).write_bytes(seal_manifest(manifest))
    for path in folder.iterdir():
        path.chmod(0o644)


def _verify(
    model: SPMTracker,
    folder: Path,
    options: ExportOptions,
    clip: Sequence[NDArray[np.uint8]],
    box: Box,
    clip_name: str,
    step: Step,
) -> Verification:
    bundle = Bundle.open(folder)
    inputs = list(sample_inputs(model, clip, box))
    tensors: list[TensorCheck] = []
    for targets in bundle.targets:
        tensors += check_tensors(model, bundle, inputs, targets, step=lambda: step("verifying"))

    def follow(tracker: Tracker) -> TrackCheck:
        return check_tracks(model, tracker, clip, box, clip_name, bundle.precision, lambda: step("tracking"))

    if PRECISIONS[bundle.precision].for_cpus:
        tracker = Tracker.load(bundle, "onnxruntime")
    else:
        tracker = Tracker(RunnerBackend(bundle), bundle.spec, bundle.settings)
    if bundle.canary:
        tensors += check_canary(bundle.canary, tracker.backend)
    track = follow(tracker)
    other = None
    if bundle.precision == "int8":
        other = follow(Tracker(RunnerBackend(bundle), bundle.spec, bundle.settings))
    return Verification(tensors, track, RUNNERS[bundle.precision], other)


def _failures(verification: Verification) -> list[str]:
    lines = [
        f"  {c.variant} {c.stage}.{c.tensor}: worst {c.kind} error {c.worst:.3g}, allowed {c.tolerance:.3g}"
        for c in verification.tensors
        if not c.passed
    ]
    for name, track in verification.tracks.items():
        if track.passed:
            continue
        mean, close, share = TRACK_BOUNDS[track.precision]
        which = ", portable graphs" if name == "portable_track" else ""
        lines.append(
            f"  boxes on {track.clip}{which}: mean IoU {track.mean_iou:.5f} ({mean} allowed), "
            f"lowest {track.min_iou:.5f}, {track.close_share:.1%} of frames over {close} ({share:.0%} allowed)"
        )
    return lines


def export_steps(options: ExportOptions, clip_length: int) -> int:
    """How many times ``step`` is called by :func:`export_bundle`."""
    buckets = len({1, *options.targets})
    runs = 2 if options.precision == "int8" else 1
    return 1 + buckets * (len(STAGES) + SAMPLES) + runs * (clip_length - 1)
