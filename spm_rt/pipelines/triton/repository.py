"""A model repository for Triton, written from a bundle."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from ...bundle import MANIFEST, Bundle
from ...bundle.forms import STAGES, form_for
from ...bundle.graph_ends import read_ends
from ...errors import BundleError
from ...files import folder_beside, seal_manifest
from ...precision import PRECISIONS

TRACKER = "spm_tracker"
_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "bfloat16": "TYPE_BF16"}
_MODEL = '''"""The tracker as a sequence model. spm_rt has to be installed where Triton's Python backend runs."""

from spm_rt.pipelines.triton.model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


@dataclasses.dataclass(frozen=True)
class Serving:
    """How the tracker is served; all of it stands in ``config.pbtxt`` and can be changed there.

    Attributes:
        backend: inference library.
        device: ``cpu``, ``cuda``, ...
        threads: per inference call; 0 for all usable cores.
        sequences: that are followed at the same time; further ones wait for their turn.
        batch: requests in one execution.
        per_call: targets in one run of a graph; 0 for what is fastest where Triton runs, 1 for a tracker's own bits.
        idle: seconds after which a sequence that nobody asks for ends.
        most_pixels: of a frame; larger ones are refused.
    """

    backend: str = "auto"
    device: str = "cpu"
    threads: int = 0
    sequences: int = 64
    batch: int = 8
    per_call: int = 0
    idle: float = 30.0
    most_pixels: int = 50_000_000


def write_repository(bundle: Bundle, folder: Path, serving: Serving = Serving()) -> list[Path]:
    """Write the models into a repository, which may hold others.

    Args:
        bundle: what is served; each model gets a copy of what it needs.
        folder: the repository; made where it is not there.
        serving: how.

    Returns:
        The models' folders. These are ``spm_tracker``, and ``spm_template``, ``spm_search`` and ``spm_relation``, the
        graphs alone, for ONNX Runtime's backend.

    Raises:
        BundleError: a model of one of these names is there already, or the folder cannot be written to.
    """
    names = [TRACKER, *(f"spm_{stage}" for stage in STAGES)]
    for name in names:
        if (folder / name).exists():
            raise BundleError(f"{folder / name} exists; remove it, or give another folder")
    try:
        folder.mkdir(exist_ok=True)
        for name in names:
            with folder_beside(folder / name) as part:
                _write(bundle, part, name, serving)
                part.rename(folder / name)
    except OSError as error:
        raise BundleError(f"{folder}: cannot be written ({error.strerror or error})") from error
    return [folder / name for name in names]


def _write(bundle: Bundle, model: Path, name: str, serving: Serving) -> None:
    version = model / "1"
    version.mkdir()
    if name == TRACKER:
        (model / "config.pbtxt").write_text(tracker_config(serving), encoding="utf-8")
        (version / "model.py").write_text(_MODEL, encoding="utf-8")
        (version / "bundle").mkdir()
        for file in bundle.manifest["files"]:
            shutil.copyfile(bundle.path / file, version / "bundle" / file)
        (version / "bundle" / MANIFEST).write_bytes(seal_manifest(bundle.manifest))
        return
    stage = name.removeprefix("spm_")
    form = form_for("ONNX Runtime on CPUs" if PRECISIONS[bundle.precision].for_cpus else "ONNX Runtime on GPUs")
    shutil.copyfile(bundle.graph(stage, variant=form), version / "model.onnx")
    (model / "config.pbtxt").write_text(graph_config(stage, version / "model.onnx"), encoding="utf-8")
    for file in bundle.manifest["files"]:
        if file.endswith(".safetensors"):  # the weights of all graphs, which each names by their file's name
            shutil.copyfile(bundle.path / file, version / file)


def tracker_config(serving: Serving) -> str:
    """``config.pbtxt`` of the tracker."""
    said = {
        "backend": serving.backend,
        "device": serving.device,
        "threads": serving.threads,
        "per_call": serving.per_call,
        "most_pixels": serving.most_pixels,
    }
    parameters = "\n".join(
        f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}' for key, value in said.items()
    )
    return f"""# One sequence for each object: START with BOX, then a frame after the other, END with the last one.
name: "{TRACKER}"
backend: "python"
max_batch_size: {serving.batch}
# FRAME (height, width, 3; BGR) or JPEG (the bytes of a picture file): one of the two.
input [
  {{ name: "FRAME" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] optional: true allow_ragged_batch: true }},
  {{ name: "JPEG" data_type: TYPE_UINT8 dims: [ -1 ] optional: true allow_ragged_batch: true }},
  {{ name: "BOX" data_type: TYPE_FP64 dims: [ 4 ] optional: true }}
]
output [
  {{ name: "BOX" data_type: TYPE_FP64 dims: [ 4 ] }},
  {{ name: "SCORE" data_type: TYPE_FP64 dims: [ 1 ] }},
  {{ name: "FOUND" data_type: TYPE_BOOL dims: [ 1 ] }}
]
sequence_batching {{
  oldest {{ max_candidate_sequences: {serving.sequences} }}
  max_sequence_idle_microseconds: {round(1e6 * serving.idle)}
}}
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
# The bundle is in 1/bundle. threads 0: all usable cores. per_call 0: as many targets in a run as is fastest here.
{parameters}
"""


def graph_config(stage: str, graph: Path) -> str:
    """``config.pbtxt`` of one graph, for one target."""
    ends = read_ends(graph.read_bytes())

    def listed(side: str) -> str:
        lines = [
            f'  {{ name: "{name}" data_type: {_TYPES[kind]} '
            f"dims: [ {', '.join(str(size) if isinstance(size, int) else '-1' for size in shape)} ] }}"
            for name, (kind, shape) in ends[side].items()
        ]
        return ",\n".join(lines)

    return f"""# The graph alone, for a loop of your own (docs/reference/graphs.md).
name: "spm_{stage}"
backend: "onnxruntime"
max_batch_size: 0
input [
{listed("inputs")}
]
output [
{listed("outputs")}
]
"""
