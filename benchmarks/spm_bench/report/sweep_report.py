"""What ``spm-bench sweep`` writes and prints: a page, a plot of speed against drift, the data."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..tables import Row, fill, table
from ..timing.machine import machine_line
from ..timing.verdict import LEAST_IOU, verdict_line
from .files import write_json, write_text
from .page import Page
from .plots import plot_pareto, plot_targets

BOUND_NOTE = {"ok": "", "over": " (drift over its bound)"}
FLOOR = 1e-6
"""Drifts below this are roundings of float32 boxes, and all the same."""
SINGLE = """# {number} | choice {name} | speed {speed:.2f}x
    | quartiles {ratio_spread[0]:.2f} to {ratio_spread[1]:.2f} | p50 ms {p50_ms:.2f} | p99/p50 {p99_over_p50:.2f}
    | host ms {host_ms:.2f} | drift {drift_text} | bound {bound} | lowest IoU {lowest_iou:.4f}
    | centre px {center_px:.3f} | IoU free {free_iou:.4f}"""
SEVERAL = """choice {family} | targets {targets} | p50 ms {p50_ms:.2f} | ms per target {ms_per_target:.2f}
    | of one by itself {share:.1%} | drift {drift_text} | lowest IoU {lowest_iou:.4f}"""


def write_report(report: dict[str, Any], folder: Path) -> list[Path]:
    """The page, its pictures and the data; the paths written."""
    single, several = _rows(report)
    pictures = [
        plot_pareto(
            folder / "pareto.png",
            [(f["name"] + BOUND_NOTE[f["bound"]], f["speed"], max(f["drift"], FLOOR)) for f in single],
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
    single, several = _rows(report)
    parts = [machine_line(report["machine"]), _what(report), table(SINGLE, single)]
    if several:
        parts.append(table(SEVERAL, several))
    parts += [f"refused: {name}: {why}" for name, why in report["refused"].items()]
    parts.append("none is better in both: " + "; ".join(report["best"]))
    return "\n\n".join([*parts, "wrote " + ", ".join(map(str, written)), verdict_line(report["verdict"]["reasons"])])


def _page(report: dict[str, Any], single: list[Row], several: list[Row], pictures: list[Path]) -> str:
    page = Page(f"Speed against drift on {report['machine']['cpu']}", f"spm-bench sweep, {report['started']}")
    page.verdict(verdict_line(report["verdict"]["reasons"]), report["verdict"]["valid"])
    page.note(_what(report))
    page.picture(pictures[0], "Plot of speed against drift")
    page.note("One target; further right and lower is better.")
    page.heading("One target, fastest first")
    page.table(*fill(SINGLE, single), best=[row["name"] in report["best"] for row in single])
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
        page.table(*fill(SEVERAL, several))
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
    lines = {name: tuple(np.array(sorted(points)).T) for name, points in curves.items() if len(points) > 1}
    return plot_targets(folder / "targets.png", lines, "Cost of a target")


def _family(name: str, figures: dict[str, Any]) -> str:
    """The name without the number of targets."""
    return name.removesuffix(f", {figures['targets']} targets")


def _rows(report: dict[str, Any]) -> tuple[list[Row], list[Row]]:
    """Choices of one target, and of more, for the tables; the fastest first."""
    rows: tuple[list[Row], list[Row]] = ([], [])
    for name, figures in sorted(report["choices"].items(), key=lambda item: -item[1]["speed"]):
        chosen, family = rows[figures["targets"] > 1], _family(name, figures)
        one = report["choices"].get(family)
        texts = {
            "number": len(chosen) + 1,
            "family": family,
            "share": figures["ms_per_target"] / one["p50_ms"] if one else None,
            "drift_text": f"< {FLOOR:g}" if figures["drift"] < FLOOR else f"{figures['drift']:.1e}",
            "bound": "ok" if figures["within_bound"] else "over",
        }
        chosen.append({"name": name, **figures, **texts})
    return rows


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
