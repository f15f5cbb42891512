"""``spm-bench gpu``: everything that wants a GPU, in one call.

``python benchmarks/gpu_check.py`` does the same from a checkout that is not installed.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spm_rt import Bundle, Tracker
from spm_rt.errors import SpmError
from spm_rt.precision import FLOATS
from spm_rt.terminal import positive_int

from ..gpu import layers, parts, several
from ..options import Outcome, add_bundle, add_number, clip_length
from ..report.files import check_file, json_text, write_text

WANTED = ("torch", "cuda.bindings", "onnxruntime", "tensorrt", "cupy")
DESCRIPTION = """Everything that wants a GPU, in one call: kernels against the runtime's Python, backends against the
CPU and several targets against single trackers, on the shipped clip and within the bounds of the precision, latency,
and target-frames per second for 1 to 16 targets. It needs NumPy, OpenCV and this package, and uses what else is there:
PyTorch, cuda-bindings, NVRTC, ONNX Runtime with CUDA, TensorRT. What is missing is named in the result, which is
printed as JSON. Exit status: 0 all there was to check is right, 1 there is no GPU, or something is wrong, 2 wrong
usage."""
EPILOG = """example:
  spm-bench gpu spm_alexnet --out results.json
  spm-bench gpu spm_alexnet --multiprocessors 16 --out part.json    what a smaller card would do
"""
ENGINES = ("tensorrt", "tensorrt-rtx")
TARGETS = (1, 2, 4, 8, 16, 32, 64)
Report = dict[str, Any]
Plan = list[tuple[str, Callable[[], Any]]]


def add_options(parser: argparse.ArgumentParser) -> None:
    add_bundle(parser)
    add_number(parser, "--frames", 300, "frames per latency figure", kind=clip_length)
    add_number(parser, "--maps", 500, "score maps for the proposal kernel")
    part = "on so many of the card's multiprocessors: the resident tracker on PyTorch, and their own measured rates"
    parser.add_argument("--multiprocessors", type=positive_int, metavar="N", help=part)
    parser.add_argument("--out", type=Path, help="write the JSON here too")


def run(options: argparse.Namespace) -> Outcome:
    if options.out:
        check_file(options.out)
    report: Report = {"packages": {name: is_there(name) for name in WANTED}, "missing": [], "wrong": []}
    try:
        report["gpu"] = find_gpu()
    except SpmError as error:
        report["gpu"] = None
        report["missing"].append(str(error))
    if report["gpu"]:
        bundle = Bundle.open(options.bundle)
        plan = partition_plan if options.multiprocessors else whole_plan
        run_all(report, plan(report, bundle, options))
    text = json_text(report)
    if options.out:
        write_text(options.out, text)
    message = "" if report["gpu"] else "nothing was checked: " + "; ".join(report["missing"])
    return Outcome(report, text.rstrip, bool(report["gpu"]) and not report["wrong"], message)


def is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # of the package above it
        return False


def find_gpu() -> Report:
    """The first GPU, by the driver itself; an SpmError that says what is missing."""
    from spm_rt.gpu.driver import Device

    device = Device(0)
    return {"name": device.name, "compute_capability": device.capability, "driver": device.driver("cuDriverGetVersion")}


def partition_plan(report: Report, bundle: Bundle, options: argparse.Namespace) -> Plan:
    """Measure a part of the card, which goes into the report, and what runs on it then."""
    from spm_rt.gpu.driver import Device
    from spm_rt.gpu.partition import Partition

    from ..gpu import partition

    part = Partition(Device(0), options.multiprocessors)
    report["partition"] = measured = partition.measure_rates(part)
    report["wrong"] += wrong("partition", measured)

    def run_there(precision: str) -> Report:
        make = partition.tracker_on(bundle, part, precision)
        rate = measured["partition"][f"{precision}_tflops"]
        return partition.resident(bundle, options.frames, precision, make, rate)

    return [(f"resident {p}", functools.partial(run_there, p)) for p in FLOATS]


def whole_plan(report: Report, bundle: Bundle, options: argparse.Namespace) -> Plan:
    """Everything, on the whole card."""
    return [
        ("kernels", lambda: parts.check_kernels(bundle, options.maps)),
        *((f"layers {p}", lambda p=p: layers.check_layers(bundle, p)) for p in FLOATS),
        *((f"pytorch {p}", lambda p=p: backend_part(bundle, options.frames, p)) for p in FLOATS),
        ("onnxruntime cuda", lambda: other_part(bundle, options.frames, "onnxruntime")),
        ("tensorrt", lambda: other_part(bundle, options.frames, "tensorrt")),
        *((f"resident {p}", lambda p=p: parts.resident(bundle, options.frames, "pytorch", p)) for p in FLOATS),
        ("resident tensorrt", lambda: parts.resident(bundle, options.frames, "tensorrt")),
        *(
            (f"several resident {p}", lambda p=p: several.resident(bundle, options.frames, "pytorch", p))
            for p in FLOATS
        ),
        *((f"several resident {n}", lambda n=n: several.resident(bundle, options.frames, n)) for n in ENGINES),
        *((f"several pytorch {p}", lambda p=p: several.pytorch(bundle, options.frames, p)) for p in FLOATS),
        *((f"several {n}", lambda n=n: several.loaded(bundle, options.frames, n)) for n in ("onnxruntime", *ENGINES)),
        *((f"throughput {p}", lambda p=p: parts.throughput(bundle, p, TARGETS)) for p in FLOATS),
    ]


def wrong(name: str, result: Report) -> list[str]:
    return [f"{name}: {what}" for what, right in result.get("checks", {}).items() if not right]


def run_all(report: Report, plan: Plan) -> None:
    """Every part on its own: one that fails is recorded, and the next begins."""
    for name, part in plan:
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always")
            try:
                result = part()
            except Exception as error:  # whatever a library raises, the other parts shall run
                missing = isinstance(error, (SpmError, ImportError))
                report["missing" if missing else "wrong"].append(f"{name}: {error}")
                print(f"{name}: {error}", file=sys.stderr)
                continue
        report[name] = result
        if noted:
            report[name]["warnings"] = [str(w.message) for w in noted]
        report["wrong"] += wrong(name, result)
        print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr)


def backend_part(bundle: Bundle, frames: int, precision: str) -> Report:
    """Parity, latency, and the same launched operator by operator."""
    from spm_rt.backends.pytorch.backend import PyTorchBackend

    def make(**more: Any) -> Tracker:
        return Tracker(PyTorchBackend(bundle, device="cuda", precision=precision, **more), bundle.spec, bundle.settings)

    report = parts.measure_tracker(make(), bundle, frames, precision)
    report["eager"] = parts.latency(make(graphs=False), max(frames // 5, 20))
    report["times_eager"] = report["eager"]["p50_ms"] / report["latency"]["p50_ms"]
    return report


def other_part(bundle: Bundle, frames: int, name: str) -> Report:
    return parts.measure_tracker(Tracker.load(bundle, name, "cuda"), bundle, frames, bundle.precision)
