"""``spm-bench parity``: two backends box by box, or one implementation against recorded reference data."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from spm_rt.bundle import Bundle
from spm_rt.errors import SourceError
from spm_rt.frame.geometry import iou
from spm_rt.results import Box
from spm_rt.terminal import Progress, format_table
from spm_rt.trackers.compare import center_distances, follow_both
from spm_rt.trackers.single import Tracker

from ..common import (
    DEFAULT_BUNDLE,
    TORCH,
    Frame,
    add_clip_options,
    add_run_options,
    clip_length,
    load_clip,
    load_tracker,
    parse_entry,
    set_threads,
)

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


@dataclasses.dataclass(frozen=True)
class ClipParity:
    """Two trackers' boxes on one clip. Distances between box centres, in pixels.

    ``mean_iou``, ``min_iou`` and the distances compare frame by frame, both from the first tracker's last box;
    ``free_*`` when each goes its own way from the first frame on.
    """

    clip: str
    frames: int
    mean_iou: float
    min_iou: float
    mean_distance: float
    max_distance: float
    free_iou: float
    free_min_iou: float
    free_distance: float


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "subjects",
        nargs="+",
        metavar="SUBJECT",
        help="torch, a backend's name, or a bundle's "
        "folder; two of them (a third is taken as --bundle), or one with --reference",
    )
    parser.add_argument("--reference", nargs="+", metavar="FILE.npz", help="recorded reference data")
    parser.add_argument(
        "--bundle",
        default=None,
        metavar="FOLDER",
        help=f"the bundle that backends are compared on (default: {DEFAULT_BUNDLE})",
    )
    parser.add_argument("--backend", default="auto", metavar="NAME", help="what runs a subject that is a folder")
    add_clip_options(parser)
    parser.add_argument("--sequences", metavar="FOLDER", help="a folder of clips with ground truth, instead of --clip")
    parser.add_argument("--frames", type=clip_length, metavar="N", help="at most so many frames of each clip")
    parser.add_argument(
        "--shift",
        type=float,
        default=0.0,
        metavar="PX",
        help="start B's free run so many pixels off: "
        "what a free run owes to the last digits (try torch torch --shift 1e-5)",
    )
    add_run_options(parser)


def run(options: argparse.Namespace) -> int:
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
    found = []
    for name, _, load in clips:
        frames, box = load()
        found.append(compare_tracks(first, second, frames, box, name, bar.step, options.shift))
    bar.close()
    passed = overall(found)["mean_iou"] >= MEAN_IOU
    if options.json:
        print(
            json.dumps(
                {
                    "a": first.backend.description,
                    "b": second.backend.description,
                    "passed": passed,
                    "overall": overall(found),
                    "clips": {c.clip: dataclasses.asdict(c) for c in found},
                },
                indent=1,
            )
        )
    else:
        print(f"A: {first.backend.description}\nB: {second.backend.description}\n\n{tracks_table(found)}")
        print(f"\nmean overlap {overall(found)['mean_iou']:.6f}, {MEAN_IOU} is needed: {'ok' if passed else 'FAILED'}")
    return 0 if passed else 1


def compare_tracks(
    first: Tracker,
    second: Tracker,
    clip: Sequence[Frame],
    box: Box,
    name: str,
    step: Callable[[], None] = lambda: None,
    shift: float = 0.0,
) -> ClipParity:
    """Run both over a clip: from the same box in every frame (the first one's), and each on its own way.

    Args:
        first, second: they are started anew here.
        clip: frames, at least two.
        box: the target in the first of them.
        name: the clip's.
        step: called after every frame.
        shift: pixels by which the second one's free run starts off to the right of ``box``.
    """
    step()
    a, same, free = follow_both(first, second, clip, box, step, shift)
    overlaps, own = iou(a, same), iou(a, free)
    distance, apart = center_distances(a, same), center_distances(a, free)
    return ClipParity(
        name,
        len(clip),
        float(overlaps.mean()),
        float(overlaps.min()),
        float(distance.mean()),
        float(distance.max()),
        float(own.mean()),
        float(own.min()),
        float(apart.mean()),
    )


def overall(found: Sequence[ClipParity]) -> dict[str, float]:
    """All clips together, every compared frame weighing the same."""
    weights = np.array([clip.frames - 1 for clip in found], np.float64)
    mean = {
        name: float(np.average([getattr(clip, name) for clip in found], weights=weights))
        for name in ("mean_iou", "mean_distance", "free_iou", "free_distance")
    }
    return {
        **mean,
        "min_iou": min(c.min_iou for c in found),
        "max_distance": max(c.max_distance for c in found),
        "free_min_iou": min(c.free_min_iou for c in found),
        "frames": float(weights.sum()),
    }


def tracks_table(found: Sequence[ClipParity]) -> str:
    total = overall(found)
    rows = [
        [
            c.clip,
            str(c.frames),
            f"{c.mean_iou:.6f}",
            f"{c.min_iou:.6f}",
            f"{c.mean_distance:.4f}",
            f"{c.max_distance:.4f}",
            f"{c.free_iou:.6f}",
            f"{c.free_min_iou:.6f}",
        ]
        for c in found
    ]
    rows.append(
        [
            "all",
            str(sum(c.frames for c in found)),
            f"{total['mean_iou']:.6f}",
            f"{total['min_iou']:.6f}",
            f"{total['mean_distance']:.4f}",
            f"{total['max_distance']:.4f}",
            f"{total['free_iou']:.6f}",
            f"{total['free_min_iou']:.6f}",
        ]
    )
    return format_table(
        ["clip", "frames", "mean IoU", "min IoU", "mean px", "max px", "free mean IoU", "free min IoU"], rows
    )


def _tracker(name: str, options: argparse.Namespace) -> Tracker:
    if Path(name).is_dir():
        bundle, backend, precision = Bundle.open(name), options.backend, None
    else:
        if any(mark in name.partition("@")[0] for mark in "/\\."):
            raise SourceError(f"{name}: no such bundle folder, and no backend's name")
        entry = parse_entry(
            name, Bundle.open(options.bundle or DEFAULT_BUNDLE), device=options.device, threads=options.threads
        )
        backend, bundle, precision = entry.backend, entry.bundle, entry.asked
    return load_tracker(
        bundle,
        backend,
        device=options.device,
        threads=options.threads,
        checkpoint=options.checkpoint,
        precision=precision,
    )


def _clips(options: argparse.Namespace) -> list[tuple[str, int, Callable[[], tuple[list[Frame], Box]]]]:
    """Name, number of frames, and a way to load each clip."""
    if not options.sequences:
        frames, box, name = load_clip(options.clip, options.box, options.frames)
        return [(name, len(frames), lambda: (frames, box))]
    from spm_rt.media.clips import Sequence as Clip
    from spm_rt.media.clips import find_sequences

    def loader(clip: Clip) -> Callable[[], tuple[list[Frame], Box]]:
        return lambda: (list(clip.frames(options.frames)), clip.first_box)

    return [
        (clip.name, min(len(clip), options.frames or len(clip)), loader(clip))
        for clip in find_sequences(options.sequences)
    ]


def _run_reference(options: argparse.Namespace) -> int:
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
    if options.json:
        report = {"subject": subject.backend.description, "passed": passed, "sets": scores_report(scores)}
        print(json.dumps(report, indent=1))
    else:
        print(f"{name}: {subject.backend.description}{scores_text(scores)}")
    return 0 if passed else 1
