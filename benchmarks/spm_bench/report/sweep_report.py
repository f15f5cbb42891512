"""What ``spm-bench sweep`` writes and prints: a page, a plot of speed against drift, the data."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from spm_rt.terminal import format_table

from ..timing.machine import machine_line
from ..timing.roofline import percent
from ..timing.verdict import LEAST_IOU, verdict_line
from .files import write_json, write_text
from .page import Page
from .plots import plot_curves, plot_pareto

FLOOR = 1e-6
"""Drifts below this are roundings of float32 boxes, and all the same."""
HEADER = (
    "#",
    "choice",
    "speed",
    "quartiles",
    "p50 ms",
    "p99/p50",
    "host ms",
    "drift",
    "bound",
    "lowest IoU",
    "centre px",
    "IoU free",
)
SEVERAL_HEADER = ("choice", "targets", "p50 ms", "ms per target", "of one by itself", "drift", "lowest IoU")


def write_report(report: dict[str, Any], folder: Path) -> list[Path]:
    """The page, its pictures and the data; the paths written."""
    single, several = _sorted(report, several=False), _sorted(report, several=True)
    pictures = [
        plot_pareto(
            folder / "pareto.png",
            [(name + _bound_note(f), f["speed"], max(f["drift"], FLOOR)) for name, f in single.items()],
            best=report["best"],
            title=f"Speed against drift, {report['clip']}",
            x=f"speed, times that of {report['reference']}",
            y="drift: 1 - mean IoU with the reference's boxes",
            floor=FLOOR,
        )
    ]
    if several:
        pictures.append(_plot_targets(report, folder))
    written = [write_json(folder / "results.json", {**report, "command": _command()}), *pictures]
    return [write_text(folder / "sweep.html", _page(report, single, several, pictures)), *written]


def sweep_text(report: dict[str, Any], written: list[Path]) -> str:
    """The report for people, on a terminal."""
    single, several = _sorted(report, several=False), _sorted(report, several=True)
    parts = [machine_line(report["machine"]), _what(report), format_table(HEADER, _rows(single))]
    if several:
        parts.append(format_table(SEVERAL_HEADER, _several_rows(report, several)))
    parts += [f"refused: {name}: {why}" for name, why in report["refused"].items()]
    parts.append("none is better in both: " + "; ".join(report["best"]))
    return "\n\n".join([*parts, "wrote " + ", ".join(map(str, written)), verdict_line(report["verdict"]["reasons"])])


def _page(report: dict[str, Any], single: dict[str, Any], several: dict[str, Any], pictures: list[Path]) -> str:
    page = Page(f"Speed against drift on {report['machine']['cpu']}", f"spm-bench sweep, {report['started']}")
    page.verdict(verdict_line(report["verdict"]["reasons"]), report["verdict"]["valid"])
    page.note(_what(report))
    page.picture(pictures[0], "Plot of speed against drift")
    page.note("One target; further right and lower is better.")
    page.heading("One target, fastest first")
    page.table(HEADER, _rows(single), best=[name in report["best"] for name in single])
    page.note(
        "In bold what no other choice beats in both speed and drift, of those within their bound (mean overlap "
        + ", ".join(f"{name} {least:g}" for name, least in LEAST_IOU.items())
        + "); the numbers are those in "
        "the plot. Speed is "
        "the reference's median time over this one's, from turns taken side by side; its quartiles are over the "
        "turns. Drift is 1 - mean overlap with the reference's boxes, each frame from the reference's last box; "
        "IoU free is the mean overlap where each goes its own way. Host is what runs no graph: crop, proposals, "
        "fusion, rest."
    )
    if several:
        page.heading("Several targets on the same frames")
        page.table(SEVERAL_HEADER, _several_rows(report, several))
        page.picture(pictures[1], "Plot of the time per target against the number of targets")
    if report["refused"]:
        page.heading("What could not be run")
        page.facts(report["refused"])
    page.heading("Machine")
    page.facts(_machine_facts(report))
    page.heading("Command")
    page.code(_command())
    return page.text()


def _plot_targets(report: dict[str, Any], folder: Path) -> Path:
    """Time per target against N, a line for each backend, precision and number of threads."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for name, figures in report["choices"].items():
        curves.setdefault(_family(name, figures), []).append((figures["targets"], figures["ms_per_target"]))
    lines = {name: tuple(zip(*sorted(points), strict=True)) for name, points in curves.items() if len(points) > 1}
    return plot_curves(
        folder / "targets.png",
        lines,  # type: ignore[arg-type]
        title="Cost of a target",
        x="targets",
        y="ms per target and frame",
        points=True,
    )


def _family(name: str, figures: dict[str, Any]) -> str:
    """The name without the number of targets."""
    return name.removesuffix(f", {figures['targets']} targets")


def _sorted(report: dict[str, Any], several: bool) -> dict[str, Any]:
    """Choices of one target, or of more; the fastest first."""
    chosen = {name: f for name, f in report["choices"].items() if (f["targets"] > 1) == several}
    return dict(sorted(chosen.items(), key=lambda item: -item[1]["speed"]))


def _rows(single: dict[str, Any]) -> list[list[str]]:
    return [
        [
            str(number),
            name,
            f"{f['speed']:.2f}x",
            " to ".join(f"{v:.2f}" for v in f["ratio_spread"]),
            f"{f['p50_ms']:.2f}",
            f"{f['p99_over_p50']:.2f}",
            f"{f['host_ms']:.2f}",
            _drift(f["drift"]),
            "ok" if f["within_bound"] else "over",
            f"{f['lowest_iou']:.4f}",
            _figure(f["center_px"], 3),
            _figure(f["free_iou"], 4),
        ]
        for number, (name, f) in enumerate(single.items(), 1)
    ]


def _several_rows(report: dict[str, Any], several: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, figures in several.items():
        one = report["choices"].get(_family(name, figures))
        share = figures["ms_per_target"] / one["p50_ms"] if one else None
        rows.append(
            [
                _family(name, figures),
                str(figures["targets"]),
                f"{figures['p50_ms']:.2f}",
                f"{figures['ms_per_target']:.2f}",
                percent(share),
                _drift(figures["drift"]),
                f"{figures['lowest_iou']:.4f}",
            ]
        )
    return rows


def _drift(value: float) -> str:
    return f"< {FLOOR:g}" if value < FLOOR else f"{value:.1e}"


def _bound_note(figures: dict[str, Any]) -> str:
    return "" if figures["within_bound"] else " (drift over its bound)"


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _what(report: dict[str, Any]) -> str:
    size = report["frame_size"]
    counted = min(f["frames"] for f in report["choices"].values())
    bundles = ", ".join(
        f"{name} ({facts['precision']}, weights {facts['checkpoint'][:12]})"
        for name, facts in report["bundles"].items()
    )
    return (
        f"Whole frames of {size[0]} x {size[1]} ({report['clip']}), from an image in memory to a box; {counted} "
        f"frames counted per choice, in turns of {report['block']}. Reference: {report['reference']}. "
        f"Bundles: {bundles}."
    )


def _machine_facts(report: dict[str, Any]) -> dict[str, str]:
    facts = report["machine"]
    return {
        "Processor": facts["cpu"],
        "Instruction sets": " ".join(facts["instruction_sets"]),
        "Cores": f"{facts['usable_cores']} of {facts['cores']} usable (affinity {facts['affinity']})",
        "Thread variables": ", ".join(f"{k}={v}" for k, v in facts["thread_variables"].items()) or "none",
        "Load at the start": str(facts["load_1min"]),
        "System": f"{facts['system']}, Python {facts['python']}",
        "Libraries": ", ".join(f"{k} {v}" for k, v in facts["libraries"].items()),
        "Noise": f"a fixed matrix product spread by {report['noise']['calibration_spread']:.1%} over the run",
    }


def _command() -> str:
    """As it was called."""
    return shlex.join(["spm-bench", *sys.argv[1:]])
