"""Follow an object through Triton over gRPC: python examples/triton_client.py 127.0.0.1:8001 FRAMES/ X,Y,W,H

The server has the repository of `spm-export spm_alexnet --triton models`; here are frames as files, sent as they are.
"""

import os
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton


def tensor(name, array, kind):
    given = triton.InferInput(name, array.shape, kind)
    given.set_data_from_numpy(array)
    return given


address, folder, box = sys.argv[1], Path(sys.argv[2]), [float(v) for v in sys.argv[3].split(",")]
client, files = triton.InferenceServerClient(address), sorted(folder.iterdir())
sequence = os.getpid()  # a number that nobody else has at the same time, not 0
for file in files:
    inputs = [tensor("JPEG", np.fromfile(file, np.uint8)[None], "UINT8")]
    if file == files[0]:
        inputs.append(tensor("BOX", np.array([box]), "FP64"))
    answer = client.infer(
        "spm_tracker",
        inputs,
        sequence_id=sequence,
        sequence_start=file == files[0],
        sequence_end=file == files[-1],
    )
    x, y, width, height = answer.as_numpy("BOX")[0]
    state = "" if answer.as_numpy("FOUND")[0, 0] else "lost"
    print(f"{file.name} {x:.2f} {y:.2f} {width:.2f} {height:.2f} {answer.as_numpy('SCORE')[0, 0]:.3f} {state}")
