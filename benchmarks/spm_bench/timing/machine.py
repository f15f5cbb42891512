"""What a measurement was taken on: processor, threads, libraries. A figure without these means nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

from spm_rt.backends.registry import BACKENDS
from spm_rt.machine import cpu_facts, instruction_sets, usable_cores

INSTRUCTION_SETS = (
    *("sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve"),
)
"""Those that change what an inference library can do, as the kernel names them."""

LIBRARIES = (
    "spm-rt",
    "numpy",
    *("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless"),
    *(entry.package for entry in BACKENDS.values()),
    "onnxruntime-gpu",
    "onnx",
)


def describe_machine(threads: int | None = None) -> dict[str, Any]:
    """Processor, cores, affinity, load, library versions and the threads per inference call, as JSON types."""
    facts, flags = cpu_facts(), instruction_sets()
    name = facts.get("model name", platform.machine()) if facts else platform.processor() or platform.machine()
    return {
        "cpu": name,
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "threads": threads,
        "thread_variables": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(("OMP_", "MKL_", "GOMP_", "KMP_", "OPENBLAS_"))
        },
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": _versions(),
    }


def machine_line(facts: dict[str, Any]) -> str:
    """The same in two lines for people."""
    sets = " ".join(name for name in facts["instruction_sets"] if name not in ("sse4_2", "avx", "f16c"))
    libraries = ", ".join(f"{name} {version}" for name, version in facts["libraries"].items())
    threads = "" if facts["threads"] is None else f"{facts['threads']} threads, "
    return (
        f"{facts['cpu']} ({sets or 'instruction sets unknown'}), {facts['usable_cores']} of {facts['cores']} cores "
        f"usable, {threads}load {facts['load_1min']}\n{libraries}, Python {facts['python']}"
    )


def peak_memory_mb() -> float | None:
    """Peak resident memory of this process so far, in MB (10^6 bytes)."""
    try:
        # What getrusage says includes, on Linux, the peak of the process that this one was started by.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak * (1 if sys.platform == "darwin" else 1024) / 1e6)


def _versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
