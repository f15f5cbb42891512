#!/usr/bin/env bash
# ONNX Runtime rounds the float32 weights of a layer that a quantised model leaves in float32, all with one scale.
#
# Packages:    onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6
# Expectation: in a model with QuantizeLinear and DequantizeLinear, a Conv whose weights are float32 and have no such pair
#              computes with these weights: it was left out of quantisation because it loses too much there.
# Behaviour:   between a DequantizeLinear and a QuantizeLinear its weights are rounded to int8 when the model is loaded, with
#              one scale for all channels. A channel whose weights are small beside the others' becomes 0.
#              With session.disable_quant_qdq=1, or a Min of no effect behind the DequantizeLinear, they are left alone.
# Seen:        weights 1 and 0.001 on inputs of 1: the second output is 0 instead of 0.001
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --target "$folder/packages" onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" "${PYTHON:-python3}" - <<'END'
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

constants = {
    "step": np.float32(1 / 255),
    "fine": np.float32(1e-4),
    "zero": np.uint8(0),
    "weight": np.array([1, 0.001], np.float32).reshape(2, 1, 1, 1),
    "bias": np.zeros(2, np.float32),
}
nodes = [
    helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["codes"]),
    helper.make_node("DequantizeLinear", ["codes", "step", "zero"], ["rounded"]),
    helper.make_node("Conv", ["rounded", "weight", "bias"], ["made"]),
    helper.make_node("QuantizeLinear", ["made", "fine", "zero"], ["out"]),
    helper.make_node("DequantizeLinear", ["out", "fine", "zero"], ["y"]),
]
shapes = {"x": [1, 1, 4, 4], "y": [1, 2, 4, 4]}
ends = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
graph = helper.make_graph(nodes, "graph", [ends["x"]], [ends["y"]], initializers)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(disabled: str) -> float:
    """The second output."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", disabled)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return round(float(session.run(None, {"x": np.ones((1, 1, 4, 4), np.float32)})[0][0, 1, 0, 0]), 5)


merged, written = run("0"), run("1")
print(f"onnxruntime {onnxruntime.__version__}: {merged} where pairs are merged, {written} as it is written")
if merged != 0 or written != 0.001:
    sys.exit("changed: the small weight is no longer lost")
END
