#!/usr/bin/env bash
# Encoding AV1 with PyAV as root makes the calling thread a real-time one, for good, and all that it starts later.
#
# Packages:    av 18.1.0 (with FFmpeg and SVT-AV1 in its wheel), numpy 2.4.6
# Expectation: an encoder leaves the scheduling of the thread that calls it alone, as libx264 and libvpx do.
# Behaviour:   with the first frames given to libsvtav1, the calling thread gets the policy SCHED_FIFO with the highest priority, 99, if
#              the process may (root, as in most containers), and keeps it when the encoder is closed. Threads and processes
#              that it starts from then on inherit it: one that computes keeps everything ordinary off its core. Nothing is
#              said; os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0)) afterwards undoes it.
# Seen:        libx264 and libvpx-vp9: policy 0 before and after; libsvtav1: 0 when it is opened, 1 (SCHED_FIFO, 99) after five
#              frames and after closing, and in a child process that was started then. Not run by a user without the right.
set -euo pipefail
if [ "$(id -u)" != 0 ]; then
    echo "not shown: only root may have real-time threads here"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --target "$folder/packages" av==18.1.0 numpy==2.4.6
cd "$folder"
SVT_LOG=1 PYTHONPATH="$folder/packages" "${PYTHON:-python3}" - <<'END'
import io
import os
import subprocess
import sys

import av
import numpy as np


def encode(name: str) -> None:
    with av.open(io.BytesIO(), "w", format="matroska") as container:
        stream = container.add_stream(name, rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(5):
            picture = np.full((120, 160, 3), 40 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def policy_of_child() -> int:
    code = "import os; print(os.sched_getscheduler(0))"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)


seen = {}
for name in ("libx264", "libvpx-vp9", "libsvtav1"):
    before = os.sched_getscheduler(0)
    encode(name)
    seen[name] = before, os.sched_getscheduler(0), os.sched_getparam(0).sched_priority, policy_of_child()
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    print(f"av {av.__version__}, {name}: policy before, after, its priority, policy of a child: {seen[name]}")
ordinary, realtime = os.SCHED_OTHER, os.SCHED_FIFO
if seen["libx264"] != (ordinary, ordinary, 0, ordinary) or seen["libvpx-vp9"] != seen["libx264"]:
    sys.exit("changed: libx264 and libvpx-vp9 were expected to leave the policy alone")
if seen["libsvtav1"] != (ordinary, realtime, 99, realtime):
    sys.exit("changed: libsvtav1 leaves the policy alone now")
END
