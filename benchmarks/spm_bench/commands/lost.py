"""``spm-bench lost``: how well the tracker's scores tell lost from found."""

from __future__ import annotations

import argparse
import csv
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_rt.errors import SettingsError, SourceError
from spm_rt.media.datasets import Sequences, find_sequences
from spm_rt.settings import RecoverySettings
from spm_rt.terminal import Progress, positive_int, say_left_out
from spm_rt.trackers.single import Tracker
from spm_train.data.readers import is_held_out

from ..loading import Entry, entry_of, set_threads
from ..options import Outcome, add_default_bundle, add_frame_limit, add_number, add_out, add_run_options, add_several
from ..quality.challenges import KINDS, LEAST, challenges
from ..quality.metrics import caught_at, rates_at, roc
from ..quality.recovery import Course, cost, figures_by_kind, follow
from ..quality.samples import SOURCES, Sample, collect
from ..report.files import make_folder, writing_to
from ..report.plots import plot_curves, plot_histograms
from ..tables import named, table

DESCRIPTION = """How well the tracker's scores tell lost from found: free runs, wrong places in the same frame, and
targets looked for in another clip. A frame counts as lost where its box overlaps the true one by less than 0.2. CLIPS
is a folder of clips with ground truth, or a packed set (docs/guide/datasets.md has the layouts). Thresholds are
settings: take clips that you do not score on.

With --recover, targets are lost on purpose, in clips made of these: they jump by 300 pixels, leave for 30 frames, are
covered for 15. Reported is how many are found again within 15 frames of being seen again, and how often the tracker
is wrong when it says so; by the tracker as it is, and with a way back (docs/guide/recovery.md)."""
EPILOG = """The recommended threshold is the lowest one of `score` whose balanced accuracy is within 0.01 of the best:
the optimum is flat, and targets score lower on clips that the weights were not trained on. It goes into a bundle's
settings as found_threshold.

examples:
  spm-bench lost CLIPS --bundle spm_alexnet --out lost
  spm-bench lost PACKED --frames 30 --json
  spm-bench lost PACKED PACKED2 --held-out 12 --recover     what becomes of targets that are lost on purpose
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
    "score without switches": lambda p: p.score - p.switched,
}
RATES = "| found kept {found_kept:.1%} | lost caught {lost_caught:.1%}"
OWN_RATES = "| of free runs {own_caught:.1%}"
DECIDES = "score without switches"
"""What ``found`` goes by: no threshold is reached after a switch."""
KEPT = 0.97
"""Share of the found that a measure has to keep, while it is seen how many of the lost it catches."""
MEASURED = f"""measure {{name}} | AUC-ROC {{auc_roc:.3f}} {"".join(f"| {s} {{by_source[{s}]:.3f}}" for s in SOURCES)}
    | best threshold {{threshold:.3f}} {RATES} | balanced {{balanced_accuracy:.3f}}
    | lost caught where {KEPT:.0%} are kept {{caught_at:.1%}} | of free runs {{own_caught_at:.1%}}"""

RECOVERED = """loss {name} | challenges {challenges} | lost before {lost_before} | found again {found_again:.1%}
    | median frames {median_frames:.0f} | times sure again {claims} | wrong {false_claims:.1%}
    | frames sure and wrong {false_frames:.1%}"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("clips", nargs="+", help="folders of clips with ground truth, or packed sets")
    add_frame_limit(parser)
    what = "only clips that `spm-train --held-out-every N` has not trained on"
    parser.add_argument("--held-out", type=positive_int, metavar="N", help=what)
    parser.add_argument("--recover", action="store_true", help="lose targets on purpose: are they found again?")
    add_default_bundle(parser)
    add_several(parser, "--steps", [], "free runs in each of these steps, forwards and backwards")
    add_number(parser, "--forced", 6, "wrong places, and frames of another clip, per clip")
    files = "lost.csv (every frame), lost_roc.png, lost_scores.png; with --recover: recovered.csv (every loss)"
    add_out(parser, "write " + files)
    add_run_options(parser)


def run(options: argparse.Namespace) -> Outcome:
    set_threads(options.threads)
    entry = entry_of(options.bundle, options)
    bundle = entry.bundle
    if bundle.settings.mode != "series-parallel":
        mode = bundle.settings.mode
        raise SettingsError(f"{bundle.path} is set to mode {mode!r}; only series-parallel has all scores")
    clips = read_clips(options)
    tracker = entry.load(options)
    if options.recover:
        return _recover(options, entry, tracker, clips)
    out = make_folder(options.out) if options.out else None
    bar = Progress("clips", len(clips), quiet=options.quiet)
    given = {"limit": options.frames, "forced": options.forced, "steps": options.steps}
    samples = collect(tracker, clips, **given, step=bar.step)
    bar.close()
    if out:
        fields = [field.name for field in dataclasses.fields(Sample)]
        write_rows(out / "lost.csv", fields, map(dataclasses.astuple, samples))
    report = {**analyse(samples, bundle.settings.found_threshold), "left_out": clips.left_out}
    if out:
        plot(out, samples, report)
    return Outcome(report, lambda: lost_text(report, tracker.backend.description, out))


def read_clips(options: argparse.Namespace) -> Sequences:
    """The clips of all folders, or only those held out of training."""
    found = [find_sequences(folder) for folder in options.clips]
    clips = Sequences(
        (
            clip
            for each in found
            for clip in each
            if options.held_out is None or is_held_out(clip.name.split("/")[0], options.held_out)
        ),
        (line for each in found for line in each.left_out),
    )
    say_left_out(clips.left_out)
    if not clips:
        raise SourceError(f"{', '.join(options.clips)}: no clip is among those of --held-out {options.held_out}")
    return clips


def _recover(options: argparse.Namespace, entry: Entry, tracker: Tracker, clips: Sequences) -> Outcome:
    """Lose the target of every clip on purpose, in each of the ways."""
    if options.frames or options.steps:
        raise SourceError("--recover takes neither --frames nor --steps: its clips have lengths of their own")
    given = challenges(clips)
    if not given:
        raise SourceError(f"{', '.join(options.clips)}: no clip has {LEAST} frames with a box one after another")
    out = make_folder(options.out) if options.out else None
    asked = {"threads": options.threads, "precision": entry.asked, "recovery": RecoverySettings()}
    other = Tracker.load(entry.bundle, entry.backend, options.device, **asked)
    trackers = {"plain": tracker, "with a way back": other}
    bar = Progress("challenges", len(given) * len(trackers), quiet=options.quiet)
    courses: dict[str, list[Course]] = {name: [] for name in trackers}
    for challenge in given:
        for name, each in trackers.items():
            courses[name].append(follow(each, challenge))
            bar.step()
    bar.close()
    if out:
        rows = [{"tracker": name, **course.row()} for name, each in courses.items() for course in each]
        write_rows(out / "recovered.csv", list(rows[0]), (row.values() for row in rows))
    report = {
        "trackers": {name: figures_by_kind(each) for name, each in courses.items()},
        "cost": cost(tracker, other, [challenge for challenge in given if challenge.kind == KINDS[0]]),
        "clips": sorted({challenge.clip for challenge in given}),
        "left_out": clips.left_out,
    }
    return Outcome(report, lambda: recover_text(report, tracker.backend.description, out))


def recover_text(report: dict[str, Any], backend: str, out: Path | None) -> str:
    """The report of ``--recover`` for people."""
    parts = [f"{backend}\n{len(report['clips'])} targets, each lost in every way"]
    parts += [f"{name}\n{table(RECOVERED, named(kinds))}" for name, kinds in report["trackers"].items()]
    price = report["cost"]
    if price["frames"]:
        parts.append(
            f"a frame with a way back takes {price['ratio']:.3f} times that of the plain tracker while both track "
            f"({price['lower']:.3f} to {price['upper']:.3f} in half of the clips, {price['frames']} frames)"
        )
    if out:
        parts.append(f"wrote {out}")
    return "\n\n".join(parts)


def analyse(samples: Sequence[Sample], threshold: float) -> dict[str, Any]:
    """Figures of every measure, over all frames and per source of the lost ones, as JSON types.

    Raises:
        SourceError: no frame is lost, or none is found: there is nothing to tell apart.
    """
    found = _are_found(samples)
    if not found.any() or found.all():
        raise SourceError(f"{found.sum()} of {len(found)} frames are found: both kinds are needed, take more clips")
    measures: dict[str, Any] = {}
    own = np.array([p.source == SOURCES[0] for p in samples])
    own_both = len(set(found[own])) == 2
    for name in MEASURES:
        values = _values(samples, name)
        curve = roc(values, found)
        measures[name] = {
            "auc_roc": curve.area,
            "threshold": curve.threshold,
            "found_kept": curve.kept,
            "lost_caught": curve.caught,
            "balanced_accuracy": curve.balanced,
            "auc_roc_by_source": _by_source(values, found, samples),
            "caught_at": caught_at(values, found, KEPT),
            "own_caught_at": caught_at(values[own], found[own], KEPT) if own_both else None,
        }
    scores = _values(samples, DECIDES)

    def rates(at: float) -> dict[str, float | None]:
        """Of all frames, and of those of free runs; None where these are all lost or all found."""
        every = rates_at(scores, found, at)
        free = rates_at(scores[own], found[own], at) if own_both else (None, None)
        return dict(zip(("found_kept", "lost_caught", "own_kept", "own_caught"), (*every, *free), strict=True))

    return {
        "frames": len(samples),
        "found": int(found.sum()),
        "lost": int((~found).sum()),
        "lost_by_source": {s: sum(p.source == s and p.iou < LOST_UNDER for p in samples) for s in SOURCES},
        "measures": measures,
        "recommended_found_threshold": recommend(scores, found),
        "current": {"found_threshold": threshold, **rates(threshold)},
        "at": {f"{t:.2f}": rates(float(t)) for t in np.arange(0.1, 0.91, 0.05)},
    }


def recommend(scores: NDArray[np.float64], found: NDArray[np.bool_]) -> float:
    """The lowest threshold, in steps of 0.01, whose balanced accuracy is within ``CLOSE_TO_BEST`` of the best."""
    steps = np.round(np.arange(0, 1.001, 0.01), 2)
    balanced = np.array([sum(rates_at(scores, found, float(t))) / 2 for t in steps])
    return float(steps[np.argmax(balanced >= balanced.max() - CLOSE_TO_BEST)])


def _by_source(values: NDArray[np.float64], found: NDArray[np.bool_], samples: Sequence[Sample]) -> dict[str, float]:
    """All found frames against the lost ones of one source at a time."""
    areas = {}
    for source in SOURCES:
        use = found | np.array([p.source == source for p in samples])
        if (~found[use]).any():
            areas[source] = roc(values[use], found[use]).area
    return areas


def lost_text(report: dict[str, Any], backend: str, out: Path | None) -> str:
    """The report for people."""
    nothing = dict.fromkeys(SOURCES, float("nan"))
    rows = [{**row, "by_source": nothing | row["auc_roc_by_source"]} for row in named(report["measures"])]
    now, lost = report["current"], report["lost_by_source"]
    return "\n\n".join(
        [
            f"{backend}\n{report['found']} frames found, {report['lost']} lost ("
            + ", ".join(f"{s}: {n}" for s, n in lost.items())
            + f"); lost means an overlap under {LOST_UNDER}",
            table(MEASURED, rows),
            table(f"{DECIDES} over {{name}} {RATES} {OWN_RATES}", named(report["at"])),
            table(f"found_threshold {{found_threshold:g}} {RATES} {OWN_RATES}", [now])
            + f"\nrecommended: {report['recommended_found_threshold']:.2f}"
            + (f"\nwrote {out}" if out else ""),
        ]
    )


def plot(out: Path, samples: Sequence[Sample], report: dict[str, Any]) -> None:
    found = _are_found(samples)
    curves = {name: roc(_values(samples, name), found) for name in MEASURES}
    chosen, scores = report["recommended_found_threshold"], _values(samples, DECIDES)
    kept, caught = rates_at(scores, found, chosen)
    plot_curves(
        out / "lost_roc.png",
        {f"{name} ({c.area:.3f})": (c.rates[:, 0], c.rates[:, 1]) for name, c in curves.items()},
        title="Telling found from lost",
        x="lost frames taken for found",
        y="found frames kept",
        marks={f"score at {chosen:.2f}": (1 - caught, kept)},
    )
    groups, bins = {"found": scores[found], "lost": scores[~found]}, np.linspace(-1, 1, 41).tolist()
    title = "Score of found and lost frames, less 1 after a switch"
    plot_histograms(out / "lost_scores.png", groups, title=title, x="score", bins=bins, line=chosen)


def _are_found(samples: Sequence[Sample]) -> NDArray[np.bool_]:
    return np.array([p.iou >= LOST_UNDER for p in samples], np.bool_)


def _values(samples: Sequence[Sample], measure: str) -> NDArray[np.float64]:
    return np.array([MEASURES[measure](p) for p in samples], np.float64)


def write_rows(path: Path, names: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """A table as CSV."""
    with writing_to(path), path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        writer.writerows(rows)
