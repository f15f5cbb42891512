"""``spm-bench latency``: how long a frame takes, stage by stage, several backends side by side."""

from __future__ import annotations

import argparse
import json
from typing import Any

from spm_rt.bundle import Bundle
from spm_rt.tables import format_table

from .machine import describe_machine, machine_line, peak_memory_mb
from .runners import (
    TORCH,
    add_clip_options,
    add_run_options,
    check_name,
    load_clip,
    load_tracker,
    positive,
    seconds,
    set_threads,
)
from .timing import STAGES, Contestant, interleave, summarize

DESCRIPTION = """Frames per second of the whole tracker, from a BGR frame in memory to a box. Backends take turns in
short blocks on the same frames, with a pause between them: a library's idle threads spin for a while after a call and
would slow the next one down. The first frames of each block are not counted."""
EPILOG = """ratio: the reference's p50 over this one's. The reference is --against, or else the first backend.

examples:
  spm-bench latency spm_alexnet --against torch
  spm-bench latency spm_alexnet --backend onnxruntime openvino --clip clip.mp4 --box 193,158,57,72 --threads 1
"""
ENOUGH_FRAMES = 50


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument("--backend", nargs="+", default=["auto"], metavar="NAME",
                        help="what to measure: onnxruntime, openvino, torch, ... (default: auto)")
    parser.add_argument("--against", metavar="NAME",
                        help="what to measure against: torch (the PyTorch reference), or a backend")
    add_clip_options(parser)
    parser.add_argument("--frames", type=positive, default=200, metavar="N",
                        help="frames counted per backend (default 200)")
    parser.add_argument("--block", type=positive, default=10, metavar="N", help="frames counted per turn (default 10)")
    parser.add_argument("--pause", type=seconds, default=0.1, metavar="SECONDS", help="between turns (default 0.1)")
    add_run_options(parser)


def run(options: argparse.Namespace) -> int:
    bundle = Bundle.open(options.bundle)
    frames, box, clip = load_clip(options.clip, options.box)
    set_threads(options.threads)
    names = [check_name(name) for name in ([options.against] if options.against else []) + options.backend]
    contestants = []
    for name in dict.fromkeys(names):
        # PyTorch's threads are one setting for the whole process; the others get theirs when they load.
        contestants.append(Contestant.start(name, lambda name=name: load_tracker(  # type: ignore[misc]
            bundle, name, device=options.device, threads=options.threads, checkpoint=options.checkpoint), frames, box))
    facts = describe_machine(options.threads)
    interleave(contestants, options.frames, options.block, options.pause, quiet=options.quiet)
    results = summarize(contestants)
    report = {"backends": results, "reference": contestants[0].name, "clip": clip, "clip_frames": len(frames),
              "frame_size": [frames[0].shape[1], frames[0].shape[0]], "bundle": str(options.bundle),
              "checkpoint": bundle.manifest["checkpoint"]["sha256"], "settings": bundle.manifest["tracker"],
              "block": options.block, "pause_s": options.pause, "peak_memory_mb": peak_memory_mb(), "machine": facts}
    print(json.dumps(report, indent=1) if options.json else latency_text(report))
    return 0


def latency_text(report: dict[str, Any]) -> str:
    """The report for people."""
    results = report["backends"]
    size = report["frame_size"]
    rows = [[name, f"{r['fps']:.1f}", *(f"{r[key]:.2f}" for key in ("p50_ms", "p90_ms", "p99_ms")),
             f"{r['ratio']:.2f}x", " to ".join(f"{v:.2f}" for v in r["ratio_spread"])] for name, r in results.items()]
    stages = [[name, *(f"{r['stages_ms'][stage]:.2f}" for stage in STAGES)] for name, r in results.items()]
    starts = [[name, f"{r['load_ms']:.0f}", f"{r['init_ms']:.1f}", f"{r['first_frame_ms']:.1f}",
               f"{r['same_boxes_iou']:.6f}", r["description"]] for name, r in results.items()]
    counted = min(r["frames"] for r in results.values())
    few = f"\nonly {counted} frames were counted: take {ENOUGH_FRAMES} or more before you quote anything" \
        if counted < ENOUGH_FRAMES else ""
    torch_note = ", which is the PyTorch reference" if report["reference"] == TORCH else ""
    return "\n\n".join([
        machine_line(report["machine"]),
        f"{report['clip']}, {size[0]} x {size[1]}, {counted} frames counted per backend, in turns of "
        f"{report['block']}; ratio to {report['reference']}{torch_note}{few}",
        format_table(["backend", "fps", "p50 ms", "p90 ms", "p99 ms", "ratio", "quartiles over turns"], rows),
        "median ms per stage\n" + format_table(["backend", *STAGES], stages),
        "apart from that\n" + format_table(
            ["backend", "load ms", "template ms", "first frame ms", "IoU with reference", ""], starts)])
