"""``spm-bench sweep``: speed against drift, over backends, precisions, threads and numbers of targets."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

from spm_rt.backends import available
from spm_rt.bundle import Bundle
from spm_rt.errors import BackendError, SpmError
from spm_rt.precision import precision_argument
from spm_rt.terminal import WHICH_BUNDLE, Progress, default_bundle
from spm_rt.trackers.single import Tracker

from ..loading import TORCH, Entry, parse_entry, set_threads
from ..options import (
    Outcome,
    add_measurement,
    add_number,
    add_output,
    add_several,
    clip_length,
    default_threads,
)
from ..quality.agreement import PARITY_FRAMES, compare_trackers
from ..report.files import make_folder
from ..report.plots import pareto_front
from ..report.sweep_report import FLOOR, sweep_text, write_report
from ..timing.measurement import Measurement
from ..timing.several import Together, compare_several, load_several, spread_boxes
from ..timing.turns import Contestant
from ..timing.verdict import least_iou

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
class Combination:
    """A backend on a bundle, with a number of threads and of targets."""

    entry: Entry
    threads: int
    targets: int

    @property
    def name(self) -> str:
        return f"{self.entry.label}, {self.threads} thread{'s' * (self.threads > 1)}" + f", {self.targets} targets" * (
            self.targets > 1
        )

    def facts(self, drift: Mapping[str, float | None]) -> dict[str, Any]:
        """What is known of it beside its times."""
        return {
            **drift,
            "drift": 1 - (drift["forced_iou"] or 0.0),
            "within_bound": (drift["forced_iou"] or 0.0) >= least_iou(self.entry.precision),
            "bundle": self.entry.bundle.path.name,
            "backend": self.entry.backend,
            "precision": self.entry.precision,
            "threads": self.threads,
            "targets": self.targets,
        }


def add_options(parser: argparse.ArgumentParser) -> None:
    bundles = f"folders of bundles; drift is from the first float32 one {WHICH_BUNDLE}"
    parser.add_argument("bundle", nargs="*", default=[default_bundle()], help=bundles)
    parser.add_argument("--backend", nargs="+", metavar="NAME", help="default: all that are installed")
    precisions = "float32, bfloat16, ... (default float32)"
    add_several(parser, "--precision", ["float32"], precisions, "NAME", precision_argument)
    add_several(parser, "--threads", [default_threads()], "threads per inference call (default: 2, or 1 on one core)")
    add_several(parser, "--targets", [1], "numbers of targets on the same frames (default 1)")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where to write the page, the plot and the data")
    add_measurement(parser, 60, "per combination")
    add_number(parser, "--drift-frames", 100, "frames of the clip on which the drift is measured", kind=clip_length)
    what = "combinations that are loaded and take turns at a time, besides the reference; fewer need less memory"
    add_number(parser, "--together", 4, what)
    add_output(parser)


def run(options: argparse.Namespace) -> Outcome:
    bundles = [Bundle.open(path) for path in options.bundle]
    combinations = all_combinations(
        bundles, options.backend or available(), options.precision, options.threads, options.targets
    )
    folder = make_folder(options.out)
    measurement, reference = Measurement(options), combinations[0]
    results: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}
    started = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    for group in all_groups(combinations, options.together):
        measured, failed = _measure_group(reference, group, measurement)
        for name, figures in measured.items():
            results.setdefault(name, figures)
        refused |= failed
    other_weights = len({b.manifest["checkpoint"]["sha256"] for b in bundles}) > 1
    doubt = "the bundles have different weights: the drift between them is not one of precision"
    fair = {name: f for name, f in results.items() if f["targets"] == 1 and f["within_bound"]}
    best = pareto_front([(name, f["speed"], max(f["drift"], FLOOR)) for name, f in fair.items()])
    report = {
        "choices": results,
        "refused": refused,
        "reference": reference.name,
        "started": started,
        "drift_frames": options.drift_frames,
        "bundles": {
            b.path.name: {
                "precision": b.precision,
                "checkpoint": b.manifest["checkpoint"]["sha256"],
                "targets": list(b.targets),
            }
            for b in bundles
        },
        **measurement.report(results, ("float32",), [doubt] if other_weights else []),
        "best": [name for name, _, _ in best],
    }
    written = write_report(report, folder)
    return Outcome(report, lambda: sweep_text(report, written), report["verdict"]["valid"])


def all_combinations(
    bundles: Sequence[Bundle],
    backends: Sequence[str],
    precisions: Sequence[str],
    threads: Sequence[int],
    targets: Sequence[int],
) -> list[Combination]:
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
    for bundle in sorted(bundles, key=lambda b: b.precision != "float32"):
        plain = bundle.precision == "float32"
        # float32 is what every backend computes unless it is told otherwise; other bundles have theirs built in.
        for precision in sorted(precisions, key=lambda p: p != "float32") if plain else ["float32"]:
            suffix = "" if precision == "float32" else f":{precision}"
            for backend in backends:
                text = f"{backend}{suffix}" + (f"@{bundle.path}" if bundle is not bundles[0] else "")
                entries.append(parse_entry(text, bundle))
    if not entries or entries[0].precision != "float32":
        raise BackendError("drift is measured from float32: name a float32 bundle, and float32 among the precisions")
    products = itertools.product(entries, dict.fromkeys(threads), dict.fromkeys(sorted(targets)))
    combinations = [Combination(entries[0], threads[0], 1), *(Combination(*product) for product in products)]
    return list({combination.name: combination for combination in combinations}.values())


def all_groups(combinations: Sequence[Combination], together: int) -> list[list[Combination]]:
    """What is loaded and measured at a time: few enough for the memory, all with the same number of threads."""
    groups: list[list[Combination]] = [] if len(combinations) > 1 else [[]]
    for threads in dict.fromkeys(combination.threads for combination in combinations):
        alike = [combination for combination in combinations[1:] if combination.threads == threads]
        groups += [alike[k : k + together] for k in range(0, len(alike), together)]
    return groups


def _measure_group(
    reference: Combination, group: Sequence[Combination], measurement: Measurement
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Load the reference and the group, let them take turns; figures, and the reasons of refusals."""
    set_threads(group[0].threads if group else reference.threads)
    base = reference.entry.load(measurement.options, reference.threads)
    same = {"forced_iou": 1.0, "lowest_iou": 1.0, "center_px": 0.0, "free_iou": 1.0}
    loaded = {reference.name: (measurement.start(reference.name, lambda: base), reference.facts(same))}
    refused = {}
    bar = Progress("loading, drift", len(group), quiet=measurement.options.quiet)
    for combination in group:
        try:
            loaded[combination.name] = _load(combination, base, measurement)
        except SpmError as error:
            refused[combination.name] = str(error)
        bar.step()
    bar.close()
    if group and len(loaded) == 1:
        return {}, refused
    results = measurement.take_turns([contestant for contestant, _ in loaded.values()])
    for name, (_, facts) in loaded.items():
        figures, targets = results[name], facts["targets"]
        figures |= {**facts, "speed": figures["ratio"] * targets, "ms_per_target": figures["p50_ms"] / targets}
    return results, refused


def _load(combination: Combination, base: Tracker, measurement: Measurement) -> tuple[Contestant, dict[str, Any]]:
    """Load a combination and measure its drift from the reference's tracker."""
    options, frames, box = measurement.options, measurement.frames, measurement.box
    entry, targets = combination.entry, combination.targets
    if targets == 1:
        tracker = entry.load(options, combination.threads)
        contestant = measurement.start(combination.name, lambda: tracker)
        agreement = compare_trackers(base, tracker, frames[: options.drift_frames], box)
        free = {"center_px": agreement.mean_distance, "free_iou": agreement.free_iou}
        drift = {"forced_iou": agreement.mean_iou, "lowest_iou": agreement.min_iou, **free}
        return contestant, combination.facts(drift)
    multi = load_several(entry, targets, options.device, combination.threads)
    compared = frames[: min(PARITY_FRAMES + 1, options.drift_frames)]
    summary = compare_several(base, multi, compared, spread_boxes(box, targets))
    contestant = measurement.start(combination.name, lambda: Together(multi, targets))
    return contestant, combination.facts({**summary, "center_px": None, "free_iou": None})
