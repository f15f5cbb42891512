"""``spm-bench latency``: how long a frame takes, stage by stage, several backends side by side."""

from __future__ import annotations

import argparse
import time
from typing import Any

from spm_rt.bundle import Bundle
from spm_rt.terminal import format_table
from spm_rt.trackers.single import Tracker

from ..loading import TORCH, Entry, parse_entries, set_threads
from ..options import Outcome, add_backends, add_bundle, add_measurement, add_run_options
from ..profiling.hooks import Hooks, profiler_hooks
from ..tables import fill, named, table
from ..timing.gemm import Peaks
from ..timing.machine import machine_line, peak_memory_mb
from ..timing.measurement import Measurement
from ..timing.process import measure_process
from ..timing.roofline import PEAKS, shares_text, stage_shares
from ..timing.turns import FRAME_STEPS, Contestant
from ..timing.verdict import same_boxes, verdict_line

DESCRIPTION = """Frames per second of the whole tracker, from a BGR frame in memory to a box. Backends take turns in
short blocks on the same frames, with a pause between them: a library's idle threads spin for a while after a call and
would slow the next one down. The first frames of each block are not counted. The last line is the verdict: VALID, or
INVALID and why, and then the exit status is 1."""
EPILOG = """ratio: the reference's p50 over this one's. The reference is --against, or else the first backend.

examples:
  spm-bench latency spm_alexnet --against torch
  spm-bench latency spm_alexnet --backend onnxruntime openvino --clip clip.mp4 --box 193,158,57,72 --threads 1
  spm-bench latency spm_alexnet --backend onnxruntime onnxruntime@spm_light
  spm-bench latency spm_light --pace 30 --neighbours 1           as beside a camera and other work
  spm-bench latency spm_alexnet --backend onnxruntime openvino:bfloat16 onnxruntime@spm_int8 --roofline
"""
TURNS = """backend {name} | fps {fps:.1f} | p50 ms {p50_ms:.2f} | p90 ms {p90_ms:.2f} | p99 ms {p99_ms:.2f}
    | p99/p50 {p99_over_p50:.2f} | ratio {ratio:.2f}x
    | quartiles over turns {ratio_spread[0]:.2f} to {ratio_spread[1]:.2f}"""
STAGES = " | ".join(["backend {name}", *(f"{s} {{stages_ms[{s}]:.2f}}" for s in FRAME_STEPS), "host {host_ms:.2f}"])
STARTS = """backend {name} | load ms {load_ms:.0f} | template ms {init_ms:.1f} | first frame ms {first_frame_ms:.1f}
    | IoU per frame {same_weights} | IoU free {same_boxes_iou:.6f} | turns spread {turn_spread:.1%} | {description}"""
PROCESSES = """backend {name} | import s {import_s:.2f} | load s {load_s:.2f} | first load s {first_load_s:.2f}
    | first frame ms {first_frame_ms:.1f} | peak memory MB {peak_memory_mb:.0f}"""


def add_options(parser: argparse.ArgumentParser) -> None:
    add_bundle(parser)
    add_backends(parser, "what to measure: onnxruntime, openvino, torch, openvino:bfloat16, onnxruntime@spm_int8")
    against = "what to measure against: torch (the PyTorch reference), or a backend"
    parser.add_argument("--against", metavar="NAME", help=against)
    add_measurement(parser, 200, "per backend")
    peak = "(matrix products, before, between and after) and print the share of it that each stage reaches"
    parser.add_argument("--roofline", action="store_true", help=f"also measure the machine's peak {peak}")
    started = "per backend that is started for its import and load time and its peak memory"
    parser.add_argument("--no-process", action="store_true", help=f"leave out the process of its own {started}")
    add_run_options(parser)


def run(options: argparse.Namespace) -> Outcome:
    bundle = Bundle.open(options.bundle)
    measurement = Measurement(options, options.threads)
    set_threads(options.threads)
    texts = ([options.against] if options.against else []) + options.backend
    entries = parse_entries(texts, bundle, options)
    contestants, trackers, hooks = [], {}, {}
    for label, entry in entries.items():

        def load(label: str = label, entry: Entry = entry) -> Tracker:
            with profiler_hooks() as hooks[label]:
                trackers[label] = entry.load(options)
            return trackers[label]

        contestants.append(measurement.start(label, load))
    reference = trackers[contestants[0].name]
    digests = {label: entry.bundle.manifest["checkpoint"]["sha256"] for label, entry in entries.items()}
    parity = {
        label: 1.0 if tracker is reference else same_boxes(reference, tracker, measurement.frames, measurement.box)
        for label, tracker in trackers.items()
        if digests[label] == digests[contestants[0].name]  # other weights find other boxes
    }
    peaks = Peaks(options.threads, PEAKS) if options.roofline else None
    results = _measure(measurement, contestants, peaks)
    clip = measurement.frames, measurement.box
    for label, entry in entries.items():
        # The PyTorch reference is not made to be lean.
        alone = not options.no_process and entry.backend != TORCH
        results[label] |= {
            "precision": entry.precision,
            "forced_iou": parity.get(label),
            "checkpoint": digests[label],
            "process": measure_process(entry, *clip, options.device, options.threads) if alone else None,
        }
    report = {
        "backends": results,
        "reference": contestants[0].name,
        "clip_frames": len(measurement.frames),
        "bundle": str(options.bundle),
        "checkpoint": bundle.manifest["checkpoint"]["sha256"],
        "settings": bundle.manifest["tracker"],
        "pause_s": options.pause,
        "peak_memory_mb": peak_memory_mb(),
        **measurement.report(results),
        "roofline": None if peaks is None else _roofline(results, entries, hooks, peaks),
    }
    return Outcome(report, lambda: latency_text(report), report["verdict"]["valid"])


def _measure(measurement: Measurement, contestants: list[Contestant], peaks: Peaks | None) -> dict[str, dict[str, Any]]:
    """The turns, with the peaks and the steadiness measured before and after them, the peaks also in the middle."""
    half = [measurement.options.frames // 2]

    def visit_peaks_at_half(done: int) -> None:
        if peaks is not None and half and done >= half[0]:
            half.clear()
            peaks.visit()

    for measured in (peaks, measurement.steadiness):
        if measured is not None:
            measured.visit()
            time.sleep(measurement.options.pause)
    results = measurement.take_turns(contestants, visit_peaks_at_half)
    measurement.steadiness.visit()
    if peaks is not None:
        peaks.visit()
    return results


def _roofline(
    results: dict[str, dict[str, Any]], entries: dict[str, Entry], hooks: dict[str, Hooks], peaks: Peaks
) -> dict[str, Any]:
    shares = {
        label: stage_shares(hooks[label].graphs, results[label]["stages_ms"], entry, peaks)
        for label, entry in entries.items()
    }
    return {"peaks": peaks.report(), "shares": {label: stages for label, stages in shares.items() if stages}}


def _overlap(found: float | None) -> str:
    return "other weights" if found is None else f"{found:.6f}"


def _circumstances(report: dict[str, Any]) -> str:
    """What else the frames' times depend on, if anything."""
    paced = f"; {report['pace']:g} frames come per second" if report["pace"] else ""
    return paced + (f"; beside {report['neighbours']} busy processes" if report["neighbours"] else "")


def latency_text(report: dict[str, Any]) -> str:
    """The report for people."""
    results = [{**r, "same_weights": _overlap(r["forced_iou"])} for r in named(report["backends"])]
    size = report["frame_size"]
    counted = min(r["frames"] for r in results)
    torch_note = ", which is the PyTorch reference" if report["reference"] == TORCH else ""
    parts = [
        machine_line(report["machine"]),
        f"{report['clip']}, {size[0]} x {size[1]}, {counted} frames counted per backend, in turns of "
        f"{report['block']}; ratio to {report['reference']}{torch_note}{_circumstances(report)}",
        table(TURNS, results),
        "median ms per stage; host is what runs no graph\n" + table(STAGES, results),
        "apart from that\n" + table(STARTS, results),
    ]
    rows = []
    for r in named({r["name"]: r["process"] for r in results if r["process"]}):
        header, cells = fill(PROCESSES, [] if "error" in r else [r])
        rows += cells or [[r["name"], r["error"], "", "", "", ""]]
    if rows:
        parts.append("a process of its own with one target, its second start\n" + format_table(header, rows))
    if report["roofline"]:
        parts.append(shares_text(report["roofline"]["shares"], report["roofline"]["peaks"]))
    noise = f"noise: a fixed matrix product spread by {report['noise']['calibration_spread']:.1%} over the run"
    return "\n\n".join([*parts, f"{noise}\n{verdict_line(report['verdict']['reasons'])}"])
