"""``spm-bench latency``: how long a frame takes, stage by stage, several backends side by side."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from spm_rt.bundle import Bundle
from spm_rt.terminal import format_table
from spm_rt.trackers.single import Tracker

from ..common import (
    TORCH,
    Entry,
    Frame,
    add_clip_options,
    add_run_options,
    add_turn_options,
    load_clip,
    load_tracker,
    parse_entry,
    positive,
    set_threads,
)
from ..profiling.hooks import Watch, watching
from ..timing.gemm import Calibration, Peaks
from ..timing.machine import describe_machine, machine_line, peak_memory_mb
from ..timing.process import measure_process
from ..timing.roofline import PEAKS, percent, shares_text, stage_shares
from ..timing.turns import STAGES, Contestant, interleave, summarize
from ..timing.verdict import judge, same_boxes, turn_spread, verdict_line

DESCRIPTION = """Frames per second of the whole tracker, from a BGR frame in memory to a box. Backends take turns in
short blocks on the same frames, with a pause between them: a library's idle threads spin for a while after a call and
would slow the next one down. The first frames of each block are not counted. The last line is the verdict: VALID, or
INVALID and why, and then the exit status is 1."""
EPILOG = """ratio: the reference's p50 over this one's. The reference is --against, or else the first backend.

examples:
  spm-bench latency spm_alexnet --against torch
  spm-bench latency spm_alexnet --backend onnxruntime openvino --clip clip.mp4 --box 193,158,57,72 --threads 1
  spm-bench latency spm_alexnet --backend onnxruntime openvino:bfloat16 onnxruntime@spm_int8 --roofline
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument(
        "--backend",
        nargs="+",
        default=["auto"],
        metavar="NAME[:PRECISION][@BUNDLE]",
        help="what to measure: onnxruntime, openvino, torch, openvino:bfloat16, onnxruntime@spm_int8, ... "
        "(default: auto)",
    )
    parser.add_argument(
        "--against", metavar="NAME", help="what to measure against: torch (the PyTorch reference), or a backend"
    )
    add_clip_options(parser)
    parser.add_argument(
        "--frames", type=positive, default=200, metavar="N", help="frames counted per backend (default 200)"
    )
    add_turn_options(parser)
    parser.add_argument(
        "--roofline",
        action="store_true",
        help="also measure the machine's peak (matrix products, "
        "before, between and after) and print the share of it that each stage reaches",
    )
    parser.add_argument(
        "--no-process",
        action="store_true",
        help="leave out the fresh process per backend that is started for its import and load time and its peak memory",
    )
    add_run_options(parser)


def run(options: argparse.Namespace) -> int:
    bundle = Bundle.open(options.bundle)
    frames, box, clip = load_clip(options.clip, options.box)
    set_threads(options.threads)
    texts = ([options.against] if options.against else []) + options.backend
    entries = {
        entry.label: entry
        for entry in (parse_entry(text, bundle, device=options.device, threads=options.threads) for text in texts)
    }
    contestants, trackers, watches = [], {}, {}
    for label, entry in entries.items():

        def load(label: str = label, entry: Entry = entry) -> Tracker:
            with watching() as watches[label]:
                trackers[label] = _load(entry, options)
            return trackers[label]

        contestants.append(Contestant.start(label, load, frames, box))
    facts = describe_machine(options.threads)
    reference = trackers[contestants[0].name]
    parity = {
        label: 1.0 if tracker is reference else same_boxes(reference, tracker, frames, box)
        for label, tracker in trackers.items()
    }
    calibration, peaks = Calibration(), Peaks(options.threads, PEAKS) if options.roofline else None
    _measure(contestants, options, calibration, peaks)
    results = summarize(contestants)
    for contestant in contestants:
        entry = entries[contestant.name]
        results[entry.label] |= {
            "precision": entry.precision,
            "forced_iou": parity[entry.label],
            "turn_spread": turn_spread(contestant),
            "checkpoint": entry.bundle.manifest["checkpoint"]["sha256"],
            "process": None if options.no_process else _process(entry, options, frames, box),
        }
    reasons = judge(results, calibration.spread())
    report = {
        "backends": results,
        "reference": contestants[0].name,
        "clip": clip,
        "clip_frames": len(frames),
        "frame_size": [frames[0].shape[1], frames[0].shape[0]],
        "bundle": str(options.bundle),
        "checkpoint": bundle.manifest["checkpoint"]["sha256"],
        "settings": bundle.manifest["tracker"],
        "block": options.block,
        "pause_s": options.pause,
        "peak_memory_mb": peak_memory_mb(),
        "machine": facts,
        "noise": {"calibration_spread": calibration.spread(), "calibration_ms": [t * 1e3 for t in calibration.times]},
        "verdict": {"valid": not reasons, "reasons": reasons},
        "roofline": None if peaks is None else _roofline(results, entries, watches, peaks),
    }
    print(json.dumps(report, indent=1) if options.json else latency_text(report))
    return 1 if reasons else 0


def _load(entry: Entry, options: argparse.Namespace) -> Tracker:
    # PyTorch's threads are one setting for the whole process; the others get theirs when they load.
    return load_tracker(
        entry.bundle,
        entry.backend,
        device=options.device,
        threads=options.threads,
        checkpoint=options.checkpoint,
        precision=entry.asked,
    )


def _measure(
    contestants: list[Contestant], options: argparse.Namespace, calibration: Calibration, peaks: Peaks | None
) -> None:
    """The turns, with the calibration product before each round and the peaks before, in the middle, and after."""
    half = [options.frames // 2]

    def between(done: int) -> None:
        calibration.visit()
        if peaks is not None and half and done >= half[0]:
            half.clear()
            peaks.visit()

    for stop in (peaks, calibration):
        if stop is not None:
            stop.visit()
            time.sleep(options.pause)
    interleave(contestants, options.frames, options.block, options.pause, quiet=options.quiet, between=between)
    calibration.visit()
    if peaks is not None:
        peaks.visit()


def _process(entry: Entry, options: argparse.Namespace, frames: list[Frame], box: Any) -> dict[str, Any] | None:
    """The figures of a process of its own; None for the PyTorch reference, which is not made to be lean."""
    if entry.backend == TORCH:
        return None
    return measure_process(
        entry.bundle.path,
        entry.backend,
        frames,
        box,
        device=options.device,
        threads=options.threads,
        precision=entry.asked,
    )


def _roofline(
    results: dict[str, dict[str, Any]], entries: dict[str, Entry], watches: dict[str, Watch], peaks: Peaks
) -> dict[str, Any]:
    shares = {}
    for label, entry in entries.items():
        proposals = entry.bundle.settings.num_candidates
        shares[label] = stage_shares(
            watches[label].graphs, results[label]["stages_ms"], proposals, entry.precision, peaks
        )
    return {"peaks": peaks.report(), "shares": {label: found for label, found in shares.items() if found}}


def latency_text(report: dict[str, Any]) -> str:
    """The report for people."""
    results = report["backends"]
    size = report["frame_size"]
    rows = [
        [
            name,
            f"{r['fps']:.1f}",
            *(f"{r[key]:.2f}" for key in ("p50_ms", "p90_ms", "p99_ms", "p99_over_p50")),
            f"{r['ratio']:.2f}x",
            " to ".join(f"{v:.2f}" for v in r["ratio_spread"]),
        ]
        for name, r in results.items()
    ]
    stages = [
        [name, *(f"{r['stages_ms'][stage]:.2f}" for stage in STAGES), f"{r['host_ms']:.2f}"]
        for name, r in results.items()
    ]
    starts = [
        [
            name,
            f"{r['load_ms']:.0f}",
            f"{r['init_ms']:.1f}",
            f"{r['first_frame_ms']:.1f}",
            f"{r['forced_iou']:.6f}",
            f"{r['same_boxes_iou']:.6f}",
            percent(r["turn_spread"]),
            r["description"],
        ]
        for name, r in results.items()
    ]
    counted = min(r["frames"] for r in results.values())
    torch_note = ", which is the PyTorch reference" if report["reference"] == TORCH else ""
    parts = [
        machine_line(report["machine"]),
        f"{report['clip']}, {size[0]} x {size[1]}, {counted} frames counted per backend, in turns of "
        f"{report['block']}; ratio to {report['reference']}{torch_note}",
        format_table(
            ["backend", "fps", "p50 ms", "p90 ms", "p99 ms", "p99/p50", "ratio", "quartiles over turns"], rows
        ),
        "median ms per stage; host is what runs no graph\n" + format_table(["backend", *STAGES, "host"], stages),
        "apart from that\n"
        + format_table(
            ["backend", "load ms", "template ms", "first frame ms", "IoU per frame", "IoU free", "turns spread", ""],
            starts,
        ),
    ]
    processes = {name: r["process"] for name, r in results.items() if r["process"]}
    if processes:
        parts.append(
            "a process of its own with one target, its second start\n"
            + format_table(
                ["backend", "import s", "load s", "first load s", "first frame ms", "peak memory MB"],
                [_process_row(name, found) for name, found in processes.items()],
            )
        )
    if report["roofline"]:
        parts.append(shares_text(report["roofline"]["shares"], report["roofline"]["peaks"]))
    noise = f"noise: a fixed matrix product spread by {report['noise']['calibration_spread']:.1%} over the run"
    return "\n\n".join([*parts, f"{noise}\n{verdict_line(report['verdict']['reasons'])}"])


def _process_row(name: str, found: dict[str, Any]) -> list[str]:
    if "error" in found:
        return [name, found["error"], "", "", "", ""]
    return [
        name,
        f"{found['import_s']:.2f}",
        f"{found['load_s']:.2f}",
        f"{found['first_load_s']:.2f}",
        f"{found['first_frame_ms']:.1f}",
        f"{found['peak_memory_mb']:.0f}",
    ]
