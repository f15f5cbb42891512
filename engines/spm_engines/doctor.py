"""What is installed here, and which backend this machine should take.

Nothing heavy is imported to find out; what has to be loaded to be known is loaded in a process of its own
(:func:`inspect_library`), since a library that does not find its driver may take the process along.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys

from spm_rt.backends.registry import BACKENDS
from spm_rt.gpu.kernels import nvrtc

from .gpu_support import Gpu, support_of, warnings_for

PACKAGES = {
    **{entry.package: entry.purpose for entry in BACKENDS.values()},
    "onnxruntime-gpu": "CUDA and TensorRT through ONNX Runtime",
    "cuda-bindings": "CUDA driver calls",
    "av": "videos and streams (PyAV); without it OpenCV reads them",
    "onnx": "export",
    "onnx-ir": "export",
    "opencv-python-headless": "pixels (required)",
    "numpy": "arrays (required)",
    "safetensors": "checkpoints",
}
"""Distribution name -> what it is for here."""
INSPECTED = ("tensorrt", "tensorrt_rtx")
"""Modules that are loaded in a process of their own to see whether they work."""

_INSPECTION = """
import importlib, json, sys
name = sys.argv[1]
module = importlib.import_module(name)
found = {"version": str(module.__version__), "aot": False, "builder": False}
class Quiet(module.ILogger):
    def __init__(self): module.ILogger.__init__(self)
    def log(self, severity, message): pass
try:
    found["aot"] = hasattr(importlib.import_module(name + ".plugin"), "aot_impl")
except Exception:
    pass
print(json.dumps(found), flush=True)
log = Quiet()
found["builder"] = module.Builder(log) is not None
print(json.dumps(found), flush=True)
"""


@dataclasses.dataclass(frozen=True)
class Library:
    """One package of the trade; ``version`` is None where it is not installed."""

    name: str
    version: str | None
    purpose: str


@dataclasses.dataclass(frozen=True)
class InspectedLibrary:
    """What loading a library showed.

    Attributes:
        version: as the library gives it; None where it cannot be loaded.
        problem: what went wrong, in a few words; empty where nothing did.
        aot: whether it takes plugins whose kernels become part of the engine.
        builder: whether it gives a builder here (TensorRT needs a GPU for that).
    """

    version: str | None
    problem: str = ""
    aot: bool = False
    builder: bool = False


def libraries() -> list[Library]:
    """Every package of the trade with its version."""
    versions: dict[str, str | None] = dict.fromkeys(PACKAGES)
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return [Library(name, versions[name], purpose) for name, purpose in PACKAGES.items()]


@functools.cache
def inspect_library(module: str, timeout: float = 120.0) -> InspectedLibrary:
    """Load TensorRT or TensorRT for RTX in a process of its own, and ask it for its version and a builder."""
    command = [sys.executable, "-c", _INSPECTION, module]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
    except (OSError, subprocess.SubprocessError) as error:
        return InspectedLibrary(None, f"it does not answer ({type(error).__name__})")
    answers = [line for line in done.stdout.splitlines() if line.startswith('{"version"')]
    last = next((line.strip() for line in reversed(done.stderr.splitlines()) if line.strip()), "")
    why = f"it ended by signal {-done.returncode}" if done.returncode < 0 else last or f"exit status {done.returncode}"
    if not answers:
        return InspectedLibrary(None, why)
    return InspectedLibrary(**json.loads(answers[-1]), problem=why if done.returncode else "")


def gpus() -> list[Gpu]:
    """NVIDIA GPUs, by asking the driver's own tool; an empty list where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_gpus(answer)


def parse_gpus(answer: str) -> list[Gpu]:
    """GPUs from the tool's lines ``name, 8.0, 580.1``; lines of another form are passed over."""
    found = []
    for line in answer.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 3 or not parts[1].replace(".", "", 1).isdigit():
            continue
        major, _, minor = parts[1].partition(".")
        found.append(Gpu(parts[0], (int(major), int(minor or 0)), parts[2]))
    return found


def advise(found: list[Gpu], machine: str = platform.machine()) -> list[str]:
    """One line per GPU, or for the CPU where there is none: which backend to take."""
    if not found:
        return [f"no NVIDIA GPU: --backend onnxruntime (the default) or openvino on this {machine} CPU"]
    return [
        f"{gpu.name} (compute capability {gpu.capability}, driver {gpu.driver}): {support_of(gpu).advice}"
        for gpu in found
    ]


def findings(found: list[Gpu], installed: list[Library]) -> list[str]:
    """What the installed libraries can do here: engines, precisions, plugins, and what does not fit together."""
    versions = {library.name: library.version for library in installed if library.version}
    lines = []
    for module in INSPECTED:
        name = module.replace("_", "-")
        if importlib.util.find_spec(module) is None:
            continue
        seen = inspect_library(module)
        if seen.version is None:
            lines.append(f"{name}: installed, but it cannot be loaded: {seen.problem}")
            continue
        versions[name] = seen.version
        builds = "builds engines here" if seen.builder and not seen.problem else f"no builder here ({seen.problem})"
        plugins = "takes ahead-of-time plugins" if seen.aot else "takes no ahead-of-time plugins"
        lines.append(f"{name} {seen.version}: {builds}; {plugins}")
    without = "none, since NVRTC is missing; the RoI node is compiled from its own body"
    lines.append(f"RoI plugin for TensorRT: {'found' if nvrtc.candidates() else without}")
    for gpu in found:
        precisions = ", ".join(support_of(gpu).precisions)
        lines.append(f"{gpu.name}: {precisions} bundles")
        lines += [f"{gpu.name}: {warning}" for warning in warnings_for(gpu, versions)]
    return lines
