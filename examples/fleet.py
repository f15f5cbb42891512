"""Many videos, results as Parquet: python examples/fleet.py BUNDLE FOLDER VIDEO=X,Y,W,H [VIDEO=X,Y,W,H ...]"""

import csv
import sys
from pathlib import Path

from spm_rt.pipelines.fleet.cli import main as spm_fleet


def main(bundle: str, out: str, *given: str) -> int:
    Path(out).mkdir(parents=True, exist_ok=True)
    manifest = Path(out, "manifest.csv")
    with open(manifest, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "frame", "x", "y", "width", "height"])
        for one in given:
            video, _, box = one.rpartition("=")
            writer.writerow([Path(video).resolve(), 0, *box.split(",")])
    # Run it again after any stop: what is done is left out. More at a time: "--workers", "4" (with Ray).
    return spm_fleet([str(manifest), "--out", out, "--bundle", bundle])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
