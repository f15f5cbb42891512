"""How much of the machine's own peak a stage reaches: its multiply-adds a second over those of a matrix product."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..loading import Entry
from ..profiling.multiply_adds import count_layers
from ..tables import named, table
from .gemm import Peaks

PEAKS = ("float32", "bfloat16", "int8")
SHARES = """backend {backend} | stage {name} | million MAC {mmac:.0f} | p50 ms {ms:.2f} | GMAC/s {gmac_per_s:.1f}
    | of peak {share:.1%} | graph {graph}"""
BEST = """peak {name} | GMAC/s {gmac_per_s:.1f} | library {library}
    | product {shape[0]} x {shape[1]} x {shape[2]} | best of each visit {visits}"""


def stage_shares(
    graphs: Mapping[str, Path], stages_ms: Mapping[str, float], entry: Entry, peaks: Peaks
) -> dict[str, dict[str, Any]]:
    """Work, speed and share of the peak of each stage that runs a graph, and of the whole frame.

    Args:
        graphs: the files that the backend loaded, by stage.
        stages_ms: median time of each stage of a frame; their sum is taken for the frame's.
        entry: what was loaded; its precision's peak is what they are judged by.
        peaks: as measured in the same run.

    Returns:
        stage -> ``mmac``, ``ms``, ``gmac_per_s``, ``peak_gmac_per_s``, ``share`` (None without a peak), ``graph``.
    """
    peak = peaks.peak(entry.precision)
    shares: dict[str, dict[str, Any]] = {}
    for stage in ("search", "relation"):
        if stage in graphs and stages_ms.get(stage, 0.0) > 0:
            work = sum(layer.macs for layer in count_layers(graphs[stage], entry.bundle.settings.num_candidates))
            shares[stage] = {**speed(work, stages_ms[stage], peak), "graph": graphs[stage].name}
    if shares:
        work = sum(round(figures["mmac"] * 1e6) for figures in shares.values())
        shares["frame"] = {**speed(work, sum(stages_ms.values()), peak), "graph": ""}
    return shares


def speed(macs: int, ms: float, peak: float | None) -> dict[str, Any]:
    """What ``macs`` multiply-adds in ``ms`` milliseconds are, in GMAC per second and as a share of ``peak``."""
    rate = macs / ms / 1e6
    return {
        "mmac": macs / 1e6,
        "ms": ms,
        "gmac_per_s": rate,
        "peak_gmac_per_s": peak,
        "share": None if peak is None else rate / peak,
    }


def shares_text(shares: Mapping[str, Mapping[str, Mapping[str, Any]]], peaks: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables for people: ``shares`` by backend as :func:`stage_shares` gives them, ``peaks`` as ``Peaks.report``."""
    rows = [{"backend": name, **row} for name, by_stage in shares.items() for row in named(by_stage)]
    visits = {name: {**p, "visits": " ".join(f"{v:.0f}" for v in p["by_visit"])} for name, p in peaks.items()}
    title = "roofline: multiply-adds of the graph that was run, per second, against the best matrix product of this run"
    peak_table = table(BEST, named(visits))
    return f"{title}\n{table(SHARES, rows)}\n\n{peak_table}" if rows else peak_table
