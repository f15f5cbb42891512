"""Bundles for tests that compile nothing: one without a file in it, and a small one that is complete."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spm_rt import Bundle, ModelSpec, TrackerSettings
from spm_rt.bundle import FORMAT, FORMAT_VERSION, MANIFEST, STAGES
from spm_rt.bundle.contract import contract, tensor_type
from spm_rt.bundle.forms import graph_file, graphs_of
from spm_rt.bundle.graph_ends import TYPES
from spm_rt.files import seal_manifest
from spm_rt.settings import to_json


def hollow_bundle(folder: Path, precision: str = "float32", targets: tuple[int, ...] = (1, 4)) -> Bundle:
    """An opened bundle without a file in it."""
    graphs = {
        str(t): {s: {form: f"{s}_{t}_{form}.onnx" for form in ("portable", "flat")} for s in STAGES} for t in targets
    }
    names = [name for table in graphs.values() for forms in table.values() for name in forms.values()]
    files = {name: {"bytes": 1, "sha256": f"sha of {name}"} for name in [*names, "weights.safetensors"]}
    manifest = {"precision": precision, "graphs": graphs, "files": files}
    return Bundle(folder, manifest, ModelSpec(), TrackerSettings())


def small_bundle(folder: Path, precision: str = "float32", targets: tuple[int, ...] = (1, 2)) -> Path:
    """A bundle of a few kilobytes: its graphs have the inputs and outputs that they should, and nothing between."""
    folder.mkdir(parents=True)
    graphs: dict[str, Any] = {}
    for count in targets:
        for stage, form in graphs_of(precision):
            name = graph_file(stage, form, count)
            graphs.setdefault(str(count), {}).setdefault(stage, {})[form] = name
            (folder / name).write_bytes(hollow_graph(stage, count, precision))
    (folder / "weights.safetensors").write_bytes(bytes(range(256)) * 8)
    manifest = {
        **{"format": FORMAT, "format_version": FORMAT_VERSION, "precision": precision, "graphs": graphs},
        **{"model": to_json(ModelSpec()), "tracker": to_json(TrackerSettings()), "checkpoint": {"source": "nothing"}},
        "files": {path.name: facts_of(path.read_bytes()) for path in folder.iterdir()},
    }
    (folder / MANIFEST).write_bytes(seal_manifest(manifest))
    return folder


def facts_of(content: bytes) -> dict[str, Any]:
    """A file's entry in a manifest."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def hollow_graph(stage: str, targets: int = 1, precision: str = "float32") -> bytes:
    """An ONNX file with a stage's inputs and outputs alone."""
    sides = contract(ModelSpec(), targets)[stage]
    kinds = {name: number for number, name in TYPES.items()}
    graph = b"".join(
        field(number, field(1, name.encode()) + field(2, tensor(kinds[tensor_type(name, precision)], shape)))
        for number, side in ((11, "inputs"), (12, "outputs"))
        for name, shape in sides[side].items()
    )
    return field(7, field(2, stage.encode()) + graph)


def tensor(kind: int, shape: Iterable[int | str]) -> bytes:
    """A TypeProto."""
    sizes = (field(1, size) if isinstance(size, int) else field(2, size.encode()) for size in shape)
    return field(1, field(1, kind) + field(2, b"".join(field(1, size) for size in sizes)))


def field(number: int, value: int | bytes) -> bytes:
    """A field of a message in Protocol Buffers."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    """A number of 7 bits per byte."""
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])
