"""How much of the machine's own peak a stage reaches: its multiply-adds a second over those of a matrix product."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spm_rt.terminal import format_table

from .gemm import Peaks

PEAKS = ("float32", "bfloat16", "int8")


def stage_shares(
    graphs: Mapping[str, Path], stages_ms: Mapping[str, float], proposals: int, precision: str, peaks: Peaks
) -> dict[str, dict[str, Any]]:
    """Work, speed and share of the peak of each stage that runs a graph, and of the whole frame.

    Args:
        graphs: the files that the backend loaded, by stage.
        stages_ms: median time of each stage of a frame; their sum is taken for the frame's.
        proposals: K.
        precision: whose peak they are judged by.
        peaks: as measured in the same run.

    Returns:
        stage -> ``mmac``, ``ms``, ``gmac_per_s``, ``peak_gmac_per_s``, ``share`` (None without a peak), ``graph``.
    """
    from ..profiling.multiply_adds import count_layers

    peak = peaks.peak(precision)
    shares: dict[str, dict[str, Any]] = {}
    for stage in ("search", "relation"):
        if stage in graphs and stages_ms.get(stage, 0.0) > 0:
            work = sum(layer.macs for layer in count_layers(graphs[stage], proposals))
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
    rows = [
        [name, stage, f"{f['mmac']:.0f}", f"{f['ms']:.2f}", f"{f['gmac_per_s']:.1f}", percent(f["share"]), f["graph"]]
        for name, by_stage in shares.items()
        for stage, f in by_stage.items()
    ]
    tops = [
        [
            name,
            f"{p['gmac_per_s']:.1f}",
            p["library"],
            " x ".join(map(str, p["shape"])),
            " ".join(f"{v:.0f}" for v in p["by_visit"]),
        ]
        for name, p in peaks.items()
    ]
    table = format_table(["backend", "stage", "million MAC", "p50 ms", "GMAC/s", "of peak", "graph"], rows)
    title = "roofline: multiply-adds of the graph that was run, per second, against the best matrix product of this run"
    peak_table = format_table(["peak", "GMAC/s", "library", "product", "best of each visit"], tops)
    return f"{title}\n{table}\n\n{peak_table}" if rows else peak_table


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
