"""Curves as PNG files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from spm_rt.errors import SourceError

from .files import writing_to

BESIDE = 4
"""A legend of more entries stands beside the picture: within, it would hide a curve."""


def plot_curves(
    path: Path,
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    title: str,
    x: str,
    y: str,
    marks: Mapping[str, tuple[float, float]] | None = None,
    y_from_zero: bool = True,
    points: bool = False,
) -> Path:
    """One picture with a named line per curve, in the given order.

    ``curves`` are name -> x values, y values, and ``marks`` single points: name -> x, y. With ``points`` the values on
    the lines are marked, for few and uneven ones.
    """
    beside = len(curves) > BESIDE
    axes = _axes(path, (9.2, 4.8) if beside else (6.4, 4.8))
    for name, (across, up) in curves.items():
        axes.plot(np.asarray(across), np.asarray(up), label=name, linewidth=1.8, marker="o" if points else None)
    for name, (across, up) in (marks or {}).items():
        axes.plot([across], [up], "o", markersize=6, label=name)
    axes.set(title=title, xlabel=x, ylabel=y)
    if y_from_zero:
        axes.set_ylim(bottom=0)
    if points:
        axes.set_xticks(sorted({float(v) for across, _ in curves.values() for v in np.asarray(across)}))
    axes.grid(True, alpha=0.3)
    return _save(axes, path, beside)


def plot_targets(path: Path, curves: Mapping[str, Any], title: str) -> Path:
    """Time per target against the number of targets: name -> both."""
    return plot_curves(path, curves, title=title, x="targets", y="ms per target and frame", points=True)


def plot_histograms(
    path: Path, groups: Mapping[str, ArrayLike], *, title: str, x: str, bins: Sequence[float], line: float | None = None
) -> Path:
    """Shares of each group over the bins, one over the other; ``line`` marks a threshold."""
    axes = _axes(path)
    for name, values in groups.items():
        values = np.asarray(values)
        shares = np.full(len(values), 1 / max(len(values), 1))
        axes.hist(values, bins=list(bins), weights=shares, alpha=0.55, label=name)
    if line is not None:
        axes.axvline(line, color="black", linestyle="--", linewidth=1, label=f"threshold {line:.2f}")
    axes.set(title=title, xlabel=x, ylabel="share of frames")
    return _save(axes, path)


def plot_pareto(
    path: Path,
    points: Sequence[tuple[str, float, float]],
    *,
    best: Collection[str],
    title: str,
    x: str,
    y: str,
    floor: float | None,
) -> Path:
    """What each choice costs and brings: numbered points, the best ones joined.

    Of ``points`` (name, x, y) more x and less y is better; those named in ``best`` (:func:`pareto_front`) are joined.
    The logarithmic y axis ends at ``floor``; what is below is drawn at it. Without, both axes end around the points.
    """
    axes = _axes(path, (9.0, 4.8))
    looks: dict[bool, dict[str, Any]] = {
        True: {"marker": "o", "markersize": 9, "alpha": 1.0},
        False: {"marker": "s", "markersize": 6, "alpha": 0.6},
    }
    front = []
    for number, (name, across, up) in enumerate(points, 1):
        at = (across, up if floor is None else max(up, floor))
        (dot,) = axes.plot([at[0]], [at[1]], linestyle="", label=f"{number}  {name}", **looks[name in best])
        axes.annotate(str(number), at, textcoords="offset points", xytext=(7, 5), fontsize=9, color=dot.get_color())
        front += [at] if name in best else []
    line = {"color": "black", "linewidth": 1, "linestyle": ":", "zorder": 0, "drawstyle": "steps-pre"}
    axes.plot(*np.array(sorted(front)).reshape(-1, 2).T, **line, label="none is better in both")
    axes.set(title=title, xlabel=x, ylabel=y, yscale="log")
    _, right, highest = (max(values) for values in zip(*points, strict=True))
    if floor is None:
        axes.set_ylim(0.7 * min(up for _, _, up in points), 1.4 * highest)
        low, high = axes.get_ylim()
        ticks = [value for value in (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100) if low <= value <= high]
        axes.set_yticks(ticks, labels=[str(value) for value in ticks])
        axes.minorticks_off()
    else:
        axes.set_ylim(floor / 2, max(10 * floor, 3 * highest))
        axes.set_xlim(0, 1.1 * right)
    axes.grid(True, alpha=0.3)
    return _save(axes, path, beside=True)


def pareto_front(points: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Those that no other beats: none has more x and no more y, or less y and no less x. In the given order."""
    return [
        point
        for point in points
        if not any(x >= point[1] and y <= point[2] and (x, y) != point[1:] for _, x, y in points)
    ]


def _axes(path: Path, inches: tuple[float, float] = (6.4, 4.8)) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SourceError(f"{path}: plots need matplotlib: `pip install spm-rt[bench]`") from error
    figure = Figure(figsize=inches, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def _save(axes: Any, path: Path, beside: bool = False) -> Path:
    """Write the picture, with its legend in it or beside it."""
    where = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "frameon": False} if beside else {}
    axes.legend(fontsize=8, **where)
    with writing_to(path):
        axes.figure.savefig(path)
    return path
