"""Run by the Python that has tritonclient: asks the model ``spm_tracker`` for one frame after the other.

A step: ``id``; ``file`` (sent as JPEG) and with ``raw`` its pixels, or ``size`` (a grey frame of height, width);
``box``, ``start``, ``end``.
"""

import importlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

plan = json.loads(sys.argv[1])
library = importlib.import_module(f"tritonclient.{plan['protocol']}")


def tensor(name, array, kind):
    given = library.InferInput(name, array.shape, kind)
    given.set_data_from_numpy(array)
    return given


def inputs(step):
    if "size" in step:
        frame = np.full((*step["size"], 3), 90, np.uint8)
    else:
        frame = cv2.imread(step["file"]) if step.get("raw") else np.fromfile(step["file"], np.uint8)
    yield tensor("FRAME" if frame.ndim == 3 else "JPEG", frame[None], "UINT8")
    if "box" in step:
        yield tensor("BOX", np.array([step["box"]], np.float64), "FP64")


def run(steps):
    client, got = library.InferenceServerClient(plan["address"]), []
    for step in steps:
        order = {
            "sequence_id": step["id"],
            "sequence_start": step.get("start", False),
            "sequence_end": step.get("end", False),
        }
        try:
            answer = client.infer("spm_tracker", list(inputs(step)), **order)
        except Exception as error:
            got.append(str(error))
            continue
        box, score, found = (answer.as_numpy(name)[0].tolist() for name in ("BOX", "SCORE", "FOUND"))
        got.append([*box, *score, *found])
    return got


with ThreadPoolExecutor(len(plan["threads"])) as pool:
    print(json.dumps(list(pool.map(run, plan["threads"]))))
