#!/usr/bin/env bash
# Processes that run OpenVINO with one thread each all run on the same core.
#
# Packages:    openvino 2026.4.1, numpy 2.4.6 (x86-64 Linux, two cores or more)
# Expectation: INFERENCE_NUM_THREADS says how many threads a model is run by. Which core they run on is the system's choice, so
#              that two processes with one thread each run on two cores.
# Behaviour:   threads are bound to cores from the first one on (ENABLE_CPU_PINNING, on by default on Linux), while inference
#              runs, whatever other processes do: two processes with a thread each share the first core, and the
#              others stay idle. With ENABLE_CPU_PINNING off no thread is bound.
# Seen:        by default, both processes run inference on core 0 alone; with ENABLE_CPU_PINNING off, no thread is bound
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --target "$folder/packages" openvino==2026.4.1 numpy==2.4.6
cd "$folder"
cat > bound.py <<'END'
"""Prints the cores that some thread of this process was bound to while it ran inference."""

import os
import sys
import threading
import time

import numpy as np
import openvino
from openvino import opset13 as operators

data = operators.parameter([1, 64, 96, 96], np.float32)
kernel = operators.constant(np.ones((64, 64, 3, 3), np.float32))
result = operators.convolution(data, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
options = {"INFERENCE_NUM_THREADS": 1}
if sys.argv[1] == "free":
    options["ENABLE_CPU_PINNING"] = False
request = openvino.Core().compile_model(openvino.Model([result], [data]), "CPU", options).create_infer_request()
everywhere, bound, ended = os.sched_getaffinity(0), set(), threading.Event()


def look() -> None:
    while not ended.is_set():
        for thread in map(int, os.listdir("/proc/self/task")):
            cores = os.sched_getaffinity(thread)
            if cores != everywhere:
                bound.add(tuple(sorted(cores)))
        time.sleep(0.002)


watching = threading.Thread(target=look)
watching.start()
picture, end = np.zeros((1, 64, 96, 96), np.float32), time.monotonic() + 2
while time.monotonic() < end:
    request.infer({0: picture})
ended.set()
watching.join()
print(sorted(bound))
END
export PYTHONPATH="$folder/packages"
for kind in pinned free; do
    "${PYTHON:-python3}" bound.py "$kind" > "$kind.1" & first=$!
    "${PYTHON:-python3}" bound.py "$kind" > "$kind.2"
    wait "$first"
    echo "$kind: $(cat "$kind.1") and $(cat "$kind.2")"
done
if [ "$(nproc)" -lt 2 ]; then
    echo "one core: nothing to see" >&2
    exit 1
fi
if [ "$(cat pinned.1)" = "[]" ] || [ "$(cat pinned.1)" != "$(cat pinned.2)" ] || [ "$(cat free.1 free.2)" != "$(printf '[]\n[]')" ]; then
    echo "changed: two processes are no longer bound to one core" >&2
    exit 1
fi
