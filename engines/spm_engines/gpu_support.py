"""Which versions and backends suit which GPU, by compute capability. docs/guide/engines.md has the recipes.

Facts from the support tables of TensorRT, TensorRT for RTX and ONNX Runtime's wheels, state of November 2026.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from spm_rt.cache.engine_facts import version_numbers
from spm_rt.precision import PRECISIONS


def dotted(version: tuple[int, int]) -> str:
    """``8.6`` of (8, 6): a compute capability or the beginning of a version."""
    return f"{version[0]}.{version[1]}"


@dataclasses.dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU as its driver describes it."""

    name: str
    compute_capability: tuple[int, int]
    driver: str

    @property
    def capability(self) -> str:
        return dotted(self.compute_capability)


@dataclasses.dataclass(frozen=True)
class GpuSupport:
    """What to tell the owner of a card.

    Attributes:
        lowest: compute capability from which on this holds, up to the next one.
        owners: cards, for people.
        advice: what to install and which precision to take, in one line.
        precisions: bundles that the card can run.
        tensorrt: first and last version of TensorRT with kernels for it, as far as this project uses them.
        rtx: how TensorRT for RTX serves it: ``portable`` (its default plan), ``named`` (``--compute-capability``) or
            empty.
    """

    lowest: tuple[int, int]
    owners: str
    advice: str
    precisions: tuple[str, ...]
    tensorrt: tuple[tuple[int, int], tuple[int, int]] | None
    rtx: str


_ALL = tuple(PRECISIONS)
_HALF = ("float32", "float16")
_TURING = (*_HALF, "int8")
"""Tensor cores compute in int8 from 7.5 on, in bfloat16 from 8.0 on."""
_LATEST = (99, 0)
_PORTABLE = "TensorRT 10.16 or 11, float16; or TensorRT for RTX, whose portable plan needs no GPU to build"

SUPPORT = (
    GpuSupport((6, 0), "P100, GTX 10",
               "onnxruntime-gpu 1.26 at most with cuDNN 9.10.2 (CUDA 12), --backend onnxruntime --device cuda; "
               "TensorRT 8.6, the last with kernels for it, is too old for this builder", _HALF, None, ""),
    GpuSupport((7, 0), "V100", "TensorRT 10.4 at most (CUDA 12), float16; or onnxruntime-gpu 1.26 at most",
               _HALF, ((10, 0), (10, 4)), ""),
    GpuSupport((7, 2), "Jetson Xavier",
               "onnxruntime-gpu for its JetPack: the TensorRT 8 there is too old for this builder", _HALF, None, ""),
    GpuSupport((7, 5), "T4, RTX 20",
               "TensorRT 10.16 or 11, float16 (no bfloat16 on this card); or TensorRT for RTX with "
               "--compute-capability 7.5, in float16 only", _TURING, ((10, 0), _LATEST), "named"),
    GpuSupport((8, 0), "A100, A30", "TensorRT 11 (10.16 for ONNX Runtime's TensorRT provider), float16",
               _ALL, ((10, 0), _LATEST), "portable"),
    GpuSupport((8, 6), "RTX 30, A10, A40", _PORTABLE, _ALL, ((10, 0), _LATEST), "portable"),
    GpuSupport((8, 7), "Jetson Orin",
               "the TensorRT of its JetPack (6.2 has 10.3; TensorRT 11 has none), system bindings, flat graphs, "
               "float16", _ALL, ((10, 0), (10, 16)), ""),
    GpuSupport((8, 9), "RTX 40, L4, L40", _PORTABLE, _ALL, ((10, 0), _LATEST), "portable"),
    GpuSupport((9, 0), "H100, H200",
               "TensorRT 11 (10.16 for ONNX Runtime's TensorRT provider), float16; TensorRT for RTX does not list this "
               "card", _ALL, ((10, 0), _LATEST), ""),
    GpuSupport((10, 0), "B200, Jetson Thor", "TensorRT 10.16 or 11, float16", _ALL, ((10, 8), _LATEST), ""),
    GpuSupport((12, 0), "RTX 50", _PORTABLE, _ALL, ((10, 8), _LATEST), "portable"),
)  # fmt: skip
"""Ascending."""
TOO_OLD = GpuSupport((0, 0), "", "too old for any of them: take a CPU backend", ("float32",), None, "")


def support_of(gpu: Gpu) -> GpuSupport:
    """The row for a card: that of the highest compute capability that it reaches."""
    return next((row for row in reversed(SUPPORT) if gpu.compute_capability >= row.lowest), TOO_OLD)


def warnings_for(gpu: Gpu, versions: Mapping[str, str]) -> list[str]:
    """What of the installed packages (name -> version) does not fit a card."""
    found, row = [], support_of(gpu)
    tensorrt = versions.get("tensorrt")
    if tensorrt:
        if row.tensorrt is None:
            found.append(f"TensorRT {tensorrt} has no kernels for it that this project can use")
        elif not row.tensorrt[0] <= version_numbers(tensorrt)[:2] <= row.tensorrt[1]:
            first, last = map(dotted, row.tensorrt)
            until = f" to {last}" if row.tensorrt[1] != _LATEST else " and later"
            found.append(f"TensorRT {tensorrt} does not serve it; {first}{until} does")
    if versions.get("tensorrt-rtx"):
        if not row.rtx:
            found.append("TensorRT for RTX does not list it")
        elif row.rtx == "named":
            found.append(f"TensorRT for RTX: build with --compute-capability {gpu.capability}")
    runtime = versions.get("onnxruntime-gpu")
    if runtime and gpu.compute_capability < (7, 5) and version_numbers(runtime) >= (1, 27):
        found.append(f"onnxruntime-gpu {runtime} has no kernels for it: pip install 'onnxruntime-gpu<1.27'")
    return found
