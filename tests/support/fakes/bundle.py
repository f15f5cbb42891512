"""A bundle that describes graphs it does not have, for tests that compile nothing."""

from __future__ import annotations

from pathlib import Path

from spm_rt import Bundle, ModelSpec, TrackerSettings
from spm_rt.bundle import STAGES


def hollow_bundle(folder: Path, precision: str = "float32", targets: tuple[int, ...] = (1, 4)) -> Bundle:
    """An opened bundle without a file in it."""
    graphs = {
        str(t): {s: {form: f"{s}_{t}_{form}.onnx" for form in ("portable", "flat")} for s in STAGES} for t in targets
    }
    names = [name for table in graphs.values() for forms in table.values() for name in forms.values()]
    files = {name: {"bytes": 1, "sha256": f"sha of {name}"} for name in [*names, "weights.safetensors"]}
    manifest = {"precision": precision, "graphs": graphs, "files": files}
    return Bundle(folder, manifest, ModelSpec(), TrackerSettings())
