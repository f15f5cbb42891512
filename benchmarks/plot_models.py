"""Accuracy against processor time of trackers, as a picture: python benchmarks/plot_models.py FIGURES.csv PICTURE.png

The table has the columns ``tracker``, ``auc`` and ``cpu_ms``: the area under the success curve, and the processor time
of a frame on one thread in milliseconds. Trackers that none beats in both are joined.
"""

import csv
import sys
from pathlib import Path

from spm_bench.report.plots import pareto_front, plot_pareto


def main(figures: str, picture: str) -> int:
    with open(figures, encoding="utf-8", newline="") as file:
        points = [(row["tracker"], float(row["auc"]), float(row["cpu_ms"])) for row in csv.DictReader(file)]
    plot_pareto(
        Path(picture),
        points,
        best=[name for name, _, _ in pareto_front(points)],
        title="Which model for whom: accuracy and what it costs",
        x="AUC on twelve clips",
        y="processor time of a frame, one thread (ms)",
        floor=None,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
