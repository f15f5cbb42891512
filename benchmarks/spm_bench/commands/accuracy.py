"""``spm-bench accuracy``: one-pass evaluation of several trackers on clips with ground truth."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spm_rt.bundle import Bundle
from spm_rt.errors import SourceError
from spm_rt.media.datasets import Sequences, find_sequences
from spm_rt.settings import MODES, RecoverySettings
from spm_rt.terminal import WHICH_BUNDLE, Progress, default_bundle, format_table, real_number, say_left_out
from spm_rt.trackers.single import Tracker

from ..loading import parse_entries, set_threads
from ..options import Outcome, add_clips, add_out, add_run_options, add_several
from ..quality.contenders import Maker, foreign_maker, opencv_maker, own_maker
from ..quality.evaluation import ClipResult, evaluate, grown, mean_curve, summarize
from ..quality.metrics import DISTANCES, OVERLAPS
from ..report.files import make_folder, write_json, writing_to
from ..report.plots import plot_curves
from ..tables import named, table
from ..timing.machine import describe_machine, machine_line

DESCRIPTION = """One-pass evaluation on clips with ground truth (docs/guide/datasets.md has the layouts), several
trackers in one run. AUC is the mean of the success curve over 21 overlap thresholds, precision the share of frames
within 20 px, normalised precision the mean over 51 thresholds up to half the target's size; the first frame counts,
and every clip weighs the same. These are the GOT-10k toolkit's conventions for OTB and LaSOT."""
EPILOG = """examples:
  spm-bench accuracy OTB                                       the bundle spm_alexnet in the current folder
  spm-bench accuracy OTB --backend torch onnxruntime --modes   both, in each of the three modes
  spm-bench accuracy OTB --box-scale 0.8                       boxes around four fifths of the target: are they kept?
  spm-bench accuracy OTB --opencv mil --out results            success.png, precision.png, boxes and results.json
  spm-bench accuracy OTB --tracker nano=my_module:make:v3      an object with init(frame, box), update(frame) -> box,
  score
"""

TRACKERS = """tracker {name} | AUC {auc:.3f} | precision {precision:.3f} | norm. precision {norm_precision:.3f}
    | success > 0.5 {success_rate:.3f} | fps {fps:.1f}"""
PLOTS = (
    ("auc", "success", OVERLAPS, ("Success", "overlap threshold", "share of frames above it")),
    ("precision", "distance", DISTANCES, ("Precision", "distance of the centres, pixels", "share of frames within it")),
)
"""The figure in a plot's legend, the curve, the thresholds that it is over, and the plot's title, x and y."""


def add_options(parser: argparse.ArgumentParser) -> None:
    add_clips(parser)
    bundles = f"bundles to evaluate {WHICH_BUNDLE}; none if only others are asked for"
    add_several(parser, "--bundle", None, bundles, "FOLDER", str)
    backends = "what runs the bundles: auto, torch (the PyTorch reference), onnxruntime, openvino, ...; "
    others = "openvino:bfloat16 at another precision, openvino@FOLDER on another bundle"
    add_several(parser, "--backend", ["auto"], backends + others, "NAME", str)
    what = "each bundle with a way back after a loss, too (docs/guide/recovery.md)"
    parser.add_argument("--recover", action="store_true", help=what)
    parser.add_argument("--modes", action="store_true", help="each bundle in all three modes: " + ", ".join(MODES))
    add_several(parser, "--tracker", [], "further trackers", "[NAME=]module:callable[:argument]", str)
    parser.add_argument("--opencv", default="", metavar="NAME,...", help="OpenCV's: csrt, kcf, mil, mosse, ...")
    parser.add_argument("--only", default="", metavar="CLIP,...", help="these clips alone")
    grown = "grow the first box, and all true ones, about their centres: is a part, or a margin, followed as such?"
    parser.add_argument("--box-scale", type=real_number(above=True), default=1.0, metavar="FACTOR", help=grown)
    add_out(parser, "write results.json, success.png, precision.png, and all boxes")
    add_run_options(parser)


def run(options: argparse.Namespace) -> Outcome:
    set_threads(options.threads)
    clips = find_sequences(options.clips)
    say_left_out(clips.left_out)
    if options.only:
        names = options.only.split(",")
        unknown = sorted(set(names) - {clip.name for clip in clips})
        if unknown:
            raise SourceError(f"{options.clips} has no clip {', '.join(unknown)}")
        clips = Sequences((clip for clip in clips if clip.name in names), clips.left_out)
    if options.box_scale != 1:
        clips = Sequences((grown(clip, options.box_scale) for clip in clips), clips.left_out)
    out = make_folder(options.out) if options.out else None
    makers = all_makers(options)
    machine = describe_machine(options.threads)
    bar = Progress("clips x trackers", len(clips) * len(makers), quiet=options.quiet)
    results = evaluate(makers, clips, limit=options.frames, step=bar.step)
    bar.close()
    report = {
        "trackers": {name: summarize(by_clip) for name, by_clip in results.items()},
        "clips": [c.name for c in clips],
        "box_scale": options.box_scale,
        "left_out": clips.left_out,
        "machine": machine,
    }
    if out:
        write_results(out, results, report)
    return Outcome(report, lambda: accuracy_text(report, out))


def all_makers(options: argparse.Namespace) -> dict[str, Maker]:
    """Everything that was asked for, by the name under which it is reported."""
    makers: dict[str, Maker] = {}
    others = [foreign_maker(text) for text in options.tracker]
    others += [(name, opencv_maker(name)) for name in filter(None, options.opencv.split(","))]
    bundles = options.bundle if options.bundle is not None else [] if others else [default_bundle()]
    for folder in bundles:
        bundle = Bundle.open(folder)
        for entry in parse_entries(options.backend, bundle, options).values():
            tracker = entry.load(options)
            label = entry.label if len(bundles) == 1 else f"{Path(folder).name} {entry.label}"
            if options.recover:
                given = {"threads": options.threads, "precision": entry.asked, "recovery": RecoverySettings()}
                back = Tracker.load(entry.bundle, entry.backend, options.device, **given)
                makers[f"{label} with a way back"] = own_maker(back)
            modes = {f"{label} {mode}": own_maker(tracker, mode=mode) for mode in MODES}
            makers.update(modes if options.modes else {label: own_maker(tracker)})
    for name, make in others:
        if name in makers:
            raise SourceError(f"two trackers are named {name!r}: give one of them another name, NAME=module:callable")
        makers[name] = make
    return makers


def accuracy_text(report: dict[str, Any], out: Path | None) -> str:
    """The report for people."""
    trackers = report["trackers"]
    first = next(iter(trackers.values()))
    clips = [
        [clip, str(first["clips"][clip]["frames"]), *(f"{r['clips'][clip]['auc']:.3f}" for r in trackers.values())]
        for clip in report["clips"]
    ]
    parts = [machine_line(report["machine"]), table(TRACKERS, named(trackers))]
    parts.append(format_table(["AUC per clip", "frames", *trackers], clips))
    return "\n\n".join([*parts, *([f"wrote {out}"] if out else [])])


def write_results(out: Path, results: Mapping[str, Mapping[str, ClipResult]], report: dict[str, Any]) -> None:
    """Figures, plots, and each tracker's boxes (x, y, width, height per line)."""
    figures = report["trackers"]
    for figure, curve, thresholds, (title, x, y) in PLOTS:
        curves = {
            f"{name} [{figures[name][figure]:.3f}]": (thresholds, mean_curve(by_clip, curve))
            for name, by_clip in results.items()
        }
        plot_curves(out / f"{title.lower()}.png", curves, title=title, x=x, y=y)
    write_json(out / "results.json", report)
    with writing_to(out):
        for name, by_clip in results.items():
            folder = out / "boxes" / name.replace(" ", "_").replace("/", "_").replace(":", "_")
            folder.mkdir(parents=True, exist_ok=True)
            for clip, result in by_clip.items():
                np.savetxt(folder / f"{clip.replace('/', '_')}.txt", result.boxes, fmt="%.3f", delimiter=",")
