#!/usr/bin/env bash
# OpenVINO does not read an ONNX model's weights through a link that leads out of the model's folder.
#
# Packages:    openvino 2026.4.1, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6
# Expectation: a model whose folder is made of links works like the folder itself. Caches of model hubs are laid out like that:
#              models--NAME/snapshots/REVISION/FILE is a link to models--NAME/blobs/HASH.
# Behaviour:   ONNX Runtime reads it, OpenVINO does not: it resolves the link of the weights file and refuses what lies outside
#              the folder of the model file.
# Seen:        plain folder: both read; folder of links: ONNX Runtime reads, OpenVINO refuses
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --target "$folder/packages" openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" "${PYTHON:-python3}" - <<'END'
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper


def reads(load: object, path: Path) -> bool:
    try:
        load(str(path))
    except Exception as error:
        print(f"  {str(error).strip().splitlines()[-1][:160]}")
        return False
    return True


blobs, plain, linked = Path("blobs"), Path("plain"), Path("snapshots/main")
for made in (blobs, plain, linked):
    made.mkdir(parents=True)
weight = numpy_helper.from_array(np.arange(4096, dtype=np.float32).reshape(64, 64), "weight")
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in ("x", "y")]
graph = helper.make_graph([helper.make_node("MatMul", ["x", "weight"], ["y"])], "graph", ends[:1], ends[1:], [weight])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.save(model, plain / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
for number, name in enumerate(("model.onnx", "weights.bin")):
    (blobs / f"blob{number}").write_bytes((plain / name).read_bytes())
    (linked / name).symlink_to(Path("../../blobs") / f"blob{number}")


def by_onnxruntime(path: str) -> None:
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def by_openvino(path: str) -> None:
    openvino.Core().compile_model(path, "CPU")


seen = [reads(load, where / "model.onnx") for where in (plain, linked) for load in (by_onnxruntime, by_openvino)]
print("plain folder, folder of links; ONNX Runtime, OpenVINO in each:", ["reads" if one else "refuses" for one in seen])
if seen != [True, True, True, False]:
    sys.exit("changed: three reads and one refusal were expected")
END
