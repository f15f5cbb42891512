"""Experiments of the got10k toolkit: python examples/got10k_experiments.py BUNDLE OUT NAME=FOLDER ...

NAME is `otb` (FOLDER has the sequences of tb50; the toolkit downloads what is missing) or `got10k` (FOLDER has `val`).
"""

import json
import sys
from pathlib import Path

from got10k.experiments import ExperimentGOT10k, ExperimentOTB

from spm_rt.adapters import Got10kTracker


def main(bundle: str, out: str, *experiments: str) -> None:
    places = {"result_dir": str(Path(out, "results")), "report_dir": str(Path(out, "reports"))}
    tracker = Got10kTracker.load(bundle, name="spm")
    for said in experiments:
        name, folder = said.split("=", 1)
        experiment = ExperimentOTB(folder, "tb50", **places) if name == "otb" else ExperimentGOT10k(folder, **places)
        experiment.run(tracker)
        print(json.dumps(experiment.report(["spm"])["spm"]["overall"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
