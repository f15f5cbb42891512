"""``spm-bench profile``: where a graph's time goes, operator by operator, beside the machine's peak."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from spm_rt.bundle import STAGES, Bundle
from spm_rt.errors import BackendError
from spm_rt.terminal import Progress, format_table

from ..loading import TORCH, Entry, Frame, load_clip, parse_entries, set_threads
from ..options import Outcome, add_backends, add_bundle, add_clip_options, add_number, add_run_options
from ..profiling.hooks import profiler_hooks
from ..profiling.operators import Operator, name_operators, unmatched_work
from ..tables import fill
from ..timing.gemm import Peaks
from ..timing.machine import describe_machine, machine_line
from ..timing.roofline import PEAKS, shares_text, speed, stage_shares
from ..timing.turns import Contestant, interleave, summarize

DESCRIPTION = """Times of the operators that a backend really runs, by the library's own profiler, with the
multiply-adds of each counted from the graph and set against the best matrix product that was measured in the same run.
The tracker runs on a clip, twice: unprofiled for the stages' times, then with the profiler on."""
EPILOG = """share: of the operators' time in a call. million MAC: of convolutions and matrix products; a dash is for
operators that multiply nothing (layouts, pools, element-wise work): their time is what lies between the graph and its
roofline. of peak: the operator's multiply-adds a second over those of the best matrix product of the same precision.

examples:
  spm-bench profile spm_alexnet --backend onnxruntime openvino --top 12
  spm-bench profile spm_alexnet --backend openvino:bfloat16 --stage search --json
"""
WARM_UP = 5
OPERATORS = """node {name} | operator {operator} | kernel {implementation} | layer {layer} | ms {ms:.3f}
    | share {share:.1%} | million MAC {mmac:.1f} | GMAC/s {gmac_per_s:.1f} | of peak {of_peak:.1%}"""


def add_options(parser: argparse.ArgumentParser) -> None:
    add_bundle(parser)
    add_backends(parser, "what to profile: onnxruntime, openvino, openvino:bfloat16")
    stages = ["search", "relation"]
    what = "which graphs (default: search relation)"
    parser.add_argument("--stage", nargs="+", choices=STAGES, default=stages, help=what)
    add_number(parser, "--top", 15, "operators that are listed")
    add_clip_options(parser)
    add_number(parser, "--frames", 50, "calls that are profiled, and frames that are timed without")
    add_run_options(parser)


def run(options: argparse.Namespace) -> Outcome:
    bundle = Bundle.open(options.bundle)
    frames, box, clip = load_clip(options.clip, options.box)
    set_threads(options.threads)
    entries = parse_entries(options.backend, bundle, options)
    if any(entry.backend == TORCH for entry in entries.values()):
        raise BackendError(f"{TORCH} runs no graph: profile one of the bundle's backends")
    machine = describe_machine(options.threads)
    peaks = Peaks(options.threads, PEAKS)
    peaks.visit()
    stages_ms = _stage_times(entries, options, frames, box, peaks)
    profiles: dict[str, Any] = {}
    for label, entry in entries.items():
        profiles[label] = _profile(entry, options, frames, box, stages_ms[label])
    peaks.visit()
    for label, entry in entries.items():  # with the best of all visits
        _rate(profiles[label], entry, stages_ms[label], peaks)
    report = {
        "backends": profiles,
        "peaks": peaks.report(),
        "clip": clip,
        "frames": options.frames,
        "bundle": str(options.bundle),
        "machine": machine,
    }
    return Outcome(report, lambda: profile_text(report, options.top))


def _stage_times(
    entries: Mapping[str, Entry], options: argparse.Namespace, frames: Sequence[Frame], box: Any, peaks: Peaks
) -> dict[str, dict[str, float]]:
    """Median milliseconds of the tracker's stages, without a profiler; the backends take turns."""
    contestants = [
        Contestant.start(label, functools.partial(entry.load, options), frames, box) for label, entry in entries.items()
    ]
    interleave(contestants, options.frames, 10, 0.1, quiet=options.quiet)
    peaks.visit()
    return {
        name: {**figures["stages_ms"], "template": figures["init_ms"]}
        for name, figures in summarize(contestants).items()
    }


def _profile(
    entry: Entry, options: argparse.Namespace, frames: Sequence[Frame], box: Any, stages_ms: Mapping[str, float]
) -> dict[str, Any]:
    """Run with the profiler on; per stage its operators, the most expensive first."""
    bar = Progress(f"profiling {entry.label}", options.frames + WARM_UP, quiet=options.quiet)
    with profiler_hooks(profile=True) as hooks:
        tracker = entry.load(options)
        for number in range(options.frames + WARM_UP):
            position = number % (len(frames) - 1)
            if position == 0 or "template" in options.stage:
                tracker.init(frames[0], box)
                hooks.read("template")
            tracker.update(frames[position + 1])
            hooks.read("search", "relation")
            bar.step()
        bar.close()
        calls = {stage: hooks.calls(stage)[-options.frames :] for stage in options.stage}
    if not any(calls.values()):
        raise BackendError(f"{entry.label}: no profiler is known for this backend (onnxruntime and openvino have one)")
    proposals, stages = entry.bundle.settings.num_candidates, {}
    for stage in options.stage:
        graph = hooks.graphs.get(stage)
        operators = name_operators(calls[stage], graph, proposals)
        stages[stage] = {
            "calls": len(calls[stage]),
            "graph": graph and graph.name,
            "operators_ms": sum(operator.ms for operator in operators),
            "stage_ms": stages_ms[stage],
            "unmatched_mmac": unmatched_work(operators, graph, proposals) / 1e6,
            "operators": operators,
        }
    described = {"precision": entry.precision, "description": tracker.backend.description}
    return {**described, "stages": stages, "graphs": hooks.graphs}


def _rate(profile: dict[str, Any], entry: Entry, stages_ms: Mapping[str, float], peaks: Peaks) -> None:
    """Set the times against the peak: operators become JSON, with the roofline beside them."""
    frame = {stage: ms for stage, ms in stages_ms.items() if stage != "template"}
    peak = peaks.peak(entry.precision)
    profile["roofline"] = stage_shares(profile.pop("graphs"), frame, entry, peaks)
    for figures in profile["stages"].values():
        total, times = figures["operators_ms"], collections.Counter[str]()
        for operator in figures["operators"]:
            times[operator.operator] += operator.ms
        figures["by_type"] = {kind: {"ms": ms, "share": ms / (total or 1.0)} for kind, ms in times.most_common()}
        figures["operators"] = [_as_json(operator, total, peak) for operator in figures["operators"]]


def _as_json(operator: Operator, total: float, peak: float | None) -> dict[str, Any]:
    rated = {} if operator.macs is None or operator.ms <= 0 else speed(operator.macs, operator.ms, peak)
    known = {name: value for name, value in dataclasses.asdict(operator).items() if name != "macs"}
    return {
        **known,
        "share": operator.ms / (total or 1.0),
        "mmac": None if operator.macs is None else operator.macs / 1e6,
        "gmac_per_s": rated.get("gmac_per_s"),
        "of_peak": rated.get("share"),
    }


def profile_text(report: dict[str, Any], top: int) -> str:
    """The report for people."""
    parts = [machine_line(report["machine"]), f"{report['clip']}, medians of {report['frames']} calls"]
    for label, profile in report["backends"].items():
        for stage, figures in profile["stages"].items():
            parts.append(_stage_text(label, stage, profile["description"], figures, top))
    shares = {label: profile["roofline"] for label, profile in report["backends"].items() if profile["roofline"]}
    return "\n\n".join([*parts, shares_text(shares, report["peaks"])])


def _stage_text(label: str, stage: str, description: str, figures: dict[str, Any], top: int) -> str:
    operators = figures["operators"]
    header, rows = fill(OPERATORS, operators[:top])
    if len(operators) > top:
        others = operators[top:]
        ms, share = (sum(o[name] for o in others) for name in ("ms", "share"))
        rows.append([f"{len(others)} others", "", "", "", f"{ms:.3f}", f"{share:.1%}", "-", "-", "-"])
    columns = [c for c in range(len(header)) if header[c] != "kernel" or any(row[c] for row in rows)]
    types = ", ".join(f"{kind} {f['share']:.1%}" for kind, f in list(figures["by_type"].items())[:8])
    lines = [
        f"{label} {stage} ({figures['graph']}; {description})",
        format_table([header[c] for c in columns], [[row[c] for c in columns] for row in rows]),
        f"by type: {types}",
        f"operators {figures['operators_ms']:.2f} ms under the profiler; the stage takes "
        f"{figures['stage_ms']:.2f} ms without it",
    ]
    if figures["unmatched_mmac"] >= 0.05:
        lines.append(
            f"{figures['unmatched_mmac']:.1f} million MAC of the graph belong to no operator of the profile: "
            "the library merged or renamed their nodes"
        )
    return "\n".join(lines)
