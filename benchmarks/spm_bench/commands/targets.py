"""``spm-bench targets``: what a target costs where several are followed in one call, against one tracker each."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from spm_rt.bundle import Bundle
from spm_rt.errors import BackendError
from spm_rt.results import Box
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
from ..profiling.hooks import watching
from ..report.files import write_json
from ..report.plots import make_folder, plot_curves
from ..timing.gemm import Calibration, Peaks
from ..timing.machine import describe_machine, machine_line
from ..timing.roofline import percent, shares_text, speed, stage_shares
from ..timing.several import Apart, Together, load_many, overlaps, spread_boxes
from ..timing.turns import Contestant, interleave, summarize
from ..timing.verdict import PARITY_FRAMES, judge, turn_spread, verdict_line

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


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument("--backend", default="auto", metavar="NAME", help="onnxruntime, openvino, ... (default: auto)")
    parser.add_argument(
        "--targets",
        nargs="+",
        type=positive,
        default=[1, 2, 4, 8, 16],
        metavar="N",
        help="numbers of targets (default 1 2 4 8 16)",
    )
    add_clip_options(parser)
    parser.add_argument(
        "--frames", type=positive, default=50, metavar="N", help="frames counted per number of targets (default 50)"
    )
    add_turn_options(parser, block=5)
    parser.add_argument("--out", metavar="FOLDER", help="write targets.png and targets.json there")
    add_run_options(parser)


def run(options: argparse.Namespace) -> int:
    entry = parse_entry(options.backend, Bundle.open(options.bundle), device=options.device, threads=options.threads)
    if entry.backend == TORCH:
        raise BackendError(f"{TORCH} follows one target: name one of the bundle's backends")
    folder = make_folder(options.out) if options.out else None
    frames, box, clip = load_clip(options.clip, options.box)
    set_threads(options.threads)
    facts = describe_machine(options.threads)
    calibration, peaks = Calibration(), Peaks(options.threads, (entry.precision,))
    peaks.visit()
    with watching() as watch:
        single = load_tracker(
            entry.bundle, entry.backend, device=options.device, threads=options.threads, precision=entry.asked
        )
    one, curve = None, []
    for count in sorted({1, *options.targets}):
        measured = _measure(entry, single, count, options, frames, box, calibration)
        peaks.visit()
        one = one or measured["apart"]["p50_ms"]
        curve.append(_row(count, measured, one))
    shares = stage_shares(
        watch.graphs, {"search": 1.0, "relation": 1.0}, entry.bundle.settings.num_candidates, entry.precision, peaks
    )
    for row in curve:
        row["roofline"] = (
            speed(
                round(shares["frame"]["mmac"] * 1e6) * row["targets"],
                row["together"]["p50_ms"],
                peaks.peak(entry.precision),
            )
            if shares
            else None
        )
    reasons = judge({f"{row['targets']} targets": row["together"] for row in curve}, calibration.spread())
    report = {
        "backend": entry.label,
        "description": single.backend.description,
        "curve": curve,
        "clip": clip,
        "frame_size": [frames[0].shape[1], frames[0].shape[0]],
        "graphs_for": list(entry.bundle.targets),
        "bundle": str(options.bundle),
        "block": options.block,
        "peaks": peaks.report(),
        "machine": facts,
        "noise": {"calibration_spread": calibration.spread()},
        "verdict": {"valid": not reasons, "reasons": reasons},
    }
    if folder:
        _write(report, folder)
    print(json.dumps(report, indent=1) if options.json else targets_text(report))
    return 1 if reasons else 0


def _measure(
    entry: Entry,
    single: Tracker,
    count: int,
    options: argparse.Namespace,
    frames: list[Frame],
    box: Box,
    calibration: Calibration,
) -> dict[str, dict[str, Any]]:
    """Both ways with ``count`` targets, in turns; and whether they find the same."""
    many = load_many(entry, count, device=options.device, threads=options.threads)
    found = overlaps(single, many.sibling(), frames[: PARITY_FRAMES + 1], spread_boxes(box, count))
    contestants = [
        Contestant.start("apart", lambda: Apart(single, count), frames, box),
        Contestant.start("together", lambda: Together(many, count), frames, box),
    ]
    interleave(
        contestants,
        options.frames,
        options.block,
        options.pause,
        quiet=options.quiet,
        between=lambda done: calibration.visit(),
    )
    results = summarize(contestants)
    results["together"] |= {
        "forced_iou": float(found.mean()),
        "lowest_iou": float(found.min()),
        "precision": entry.precision,
        "turn_spread": turn_spread(contestants[1]),
    }
    return results


def _row(count: int, measured: dict[str, dict[str, Any]], one: float) -> dict[str, Any]:
    """One point of the curve; ``one`` is the single tracker's time for one target."""
    together, apart = measured["together"], measured["apart"]
    # Turn by turn, both in the same minute; then against one target, which was measured at another time.
    return {
        "targets": count,
        "together": together,
        "apart": apart,
        "ms_per_target": together["p50_ms"] / count,
        "apart_ms_per_target": apart["p50_ms"] / count,
        "of_n_times_one": together["p50_ms"] / (count * one),
        "apart_of_n_times_one": apart["p50_ms"] / (count * one),
        "gain": apart["p50_ms"] / together["p50_ms"],
        "gain_spread": together["ratio_spread"],
    }


def targets_text(report: dict[str, Any]) -> str:
    """The report for people."""
    size = report["frame_size"]
    rows = []
    for row in report["curve"]:
        rated = row["roofline"]
        rows.append(
            [
                str(row["targets"]),
                f"{row['together']['p50_ms']:.2f}",
                f"{row['apart']['p50_ms']:.2f}",
                f"{row['ms_per_target']:.2f}",
                percent(row["of_n_times_one"]),
                percent(row["apart_of_n_times_one"]),
                f"{row['gain']:.2f}x",
                " to ".join(f"{v:.2f}" for v in row["gain_spread"]),
                "-" if rated is None else f"{rated['gmac_per_s']:.1f}",
                percent(rated and rated["share"]),
                f"{row['together']['lowest_iou']:.6f}",
            ]
        )
    table = format_table(
        [
            "targets",
            "together ms",
            "apart ms",
            "ms per target",
            "of N x one",
            "apart",
            "gain",
            "quartiles over turns",
            "GMAC/s",
            "of peak",
            "lowest IoU",
        ],
        rows,
    )
    graphs = ", ".join(map(str, report["graphs_for"]))
    return "\n\n".join(
        [
            machine_line(report["machine"]),
            f"{report['clip']}, {size[0]} x {size[1]}; {report['description']}; "
            f"the bundle has graphs for {graphs} targets",
            table,
            shares_text({}, report["peaks"]),
            verdict_line(report["verdict"]["reasons"]),
        ]
    )


def _write(report: dict[str, Any], folder: Path) -> None:
    write_json(folder / "targets.json", report)
    counts = np.array([row["targets"] for row in report["curve"]])
    curves = {
        "one MultiTracker": (counts, np.array([row["ms_per_target"] for row in report["curve"]])),
        "single trackers, one after the other": (
            counts,
            np.array([row["apart_ms_per_target"] for row in report["curve"]]),
        ),
    }
    plot_curves(
        folder / "targets.png",
        curves,
        title=f"Cost of a target, {report['backend']}",
        x="targets",
        y="ms per target and frame",
        points=True,
    )
