"""``spm-bench targets``: what a target costs where several are followed in one call, against one tracker each."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from spm_rt.bundle import Bundle
from spm_rt.errors import BackendError
from spm_rt.trackers.single import Tracker

from ..loading import TORCH, Entry, parse_entry, set_threads
from ..options import Outcome, add_bundle, add_measurement, add_out, add_run_options, add_several
from ..profiling.hooks import profiler_hooks
from ..quality.agreement import PARITY_FRAMES
from ..report.files import make_folder, write_json
from ..report.plots import plot_targets
from ..tables import table
from ..timing.gemm import Peaks
from ..timing.machine import machine_line
from ..timing.measurement import Measurement
from ..timing.roofline import shares_text, speed, stage_shares
from ..timing.several import Apart, Together, compare_several, load_several, spread_boxes
from ..timing.verdict import verdict_line

DESCRIPTION = """The curve of cost per target: N targets on the same frames by one MultiTracker, and by N single
trackers one after the other, in turns. The targets are the clip's, moved by up to a fifth of its size. Results are
compared: both give the same boxes, or the run is INVALID."""
EPILOG = """of N x one: the MultiTracker's time for N targets over N times the single tracker's for one. Under 100 % the
targets share something: kernels that are read once for all, and rows enough to fill the multipliers. apart: the same
for N single trackers. of peak: multiply-adds a second over those of the best matrix product of the run: where one
target is near the peak by itself, more of them cannot be much cheaper. The bundle's graphs decide how many
targets go into a call: `spm-export --targets 1,2,4,8,16`.

examples:
  spm-bench targets spm_many
  spm-bench targets spm_many --backend openvino --targets 1 4 8 --out results
"""
CURVE = """targets {targets} | together ms {together[p50_ms]:.2f} | apart ms {apart[p50_ms]:.2f}
    | ms per target {ms_per_target:.2f} | of N x one {of_n_times_one:.1%} | apart {apart_of_n_times_one:.1%}
    | gain {gain:.2f}x | quartiles over turns {gain_spread[0]:.2f} to {gain_spread[1]:.2f}
    | GMAC/s {roofline[gmac_per_s]:.1f} | of peak {roofline[share]:.1%} | lowest IoU {together[lowest_iou]:.6f}"""


def add_options(parser: argparse.ArgumentParser) -> None:
    add_bundle(parser)
    parser.add_argument("--backend", default="auto", metavar="NAME", help="onnxruntime, openvino, ... (default: auto)")
    add_several(parser, "--targets", [1, 2, 4, 8, 16], "numbers of targets (default 1 2 4 8 16)")
    add_measurement(parser, 50, "per number of targets", block=5)
    add_out(parser, "write targets.png and targets.json there")
    add_run_options(parser)


def run(options: argparse.Namespace) -> Outcome:
    entry = parse_entry(options.backend, Bundle.open(options.bundle), device=options.device, threads=options.threads)
    if entry.backend == TORCH:
        raise BackendError(f"{TORCH} follows one target: name one of the bundle's backends")
    folder = make_folder(options.out) if options.out else None
    measurement = Measurement(options, options.threads)
    set_threads(options.threads)
    peaks = Peaks(options.threads, (entry.precision,))
    peaks.visit()
    with profiler_hooks() as hooks:
        single = entry.load(options)
    ms_of_one, curve = None, []
    for count in sorted({1, *options.targets}):
        measured = _measure(entry, single, count, measurement)
        peaks.visit()
        ms_of_one = ms_of_one or measured["apart"]["p50_ms"]
        curve.append(_row(count, measured, ms_of_one))
    both = {"search": 1.0, "relation": 1.0}
    shares = stage_shares(hooks.graphs, both, entry, peaks)
    for row in curve:
        row["roofline"] = None
        if shares:
            work = round(shares["frame"]["mmac"] * 1e6) * row["targets"]
            row["roofline"] = speed(work, row["together"]["p50_ms"], peaks.peak(entry.precision))
    report = {
        "backend": entry.label,
        "description": single.backend.description,
        "curve": curve,
        "graphs_for": list(entry.bundle.targets),
        "bundle": str(options.bundle),
        "peaks": peaks.report(),
        **measurement.report({f"{row['targets']} targets": row["together"] for row in curve}),
    }
    if folder:
        _write(report, folder)
    return Outcome(report, lambda: targets_text(report), report["verdict"]["valid"])


def _measure(entry: Entry, single: Tracker, count: int, measurement: Measurement) -> dict[str, dict[str, Any]]:
    """Both ways with ``count`` targets, in turns; and whether they find the same."""
    multi = load_several(entry, count, measurement.options.device, measurement.options.threads)
    boxes = spread_boxes(measurement.box, count)
    summary = compare_several(single, multi, measurement.frames[: PARITY_FRAMES + 1], boxes)
    contestants = [
        measurement.start("apart", lambda: Apart(single, count)),
        measurement.start("together", lambda: Together(multi, count)),
    ]
    results = measurement.take_turns(contestants)
    results["together"] |= {**summary, "precision": entry.precision}
    return results


def _row(count: int, measured: dict[str, dict[str, Any]], ms_of_one: float) -> dict[str, Any]:
    """One point of the curve; ``ms_of_one`` is the single tracker's time for one target."""
    together, apart = measured["together"], measured["apart"]
    # Turn by turn, both in the same minute; then against one target, which was measured at another time.
    return {
        "targets": count,
        "together": together,
        "apart": apart,
        "ms_per_target": together["p50_ms"] / count,
        "apart_ms_per_target": apart["p50_ms"] / count,
        "of_n_times_one": together["p50_ms"] / (count * ms_of_one),
        "apart_of_n_times_one": apart["p50_ms"] / (count * ms_of_one),
        "gain": apart["p50_ms"] / together["p50_ms"],
        "gain_spread": together["ratio_spread"],
    }


def targets_text(report: dict[str, Any]) -> str:
    """The report for people."""
    size = report["frame_size"]
    unrated = dict.fromkeys(("gmac_per_s", "share"))
    rows = [{**row, "roofline": row["roofline"] or unrated} for row in report["curve"]]
    graphs = ", ".join(map(str, report["graphs_for"]))
    return "\n\n".join(
        [
            machine_line(report["machine"]),
            f"{report['clip']}, {size[0]} x {size[1]}; {report['description']}; "
            f"the bundle has graphs for {graphs} targets",
            table(CURVE, rows),
            shares_text({}, report["peaks"]),
            verdict_line(report["verdict"]["reasons"]),
        ]
    )


def _write(report: dict[str, Any], folder: Path) -> None:
    write_json(folder / "targets.json", report)
    counts = [row["targets"] for row in report["curve"]]
    lines = {"one MultiTracker": "ms_per_target", "single trackers, one after the other": "apart_ms_per_target"}
    curves = {name: (counts, [row[figure] for row in report["curve"]]) for name, figure in lines.items()}
    plot_targets(folder / "targets.png", curves, f"Cost of a target, {report['backend']}")
