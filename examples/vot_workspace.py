"""A workspace for the VOT toolkit: python examples/vot_workspace.py BUNDLE FOLDER [EXPERIMENT]

Below FOLDER, the sequences are to lie in `sequences`, with their names in `sequences/list.txt`. Then, in FOLDER:

vot evaluate spm        by the protocol of Python (toolkit 0.9)
vot evaluate spm_trax   by TraX, supervised experiments too (toolkit 0.7.4)
"""

import json
import sys
from pathlib import Path

TRACKERS = """[spm]
protocol = python
command = spm_rt.pipelines.toolkits.vot:VotTracker
convert = rectangle
arg_bundle = {bundle}
arg_backend = onnxruntime

[spm_trax]
protocol = trax
command = {python} -m spm_rt.pipelines.toolkits.vot {bundle} onnxruntime
"""


def main(bundle: str, folder: str, experiment: str = "unsupervised") -> None:
    workspace = Path(folder)
    workspace.mkdir(parents=True, exist_ok=True)
    trackers = TRACKERS.format(bundle=Path(bundle).absolute(), python=sys.executable)
    (workspace / "trackers.ini").write_text(trackers, encoding="utf-8")
    stack = {"title": "Ours", "experiments": {"baseline": {"type": experiment, "repetitions": 1}}}
    settings = {"stack": stack, "registry": ["./trackers.ini"]}
    (workspace / "config.yaml").write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML


if __name__ == "__main__":
    main(*sys.argv[1:])
