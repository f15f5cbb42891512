"""What is installed here, and which road this machine should take. Nothing heavy is imported to find out."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import shutil
import subprocess

PACKAGES = {
    "onnxruntime": "CPU inference (default)",
    "onnxruntime-gpu": "CUDA and TensorRT through ONNX Runtime",
    "openvino": "CPU inference, Intel GPUs",
    "tensorrt": "TensorRT engines",
    "tensorrt-rtx": "TensorRT for RTX engines",
    "cuda-bindings": "CUDA driver calls",
    "torch": "the reference model, export, training",
    "onnx": "export",
    "onnx-ir": "export",
    "opencv-python-headless": "pixels (required)",
    "numpy": "arrays (required)",
    "safetensors": "checkpoints",
}
"""Distribution name -> what it is for here."""


@dataclasses.dataclass(frozen=True)
class Library:
    """One package of the trade; ``version`` is None where it is not installed."""

    name: str
    version: str | None
    purpose: str


@dataclasses.dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU as its driver describes it."""

    name: str
    compute_capability: tuple[int, int]
    driver: str


# Lowest compute capability -> advice; the newest first. Facts: support tables of TensorRT and of ONNX Runtime's wheels.
_ROADS = (
    ((10, 0), "TensorRT 10.16 or 11, float16"),
    ((8, 0), "TensorRT 10.16 or 11, float16; RTX cards: TensorRT for RTX as well"),
    ((7, 5), "TensorRT 10.16 or 11, float16 (no bfloat16 on this card)"),
    ((7, 0), "TensorRT 10.4 at most, or onnxruntime-gpu 1.26 at most (CUDA 12)"),
    ((6, 0), "onnxruntime-gpu 1.26 at most with cuDNN 9.10.2 (CUDA 12), or TensorRT 8.6"),
)


def libraries() -> list[Library]:
    """Every package of the trade with its version."""
    found = []
    for name, purpose in PACKAGES.items():
        try:
            version: str | None = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = None
        found.append(Library(name, version, purpose))
    return found


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
    lines = []
    for gpu in found:
        road = next((text for lowest, text in _ROADS if gpu.compute_capability >= lowest), "too old for any of them")
        major, minor = gpu.compute_capability
        lines.append(f"{gpu.name} (compute capability {major}.{minor}, driver {gpu.driver}): {road}")
    return lines
