#!/usr/bin/env bash
# Triton's Python backend, as the wheel nvidia-pytriton has it, reads and writes wrong values with numpy 2, without an error.
#
# Packages:    nvidia-pytriton 0.7.0 (the server and its Python backend), numpy 2.3.5, Python 3.9 to 3.13
# Expectation: Tensor.as_numpy gives the bytes that the client has sent, Tensor(name, array) sends those of the array, or
#              either raises: the backend is asked for them in a Python that has numpy 2.
# Behaviour:   the array of as_numpy has the right shape and type and other values; an output made of an array has none. The
#              same tensors by DLPack (numpy.from_dlpack(tensor)) are right, which is the way out. The backend was
#              built with a pybind11 that reads an array's item size where numpy 1 has it.
# Seen:        bytes 0 to 29 sent: as_numpy sums to 0, DLPack to 435; an output of four float64 arrives with 0 bytes
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet --no-deps nvidia-pytriton==0.7.0 numpy==2.3.5
packages=$(echo venv/lib/python*/site-packages)
triton=$packages/pytriton/tritonserver
version=$(venv/bin/python -c 'import sysconfig; print(sysconfig.get_python_version())')
mkdir -p backends models/probe/1
cp -r "$triton/backends/python" backends/
cp "$triton/python_backend_stubs/$version/triton_python_backend_stub" backends/python/
cp "$triton/bin/tritonserver" .
chmod +x tritonserver backends/python/triton_python_backend_stub
cat > models/probe/config.pbtxt <<'END'
name: "probe"
backend: "python"
input [ { name: "IN" data_type: TYPE_UINT8 dims: [ 30 ] } ]
output [ { name: "OUT" data_type: TYPE_FP64 dims: [ 4 ] } ]
END
cat > models/probe/1/model.py <<'END'
import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        tensor = pb.get_input_tensor_by_name(requests[0], "IN")
        sums = [int(tensor.as_numpy().astype(int).sum()), int(np.from_dlpack(tensor).astype(int).sum())]
        print("sums:", *sums, flush=True)
        return [pb.InferenceResponse([pb.Tensor("OUT", np.arange(4.0))])]
END
PATH="$folder/venv/bin:$PATH" \
    LD_LIBRARY_PATH="$(venv/bin/python -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))'):$packages/nvidia_pytriton.libs" \
    ./tritonserver --model-repository=models --backend-directory=backends --allow-gpu-metrics=false --allow-metrics=false \
    --disable-auto-complete-config --allow-grpc=false --http-address=127.0.0.1 --http-port=18423 > log 2>&1 &
venv/bin/python - <<'END'
import json
import re
import sys
import time
import urllib.request

url = "http://127.0.0.1:18423/v2"
for _ in range(240):
    try:
        urllib.request.urlopen(f"{url}/health/ready", timeout=5)
        break
    except OSError:
        time.sleep(0.25)
body = json.dumps(
    {
        "inputs": [{"name": "IN", "datatype": "UINT8", "shape": [30], "data": list(range(30))}],
        "outputs": [{"name": "OUT", "parameters": {"binary_data": True}}],
    }
).encode()
try:
    with urllib.request.urlopen(urllib.request.Request(f"{url}/models/probe/infer", body), timeout=20) as answer:
        header = answer.headers.get("Inference-Header-Content-Length")  # absent where nothing binary follows
        received = len(answer.read()) - int(header) if header else 0
except OSError as error:
    received = f"no answer ({error})"
seen = re.search(r"^sums: (-?\d+) (-?\d+)$", open("log").read(), re.M)
if not seen:
    sys.exit("changed: the model was not asked; see the server's log\n" + open("log").read()[-2000:])
by_numpy, by_dlpack = map(int, seen.groups())
print(f"as_numpy sums to {by_numpy}, DLPack to {by_dlpack}; the output of 32 bytes arrived with {received}")
if by_dlpack != 435:
    sys.exit("changed: DLPack gives other values")
if by_numpy == 435 and received == 32:
    sys.exit("changed: with numpy 2 both ways are right now")
END
