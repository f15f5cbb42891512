#!/usr/bin/env bash
# A hard link to a model's weights, made anywhere, takes the original model away from onnx.load.
#
# Packages:    onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6
# Expectation: a copy of a model's folder by hard links (`cp -al`, backups by `rsync --link-dest`, package caches, a workaround for
#              runtimes that refuse symbolic links) changes nothing for the folder that it was made of.
# Behaviour:   onnx counts the names of a file of external data and refuses one that has two. It does so in the copy and in the
#              untouched original, until the other name is deleted; ONNX Runtime reads both all the time.
# Seen:        before the link onnx and ONNX Runtime read; with the link onnx refuses the original and the copy ("multiple hard
#              links"), ONNX Runtime reads both; after the link's removal onnx reads the original again
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --target "$folder/packages" onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" "${PYTHON:-python3}" - <<'END'
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

original, backup = Path("original"), Path("backup")
original.mkdir()
weight = numpy_helper.from_array(np.arange(4096, dtype=np.float32).reshape(64, 64), "weight")
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in ("x", "y")]
graph = helper.make_graph([helper.make_node("MatMul", ["x", "weight"], ["y"])], "graph", ends[:1], ends[1:], [weight])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.save(model, original / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)


def read_by(folder: Path) -> str:
    """Which of the two libraries read the model in a folder."""
    readers = []
    try:
        onnx.load(folder / "model.onnx")
        readers.append("onnx")
    except onnx.checker.ValidationError as error:
        print(f"  onnx on {folder}: ...{str(error)[-70:]}")
    onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return " ".join([*readers, "onnxruntime"])


seen = [read_by(original)]
shutil.copytree(original, backup, copy_function=os.link)
seen += [read_by(original), read_by(backup)]
shutil.rmtree(backup)
seen.append(read_by(original))
for what, readers in zip(("original alone", "original, linked", "linked copy", "original alone again"), seen, strict=True):
    print(f"{what}: read by {readers}")
if seen != ["onnx onnxruntime", "onnxruntime", "onnxruntime", "onnx onnxruntime"]:
    sys.exit("changed: onnx was expected to refuse the original and the copy while there are two")
END
