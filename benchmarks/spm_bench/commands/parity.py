"""``spm-bench parity``: two backends box by box, or one implementation against recorded reference data."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

from spm_rt.bundle import Bundle
from spm_rt.errors import SourceError
from spm_rt.media.datasets import Sequence, find_sequences
from spm_rt.results import Box
from spm_rt.terminal import WHICH_BUNDLE, Progress, default_bundle, real_number, say_left_out
from spm_rt.trackers.single import Tracker

from ..loading import TORCH, Entry, Frame, load_clip, parse_entry, set_threads
from ..options import (
    Outcome,
    add_clip_options,
    add_frame_limit,
    add_run_options,
    add_several,
)
from ..quality.agreement import agreement_table, compare_trackers, overall

DESCRIPTION = """Two trackers over a clip, box by box: `spm-bench parity A B`, where A and B are torch (the PyTorch
reference), a backend (onnxruntime, openvino, ...) on --bundle, or the folders of two bundles. Exit status 1 where the
mean overlap of the boxes, frame by frame from the same last box, is under 0.999.

Or one implementation against recorded data of the authors' release, stage by stage:
`spm-bench parity BUNDLE --reference FILE.npz ...` (or torch in place of a bundle's folder). Exit status 1 where a
tolerance is missed. The recorded numbers belong to certain weights: export the bundle from those."""
EPILOG = """examples:
  spm-bench parity torch onnxruntime --sequences OTB
  spm-bench parity onnxruntime openvino --bundle my_bundle --clip clip.mp4 --box 193,158,57,72
  spm-bench parity my_bundle --reference noise.npz shapes.npz border.npz ops.npz
  spm-bench parity torch --reference shapes.npz --checkpoint cm_stage.pt fm_stage.pt
"""

MEAN_IOU = 0.999


def add_options(parser: argparse.ArgumentParser) -> None:
    folder = "folder; two of them (a third is taken as --bundle), or one with --reference"
    add_several(parser, "subjects", None, f"torch, a backend's name, or a bundle's {folder}", "SUBJECT", str)
    parser.add_argument("--reference", nargs="+", metavar="FILE.npz", help="recorded reference data")
    bundle = f"the bundle that backends are compared on {WHICH_BUNDLE}"
    parser.add_argument("--bundle", metavar="FOLDER", help=bundle)
    parser.add_argument("--backend", default="auto", metavar="NAME", help="what runs a subject that is a folder")
    add_clip_options(parser)
    parser.add_argument("--sequences", metavar="FOLDER", help="a folder of clips with ground truth, instead of --clip")
    add_frame_limit(parser)
    shift = "start B's free run so many pixels off: what a free run owes to the last digits (try torch torch --shift "
    pixels = real_number(-1e3, 1e3)
    parser.add_argument("--shift", type=pixels, default=0.0, metavar="PX", help=f"{shift}1e-5)")
    add_run_options(parser)


def run(options: argparse.Namespace) -> Outcome:
    set_threads(options.threads)
    if options.reference:
        return _run_reference(options)
    if len(options.subjects) not in (2, 3):
        raise SourceError("give two subjects to compare (parity torch onnxruntime), or one with --reference FILE.npz")
    if len(options.subjects) == 3:
        options.bundle = options.subjects[2]
    first, second = (_tracker(name, options) for name in options.subjects[:2])
    clips = _clips(options)
    bar = Progress("comparing boxes", sum(count for _, count, _ in clips), quiet=options.quiet)
    agreements = []
    for name, _, load in clips:
        frames, box = load()
        agreements.append(compare_trackers(first, second, frames, box, name, bar.step, options.shift))
    bar.close()
    total = overall(agreements)
    passed = total["mean_iou"] >= MEAN_IOU
    a, b = first.backend.description, second.backend.description
    report = {
        "a": a,
        "b": b,
        "passed": passed,
        "overall": total,
        "clips": {agreement.clip: dataclasses.asdict(agreement) for agreement in agreements},
    }

    def text() -> str:
        verdict = f"mean overlap {total['mean_iou']:.6f}, {MEAN_IOU} is needed: {'ok' if passed else 'FAILED'}"
        return f"A: {a}\nB: {b}\n\n{agreement_table(agreements)}\n\n{verdict}"

    return Outcome(report, text, passed)


def _tracker(name: str, options: argparse.Namespace) -> Tracker:
    if Path(name).is_dir():
        entry = Entry(name, options.backend, None, Bundle.open(name))
    elif any(mark in name.partition("@")[0] for mark in "/\\."):
        raise SourceError(f"{name}: no such bundle folder, and no backend's name")
    else:
        bundle = Bundle.open(options.bundle or default_bundle())
        entry = parse_entry(name, bundle, device=options.device, threads=options.threads)
    return entry.load(options)


def _clips(options: argparse.Namespace) -> list[tuple[str, int, Callable[[], tuple[list[Frame], Box]]]]:
    """Name, number of frames, and a way to load each clip."""
    if not options.sequences:
        frames, box, name = load_clip(options.clip, options.box, options.frames)
        return [(name, len(frames), lambda: (frames, box))]

    def load(clip: Sequence) -> tuple[list[Frame], Box]:
        return list(clip.frames(options.frames)), clip.first_box

    clips = find_sequences(options.sequences)
    say_left_out(clips.left_out)
    return [(c.name, min(len(c), options.frames or len(c)), functools.partial(load, c)) for c in clips]


def _run_reference(options: argparse.Namespace) -> Outcome:
    from ..recorded.reading import read_recorded
    from ..recorded.subjects import bundle_subject, calls_of, reference_subject, score_all, scores_report, scores_text

    if len(options.subjects) != 1:
        raise SourceError("--reference scores one subject: a bundle's folder, or torch")
    name = options.subjects[0]
    files = {Path(path).name: read_recorded(path) for path in options.reference}
    if name == TORCH:
        subject, operators_of = reference_subject(options.checkpoint, options.threads)
    else:
        subject, operators_of = bundle_subject(name, options.backend, options.device, options.threads)
    bar = Progress("scoring", calls_of(subject, files), quiet=options.quiet)
    scores = score_all(subject, operators_of, files, bar.step)
    bar.close()
    passed = all(checks.passed for checks in scores.values())
    description = subject.backend.description
    report = {"subject": description, "passed": passed, "sets": scores_report(scores)}
    return Outcome(report, lambda: f"{name}: {description}{scores_text(scores)}", passed)
