"""``spm-bench ablate``: the paper's own questions, on the clips at hand."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from spm_rt.bundle import Bundle
from spm_rt.errors import BoxError
from spm_rt.frame.geometry import iou, xywh_to_xyxy
from spm_rt.media.datasets import Sequence as Clip
from spm_rt.media.datasets import find_sequences, usable
from spm_rt.settings import MODES
from spm_rt.terminal import Progress, say_left_out
from spm_rt.trackers.single import Tracker

from ..loading import load_named, set_threads
from ..options import Outcome, add_clips, add_default_bundle, add_out, add_run_options, add_several
from ..quality.contenders import own_maker, with_settings
from ..quality.evaluation import FIGURES_COLUMNS, evaluate, summarize
from ..report.files import make_folder, write_json
from ..report.plots import plot_curves
from ..tables import named, table

DESCRIPTION = """What each part of the tracker brings (paper, Tables 1 and 2, Fig. 6): the coarse stage alone, the fine
stage deciding over its proposals (series), and both fused (series-parallel); AUC against the number of proposals K; the
share of targets that some proposal covers, against the overlap asked for; and, with the bundle of a second checkpoint,
generalised training against plain training."""
EPILOG = """Recall is measured from the true box of the frame before, so that it speaks of the proposals and not of the
track.

examples:
  spm-bench ablate OTB --out ablation
  spm-bench ablate OTB --plain-checkpoint plain.safetensors   generalised training on and off
  spm-bench ablate OTB --proposals 1,3,5,9 --skip recall
"""
PARTS = ("modes", "proposals", "recall")
RUNS = {
    "modes": ("Which stages decide (Table 1)", "mode {name}"),
    "plain_training": ("The same without generalised training (Table 2)", "mode {name}"),
    "proposals": ("Number of proposals", "K {name}"),
}
"""Part of the report -> the title of its table, and the first column."""
RECALL_AT = np.linspace(0.3, 0.95, 14)
RECALL_K = (1, 3, 5, 9, 15)


def add_options(parser: argparse.ArgumentParser) -> None:
    add_clips(parser)
    add_default_bundle(parser)
    plain = "training, for Table 2: its bundle's folder, or its files (then PyTorch runs it)"
    add_several(parser, "--plain-checkpoint", None, f"a checkpoint made without generalised {plain}", "PATH", str)
    tried = "numbers of proposals to try (default 1 to 15)"
    parser.add_argument("--proposals", type=_numbers, default=range(1, 16), metavar="K,...", help=tried)
    parser.add_argument("--skip", nargs="+", choices=PARTS, default=[], help="parts to leave out")
    add_out(parser, "write ablation.json, proposals.png, recall.png")
    add_run_options(parser)


def run(options: argparse.Namespace) -> Outcome:
    set_threads(options.threads)
    clips = find_sequences(options.clips)
    say_left_out(clips.left_out)
    out = make_folder(options.out) if options.out else None
    parts = [part for part in PARTS if part not in options.skip]
    tracker = load_named(options.bundle, options)
    plain = _load_plain(options) if options.plain_checkpoint else None
    runs = len(MODES) * (1 + bool(plain)) * ("modes" in parts) + len(options.proposals) * ("proposals" in parts)
    bar = Progress("clips x settings", len(clips) * (runs + ("recall" in parts)), quiet=options.quiet)
    report: dict[str, Any] = {"left_out": clips.left_out}

    def figures(tracker: Tracker, **changes: Any) -> dict[str, Any]:
        makers = {"spm": own_maker(tracker, **changes)}
        return summarize(evaluate(makers, clips, limit=options.frames, step=bar.step)["spm"])

    if "modes" in parts:
        report["modes"] = {mode: figures(tracker, mode=mode) for mode in MODES}
        if plain:
            report["plain_training"] = {mode: figures(plain, mode=mode) for mode in MODES}
    if "proposals" in parts:
        report["proposals"] = {str(k): figures(tracker, **_proposals(k)) for k in options.proposals}
    if "recall" in parts:
        report["recall"] = recall(tracker, clips, options.frames, bar.step)
    bar.close()
    if out:
        _write(out, report)
    return Outcome(report, lambda: ablation_text(report, out))


def recall(tracker: Tracker, clips: Sequence[Clip], limit: int | None, step: Callable[[], None]) -> dict[str, Any]:
    """Share of frames in which one of the K proposals covers the target, per K and overlap: ``{"overlap", "recall"}``.

    The coarse stage's own boxes are judged, before the fine stage moves them. With fewer proposals the best by score
    are kept, the reserved near one included, exactly as the tracker does.
    """
    best: dict[int, list[float]] = {k: [] for k in RECALL_K}
    for clip in clips:
        for k in RECALL_K:
            proposing = with_settings(tracker, mode="coarse", **_proposals(k))
            best[k] += _best_overlaps(proposing, clip, limit)
        step()
    curves = {str(k): [float((np.array(v) >= t).mean()) if v else 0.0 for t in RECALL_AT] for k, v in best.items()}
    return {
        "overlap": RECALL_AT.tolist(),
        "recall": curves,
        "mean_best_overlap": {str(k): float(np.mean(v)) if v else 0.0 for k, v in best.items()},
    }


def _best_overlaps(tracker: Tracker, clip: Clip, limit: int | None) -> list[float]:
    """Per frame, the best overlap of a proposal with the true box; each frame starts from the true box before it."""
    has_box, best = usable(clip.boxes), []
    for index, frame in enumerate(clip.frames(limit)):
        if index == 0:
            tracker.init(frame, clip.first_box)
            continue
        if not (has_box[index] and has_box[index - 1]):
            continue
        try:
            tracker.move_to(clip.boxes[index - 1])
        except BoxError:
            continue
        candidates = tracker.update(frame, candidates=True).candidates
        assert candidates is not None
        boxes = np.array([xywh_to_xyxy(c.box) for c in candidates])
        x, y, width, height = clip.boxes[index].tolist()
        best.append(float(iou(boxes, xywh_to_xyxy((x, y, width, height))).max()))
    return best


def ablation_text(report: dict[str, Any], out: Path | None) -> str:
    """The report for people."""
    parts = [
        f"{title}\n" + table(first + FIGURES_COLUMNS, named(report[key]))
        for key, (title, first) in RUNS.items()
        if key in report
    ]
    if "recall" in report:
        shown = [i for i, t in enumerate(RECALL_AT) if round(t * 100) % 10 == 0]
        overlaps = "".join(f"| {RECALL_AT[i]:.1f} {{at[{i}]:.3f}}" for i in shown)
        means = report["recall"]["mean_best_overlap"]
        rows = [{"k": k, "at": at, "mean": means[k]} for k, at in report["recall"]["recall"].items()]
        parts.append(
            "Proposal recall (Fig. 6): share of frames in which a proposal overlaps the target by at least\n"
            + table("K {k} " + overlaps + "| mean best {mean:.3f}", rows)
        )
    return "\n\n".join(parts) + (f"\n\nwrote {out}" if out else "")


def _write(out: Path, report: dict[str, Any]) -> None:
    write_json(out / "ablation.json", report)
    if "proposals" in report:
        curve = [int(k) for k in report["proposals"]], [r["auc"] for r in report["proposals"].values()]
        curves: dict[str, tuple[ArrayLike, ArrayLike]] = {"series-parallel": curve}
        plot_curves(out / "proposals.png", curves, title="Number of proposals", x="K", y="AUC", y_from_zero=False)
    if "recall" in report:
        curves = {f"K = {k}": (RECALL_AT, values) for k, values in report["recall"]["recall"].items()}
        plot_curves(out / "recall.png", curves, title="Proposal recall", x="overlap asked for", y="share of frames")


def _load_plain(options: argparse.Namespace) -> Tracker:
    """The tracker of ``--plain-checkpoint``, a bundle or the files of a checkpoint."""
    paths = options.plain_checkpoint
    if len(paths) == 1 and Path(paths[0]).is_dir():
        return load_named(paths[0], options)
    from spm_export.model.backend import reference_tracker
    from spm_export.model.checkpoint import load_model

    settings = Bundle.open(options.bundle).settings
    return reference_tracker(load_model(paths), settings, "cpu", options.threads)


def _proposals(k: int) -> dict[str, int]:
    """The settings for K proposals: one of them is near, if there are others."""
    return {"num_candidates": k, "num_near_candidates": min(1, k - 1)}


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(1 <= k <= 64 for k in numbers):
        raise argparse.ArgumentTypeError(f"{text!r}: whole numbers from 1 to 64, separated by commas")
    return numbers
