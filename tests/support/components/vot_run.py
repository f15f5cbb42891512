"""Run in an environment that has the VOT toolkit: evaluates a tracker on a workspace by the toolkit's own functions.

Arguments: the workspace, the name of the tracker. Prints JSON: for each experiment its trajectory (x, y, width, height;
or a code of the toolkit), and the toolkit's overlaps of the boxes with the truth.
"""

import json
import sys

from vot import config
from vot.experiment import run_experiment
from vot.region import Special, calculate_overlap
from vot.tracker.results import Trajectory
from vot.workspace import Workspace

if __name__ == "__main__":
    folder, name = sys.argv[1:]
    config.results_binary = False
    workspace = Workspace.load(folder)
    (tracker,) = workspace.registry.resolve(name, storage=workspace.storage.substorage("results"), skip_unknown=False)
    (sequence,) = workspace.dataset
    found = {}
    for key, experiment in workspace.stack.experiments.items():
        run_experiment(experiment, tracker, workspace.dataset, False, False)
        trajectory = Trajectory.read(experiment.results(tracker, sequence), f"{sequence.name}_001")
        boxes = [r.code if isinstance(r, Special) else [r.x, r.y, r.width, r.height] for r in trajectory]
        truth = [sequence.groundtruth(k) for k in range(len(sequence))]
        pairs = [(r, t) for r, t in zip(trajectory, truth, strict=True) if not isinstance(r, Special)]
        overlaps = [calculate_overlap(r, t, (sequence.width, sequence.height)) for r, t in pairs]
        found[key] = {"boxes": boxes, "overlaps": overlaps}
    print(json.dumps(found))
