"""``spm-bench host``: the host's part of a frame, over sizes of frames and targets."""

from __future__ import annotations

import argparse
import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spm_rt.bundle import Bundle
from spm_rt.frame.crop import sample_region
from spm_rt.frame.steps import compiled_propose
from spm_rt.results import Box
from spm_rt.terminal import Progress, whole_number
from spm_rt.trackers.single import Tracker

from ..loading import Entry, load_clip, set_threads
from ..options import Outcome, add_bundle, add_clip_options, add_number, add_run_options, add_several
from ..tables import table

DESCRIPTION = """What the host does in a frame apart from the network: crop, proposals, fusion and the rest, measured
inside the running tracker (between the network's calls, where nothing of it is in the caches). The clip's frames are
scaled to each size; the box is put back to its place before every frame."""
EPILOG = """examples:
  spm-bench host spm_alexnet
  spm-bench host spm_alexnet --sizes 640x480 --targets 40 400 --frames 100 --json
"""
STAGES = ("host", "crop", "proposals", "fusion", "rest")
Size = tuple[int, int]


def add_options(parser: argparse.ArgumentParser) -> None:
    add_bundle(parser)
    parser.add_argument("--backend", default="auto", metavar="NAME", help="inference library (default auto)")
    sizes = "sizes of frames (default 640x480 3840x2160)"
    add_several(parser, "--sizes", [(640, 480), (3840, 2160)], sizes, "WxH", frame_size)
    sides = "sides of targets (default 40 120 400); each in the middle, the smallest in a corner too"
    add_several(parser, "--targets", [40, 120, 400], sides, "PIXELS")
    add_number(parser, "--frames", 50, "frames per row")
    add_clip_options(parser)
    add_run_options(parser)


def run(options: argparse.Namespace) -> Outcome:
    bundle = Bundle.open(options.bundle)
    clip, _, _ = load_clip(options.clip, options.box, 12)
    set_threads(options.threads)
    tracker = Entry("", options.backend, None, bundle).load(options)
    cases = [(size, side, position) for size in options.sizes for side, position in target_positions(options.targets)]
    bar = Progress("measuring", len(cases) * options.frames, quiet=options.quiet or options.json)
    rows = []
    for size, side, position in cases:
        frames = [cv2.resize(frame, size) for frame in clip]
        stages = measure(tracker, frames, box_at(size, side, position), options.frames, bar.step)
        rows.append({"frame": f"{size[0]}x{size[1]}", "target": side, "place": position, **stages})
    bar.close()
    report = {
        "backend": tracker.backend.description,
        "c_modules": sample_region is not None and compiled_propose is not None,
        "frames": options.frames,
        "rows": rows,
    }
    return Outcome(report, lambda: host_text(report))


def measure(tracker: Tracker, frames: list[NDArray[Any]], box: Box, count: int, step: Any) -> dict[str, float]:
    """Median milliseconds of the host's stages and of their sum, over ``count`` frames after two uncounted ones."""
    tracker.init(frames[0], box)
    times = []
    for number in range(count + 2):
        tracker.move_to(box)
        marks = [time.perf_counter()]

        def clock(stage: str, marks: list[float] = marks) -> None:
            marks.append(time.perf_counter())

        tracker.update(frames[number % len(frames)], clock=clock)
        clock("rest")
        if number >= 2:
            crop, _, proposals, _, fusion, rest = np.diff(marks)
            times.append((crop + proposals + fusion + rest, crop, proposals, fusion, rest))
            step()
    return dict(zip((f"{s}_ms" for s in STAGES), (np.median(times, axis=0) * 1e3).tolist(), strict=True))


def target_positions(sides: list[int]) -> list[tuple[int, str]]:
    return [*((side, "middle") for side in sides), (min(sides), "corner")]


def box_at(size: Size, side: int, position: str) -> Box:
    """The target's box; in the corner, most of the crop lies outside the frame."""
    width, height = min(side, size[0]), min(side, size[1])
    if position == "corner":
        return 0.0, 0.0, float(width), float(height)
    return (size[0] - width) / 2, (size[1] - height) / 2, float(width), float(height)


def frame_size(text: str) -> Size:
    """``WxH`` as two numbers, for argparse."""
    width, _, height = text.partition("x")
    side = whole_number(2)
    return side(width), side(height)


def host_text(report: dict[str, Any]) -> str:
    """The report for people."""
    times = "".join(f"| {stage} {{{stage}_ms:.3f}}" for stage in STAGES)
    how = "with the C modules" if report["c_modules"] else "without the C modules (built without a compiler)"
    return f"{report['backend']}, {how}; median ms of {report['frames']} frames\n\n" + table(
        "frame {frame} | target {target} | place {place}" + times, report["rows"]
    )
