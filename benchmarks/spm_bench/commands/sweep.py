"""``spm-bench sweep``: speed against drift, over backends, precisions, threads and numbers of targets."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from collections.abc import Sequence
from typing import Any

from spm_rt.backends import available
from spm_rt.bundle import Bundle
from spm_rt.errors import BackendError, SpmError
from spm_rt.frame.geometry import iou
from spm_rt.precision import precision_argument
from spm_rt.results import Box
from spm_rt.terminal import Progress
from spm_rt.trackers.compare import center_distances, follow_both
from spm_rt.trackers.single import Tracker

from ..common import (
    TORCH,
    Entry,
    Frame,
    add_clip_options,
    add_turn_options,
    clip_length,
    default_threads,
    load_clip,
    load_tracker,
    parse_entry,
    positive,
    set_threads,
)
from ..report.plots import make_folder, pareto_front
from ..report.sweep_report import FLOOR, sweep_text, write_report
from ..timing.gemm import Calibration
from ..timing.machine import describe_machine
from ..timing.several import Together, load_many, overlaps, spread_boxes
from ..timing.turns import Contestant, interleave, summarize
from ..timing.verdict import PARITY_FRAMES, judge, least_iou, turn_spread

DESCRIPTION = """Every combination of the bundles, backends, precisions, threads and numbers of targets that are named:
how fast, and how far from float32. Writes sweep.html (one page, to be sent to somebody), pareto.png, results.json."""
EPILOG = """speed: against the reference (the first float32 bundle on the first backend, with the first number of
threads, one target), which takes part in every group that is measured in turns; times the number of targets. drift:
1 - mean IoU with the reference's boxes over the clip, each frame from the reference's last box. A precision other than
float32 is asked of the backend and goes with float32 bundles; an int8 bundle is int8 by itself. What a backend refuses
is listed with its reason.

examples:
  spm-bench sweep spm_alexnet --threads 1 2 --out sweep
  spm-bench sweep spm_alexnet spm_int8 --backend onnxruntime openvino --precision float32 bfloat16 --out sweep
  spm-bench sweep spm_many --targets 1 2 4 8 --out sweep
"""


@dataclasses.dataclass(frozen=True)
class Choice:
    """One combination."""

    entry: Entry
    threads: int
    targets: int

    @property
    def name(self) -> str:
        return f"{self.entry.label}, {self.threads} thread{'s' * (self.threads > 1)}" + f", {self.targets} targets" * (
            self.targets > 1
        )


@dataclasses.dataclass
class Loaded:
    """A choice that could be loaded."""

    choice: Choice
    contestant: Contestant
    drift: dict[str, float | None]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", nargs="+", help="folders of bundles; drift is from the first float32 one")
    parser.add_argument("--backend", nargs="+", metavar="NAME", help="default: all that are installed")
    parser.add_argument(
        "--precision",
        nargs="+",
        type=precision_argument,
        default=["float32"],
        metavar="NAME",
        help="float32, bfloat16, ... (default float32)",
    )
    parser.add_argument(
        "--threads",
        nargs="+",
        type=positive,
        default=[default_threads()],
        metavar="N",
        help="threads per inference call (default: 2, or 1 on one core)",
    )
    parser.add_argument(
        "--targets",
        nargs="+",
        type=positive,
        default=[1],
        metavar="N",
        help="numbers of targets on the same frames (default 1)",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where to write the page, the plot and the data")
    add_clip_options(parser)
    parser.add_argument(
        "--frames", type=positive, default=60, metavar="N", help="frames counted per combination (default 60)"
    )
    add_turn_options(parser)
    parser.add_argument(
        "--drift-frames",
        type=clip_length,
        default=100,
        metavar="N",
        help="frames of the clip on which the drift is measured (default 100)",
    )
    parser.add_argument(
        "--together",
        type=positive,
        default=4,
        metavar="N",
        help="combinations that are loaded and "
        "take turns at a time, besides the reference (default 4); fewer need less memory",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default cpu)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(options: argparse.Namespace) -> int:
    bundles = [Bundle.open(path) for path in options.bundle]
    choices = all_choices(bundles, options.backend or available(), options.precision, options.threads, options.targets)
    folder = make_folder(options.out)
    frames, box, clip = load_clip(options.clip, options.box)
    facts = describe_machine()
    calibration, reference = Calibration(), choices[0]
    found: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}
    started = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    for group in all_groups(choices, options.together):
        measured, failed = _measure_group(reference, group, options, frames, box, calibration)
        for name, figures in measured.items():
            found.setdefault(name, figures)
        refused |= failed
    report = {
        "choices": found,
        "refused": refused,
        "reference": reference.name,
        "clip": clip,
        "started": started,
        "frame_size": [frames[0].shape[1], frames[0].shape[0]],
        "drift_frames": options.drift_frames,
        "bundles": {str(b.path.name): _about(b) for b in bundles},
        "block": options.block,
        "machine": facts,
        "noise": {"calibration_spread": calibration.spread()},
    }
    reasons = judge(found, calibration.spread(), ("float32",))
    if len({b.manifest["checkpoint"]["sha256"] for b in bundles}) > 1:
        reasons.append("the bundles have different weights: the drift between them is not one of precision")
    report["verdict"] = {"valid": not reasons, "reasons": reasons}
    best = pareto_front(
        [
            (name, f["speed"], max(f["drift"], FLOOR))
            for name, f in found.items()
            if f["targets"] == 1 and f["within_bound"]
        ]
    )
    report["best"] = [name for name, _, _ in best]
    written = write_report(report, folder)
    print(json.dumps(report, indent=1) if options.json else sweep_text(report, written))
    return 1 if reasons else 0


def _about(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "precision": manifest.get("precision", "float32"),
        "checkpoint": manifest["checkpoint"]["sha256"],
        "targets": list(bundle.targets),
    }


def all_choices(
    bundles: Sequence[Bundle],
    backends: Sequence[str],
    precisions: Sequence[str],
    threads: Sequence[int],
    targets: Sequence[int],
) -> list[Choice]:
    """Every combination that means something, the reference first.

    Raises:
        BackendError: PyTorch is among the backends, or no bundle is of float32.
    """
    if TORCH in backends:
        raise BackendError(
            f"{TORCH} has one number of threads for the whole process: `spm-bench latency --against "
            f"{TORCH}` measures it"
        )
    if len({bundle.path.name for bundle in bundles}) < len(bundles):
        raise BackendError("two of the bundles have folders of the same name: results would not tell them apart")
    entries = []
    for bundle in sorted(bundles, key=lambda b: b.manifest.get("precision", "float32") != "float32"):
        plain = bundle.manifest.get("precision", "float32") == "float32"
        # float32 is what every backend computes unless it is told otherwise; other bundles have theirs built in.
        for precision in sorted(precisions, key=lambda p: p != "float32") if plain else ["float32"]:
            suffix = "" if precision == "float32" else f":{precision}"
            for backend in backends:
                text = f"{backend}{suffix}" + (f"@{bundle.path}" if bundle is not bundles[0] else "")
                entries.append(parse_entry(text, bundle))
    if not entries or entries[0].precision != "float32":
        raise BackendError("drift is measured from float32: name a float32 bundle, and float32 among the precisions")
    choices = [Choice(*c) for c in itertools.product(entries, dict.fromkeys(threads), dict.fromkeys(sorted(targets)))]
    reference = Choice(entries[0], threads[0], 1)
    return list({choice.name: choice for choice in [reference, *choices]}.values())


def all_groups(choices: Sequence[Choice], together: int) -> list[list[Choice]]:
    """What is loaded and measured at a time: few enough for the memory, all with the same number of threads."""
    groups: list[list[Choice]] = [] if len(choices) > 1 else [[]]
    for threads in dict.fromkeys(choice.threads for choice in choices):
        alike = [choice for choice in choices[1:] if choice.threads == threads]
        groups += [alike[k : k + together] for k in range(0, len(alike), together)]
    return groups


def _measure_group(
    reference: Choice,
    group: Sequence[Choice],
    options: argparse.Namespace,
    frames: list[Frame],
    box: Box,
    calibration: Calibration,
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Load the reference and the group's choices, let them take turns; figures, and the reasons of refusals."""
    set_threads(group[0].threads if group else reference.threads)
    base = _load_one(reference, options)
    loaded = [Loaded(reference, Contestant.start(reference.name, lambda: base, frames, box), _same())]
    refused = {}
    bar = Progress("loading, drift", len(group), quiet=options.quiet)
    for choice in group:
        try:
            loaded.append(_load(choice, base, options, frames, box))
        except SpmError as error:
            refused[choice.name] = str(error)
        bar.step()
    bar.close()
    if group and len(loaded) == 1:
        return {}, refused
    contestants = [one.contestant for one in loaded]
    interleave(
        contestants,
        options.frames,
        options.block,
        options.pause,
        quiet=options.quiet,
        between=lambda done: calibration.visit(),
    )
    results = summarize(contestants)
    for one in loaded:
        figures, choice = results[one.choice.name], one.choice
        least = least_iou(choice.entry.precision)
        figures |= {
            **one.drift,
            "within_bound": (one.drift["forced_iou"] or 0.0) >= least,
            "bundle": choice.entry.bundle.path.name,
            "backend": choice.entry.backend,
            "precision": choice.entry.precision,
            "threads": choice.threads,
            "targets": choice.targets,
            "turn_spread": turn_spread(one.contestant),
            "speed": figures["ratio"] * choice.targets,
            "ms_per_target": figures["p50_ms"] / choice.targets,
        }
    return results, refused


def _load_one(choice: Choice, options: argparse.Namespace) -> Tracker:
    entry = choice.entry
    return load_tracker(
        entry.bundle, entry.backend, device=options.device, threads=choice.threads, precision=entry.asked
    )


def _load(choice: Choice, base: Tracker, options: argparse.Namespace, frames: list[Frame], box: Box) -> Loaded:
    """Load a choice and measure its drift from the reference's tracker."""
    if choice.targets == 1:
        tracker = _load_one(choice, options)
        contestant = Contestant.start(choice.name, lambda: tracker, frames, box)
        return Loaded(choice, contestant, _drift(base, tracker, frames[: options.drift_frames], box))
    many = load_many(choice.entry, choice.targets, device=options.device, threads=choice.threads)
    found = overlaps(
        base, many.sibling(), frames[: min(PARITY_FRAMES + 1, options.drift_frames)], spread_boxes(box, choice.targets)
    )
    contestant = Contestant.start(choice.name, lambda: Together(many, choice.targets), frames, box)
    return Loaded(
        choice,
        contestant,
        {
            "forced_iou": float(found.mean()),
            "drift": 1 - float(found.mean()),
            "lowest_iou": float(found.min()),
            "center_px": None,
            "free_iou": None,
        },
    )


def _same() -> dict[str, float | None]:
    return {"forced_iou": 1.0, "drift": 0.0, "lowest_iou": 1.0, "center_px": 0.0, "free_iou": 1.0}


def _drift(base: Tracker, tracker: Tracker, frames: Sequence[Frame], box: Box) -> dict[str, float | None]:
    """How far the boxes are from the reference's: frame by frame from the same box, and in a free run."""
    tracks = follow_both(base.sibling(), tracker.sibling(), frames, box)
    forced = iou(tracks.first, tracks.forced)
    return {
        "forced_iou": float(forced.mean()),
        "drift": 1 - float(forced.mean()),
        "lowest_iou": float(forced.min()),
        "center_px": float(center_distances(tracks.first, tracks.forced).mean()),
        "free_iou": float(iou(tracks.first, tracks.free).mean()),
    }
