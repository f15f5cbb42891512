"""``spm-bench lost``: how well the tracker's scores tell lost from found."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_rt.bundle import Bundle
from spm_rt.errors import SettingsError, SourceError
from spm_rt.media.clips import find_sequences
from spm_rt.terminal import Progress, format_table

from ..common import DEFAULT_BUNDLE, add_run_options, check_name, clip_length, load_tracker, positive, set_threads
from ..quality.metrics import Roc, rates_at, roc
from ..quality.placements import SOURCES, Placement, collect
from ..report.plots import make_folder, plot_curves, plot_histograms

DESCRIPTION = """How well the tracker's scores tell lost from found: free runs, wrong places in the same frame, and
targets looked for in another clip. A frame counts as lost where its box overlaps the true one by less than 0.2. CLIPS
is a folder of clips (OTB, GOT-10k or VOT layout), or a packed set (tracks.json and frames.bin). Thresholds are
settings: take clips that you do not score on."""
EPILOG = """The recommended threshold is the lowest one of `score` whose balanced accuracy is within 0.01 of the best:
the optimum is flat, and targets score lower on clips that the weights were not trained on. It goes into a bundle's
settings as found_threshold.

examples:
  spm-bench lost CLIPS --bundle spm_alexnet --out lost
  spm-bench lost PACKED --frames 30 --json
"""

LOST_UNDER = 0.2
CLOSE_TO_BEST = 0.01
"""Of balanced accuracy: thresholds this close to the best one are as good."""
MEASURES: dict[str, Callable[[Any], Any]] = {
    "score": lambda p: p.score,
    "coarse_score": lambda p: p.coarse,
    "fine_score": lambda p: p.fine,
    "smaller of both": lambda p: min(p.coarse, p.fine),
    "geometric mean": lambda p: (p.coarse * p.fine) ** 0.5,
    "score - best rival": lambda p: p.score - p.rival,
    "score - half the rival": lambda p: p.score - 0.5 * p.rival,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("clips", help="folder of clips with ground truth, or a packed set")
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, help=f"the bundle's folder (default: {DEFAULT_BUNDLE})")
    parser.add_argument("--backend", default="auto", metavar="NAME", help="what runs it (default: auto)")
    parser.add_argument("--frames", type=clip_length, metavar="N", help="at most so many frames of each clip")
    parser.add_argument(
        "--forced",
        type=positive,
        default=6,
        metavar="N",
        help="wrong places, and frames of another clip, per clip (default 6)",
    )
    parser.add_argument("--out", metavar="FOLDER", help="write lost.csv (every frame), lost_roc.png, lost_scores.png")
    add_run_options(parser)


def run(options: argparse.Namespace) -> int:
    set_threads(options.threads)
    bundle = Bundle.open(options.bundle)
    if bundle.settings.mode != "series-parallel":
        raise SettingsError(
            f"{bundle.path} is set to mode {bundle.settings.mode!r}; only series-parallel has all scores"
        )
    tracker = load_tracker(
        bundle,
        check_name(options.backend),
        device=options.device,
        threads=options.threads,
        checkpoint=options.checkpoint,
    )
    clips = find_sequences(options.clips)
    out = make_folder(options.out) if options.out else None
    bar = Progress("clips", len(clips), quiet=options.quiet)
    placements = collect(tracker, clips, limit=options.frames, forced=options.forced, step=bar.step)
    bar.close()
    if out:
        write_rows(out / "lost.csv", placements)
    report = analyse(placements, bundle.settings.found_threshold)
    if out:
        plot(out, placements, report)
    print(json.dumps(report, indent=1) if options.json else lost_text(report, tracker.backend.description, out))
    return 0


def analyse(placements: Sequence[Placement], threshold: float) -> dict[str, Any]:
    """Figures of every measure, over all frames and per source of the lost ones, as JSON types.

    Raises:
        SourceError: no frame is lost, or none is found: there is nothing to tell apart.
    """
    found = np.array([p.iou >= LOST_UNDER for p in placements], np.bool_)
    if not found.any() or found.all():
        raise SourceError(
            f"{int(found.sum())} of {len(found)} frames are found: both kinds are needed, take more clips"
        )
    measures: dict[str, Any] = {}
    for name, measure in MEASURES.items():
        values = np.array([measure(p) for p in placements], np.float64)
        curve = roc(values, found)
        measures[name] = {
            "auc_roc": curve.area,
            "threshold": curve.threshold,
            "found_kept": curve.kept,
            "lost_caught": curve.caught,
            "balanced_accuracy": curve.balanced,
            "auc_roc_by_source": _by_source(values, found, placements),
        }
    scores = np.array([p.score for p in placements], np.float64)
    kept, caught = rates_at(scores, found, threshold)
    return {
        "frames": len(placements),
        "found": int(found.sum()),
        "lost": int((~found).sum()),
        "lost_by_source": {s: sum(p.source == s and p.iou < LOST_UNDER for p in placements) for s in SOURCES},
        "measures": measures,
        "recommended_found_threshold": recommend(scores, found),
        "current": {"found_threshold": threshold, "found_kept": kept, "lost_caught": caught},
        "at": {
            f"{t:.2f}": dict(zip(("found_kept", "lost_caught"), rates_at(scores, found, float(t)), strict=True))
            for t in np.arange(0.1, 0.91, 0.05)
        },
    }


def recommend(scores: NDArray[np.float64], found: NDArray[np.bool_]) -> float:
    """The lowest threshold, in steps of 0.01, whose balanced accuracy is within ``CLOSE_TO_BEST`` of the best."""
    steps = np.round(np.arange(0, 1.001, 0.01), 2)
    balanced = np.array([sum(rates_at(scores, found, float(t))) / 2 for t in steps])
    return float(steps[np.argmax(balanced >= balanced.max() - CLOSE_TO_BEST)])


def _by_source(
    values: NDArray[np.float64], found: NDArray[np.bool_], placements: Sequence[Placement]
) -> dict[str, float]:
    """All found frames against the lost ones of one source at a time."""
    areas = {}
    for source in SOURCES:
        use = found | np.array([p.source == source for p in placements])
        if (~found[use]).any():
            areas[source] = roc(values[use], found[use]).area
    return areas


def lost_text(report: dict[str, Any], backend: str, out: Path | None) -> str:
    """The report for people."""
    rows = [
        [
            name,
            f"{m['auc_roc']:.3f}",
            *(f"{m['auc_roc_by_source'].get(s, float('nan')):.3f}" for s in SOURCES),
            f"{m['threshold']:.3f}",
            f"{m['found_kept']:.1%}",
            f"{m['lost_caught']:.1%}",
            f"{m['balanced_accuracy']:.3f}",
        ]
        for name, m in report["measures"].items()
    ]
    at = [[t, f"{r['found_kept']:.1%}", f"{r['lost_caught']:.1%}"] for t, r in report["at"].items()]
    now, lost = report["current"], report["lost_by_source"]
    return "\n\n".join(
        [
            f"{backend}\n{report['found']} frames found, {report['lost']} lost ("
            + ", ".join(f"{s}: {n}" for s, n in lost.items())
            + f"); lost means an overlap under {LOST_UNDER}",
            format_table(
                ["measure", "AUC-ROC", *SOURCES, "best threshold", "found kept", "lost caught", "balanced"], rows
            ),
            format_table(["score over", "found kept", "lost caught"], at),
            f"found_threshold is {now['found_threshold']:g}: keeps {now['found_kept']:.1%} of the found, catches "
            f"{now['lost_caught']:.1%} of the lost; recommended: {report['recommended_found_threshold']:.2f}"
            + (f"\nwrote {out}" if out else ""),
        ]
    )


def plot(out: Path, placements: Sequence[Placement], report: dict[str, Any]) -> None:
    found = np.array([p.iou >= LOST_UNDER for p in placements], np.bool_)
    curves: dict[str, Roc] = {
        name: roc(np.array([measure(p) for p in placements], np.float64), found) for name, measure in MEASURES.items()
    }
    chosen = report["recommended_found_threshold"]
    kept, caught = rates_at(np.array([p.score for p in placements], np.float64), found, chosen)
    lines = {f"{name} ({c.area:.3f})": (c.rates[:, 0], c.rates[:, 1]) for name, c in curves.items()}
    plot_curves(
        out / "lost_roc.png",
        lines,
        title="Telling found from lost",
        x="lost frames taken for found",
        y="found frames kept",
        marks={f"score at {chosen:.2f}": (1 - caught, kept)},
    )
    scores = np.array([p.score for p in placements])
    plot_histograms(
        out / "lost_scores.png",
        {"found": scores[found], "lost": scores[~found]},
        title="Score of found and lost frames",
        x="score",
        bins=np.linspace(0, 1, 41).tolist(),
        line=chosen,
    )


def write_rows(path: Path, placements: Sequence[Placement]) -> None:
    """Every frame as a row of CSV."""
    try:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow([field.name for field in dataclasses.fields(Placement)])
            writer.writerows(dataclasses.astuple(p) for p in placements)
    except OSError as error:
        raise SourceError(f"{path}: cannot be written ({error.strerror})") from error
