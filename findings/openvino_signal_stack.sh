#!/usr/bin/env bash
# OpenVINO changes the calling thread's stack for signal handlers, and does not put it back when its Cores go in the order
# in which they came.
#
# Packages:    openvino 2026.4.1, numpy 2.4.6 (x86-64 Linux)
# Expectation: making `openvino.Core` objects, asking them for a device's properties and dropping them again leaves the
#              thread as it was.
# Behaviour:   the CPU plugin that each Core loads calls sigaltstack with memory of its own. When it goes, it puts back
#              what was there before, but only if its own memory is the one in use. Dropped in reverse order, the Cores
#              leave the thread as it was; dropped first come, first gone, the thread keeps the first one's. Python has its
#              handlers run on that stack since 3.10. One Core, kept for as long as the process lives, avoids it.
# Seen:        last come, first gone: no stack before, none after; first come, first gone: no stack before, that of the
#              first Core after
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --target "$folder/packages" openvino==2026.4.1 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" "${PYTHON:-python3}" - <<'END'
import ctypes
import sys

import openvino


class Stack(ctypes.Structure):
    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def stack() -> int | None:
    """The address of this thread's stack for signal handlers; None where there is none."""
    now = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(now)) == 0
    return None if now.flags & 2 else now.address  # SS_DISABLE


def left_by(order: tuple[int, int]) -> tuple[int | None, list[int | None], int | None]:
    before, cores, made = stack(), [], []
    for _ in range(2):
        cores.append(openvino.Core())
        cores[-1].get_property("CPU", "FULL_DEVICE_NAME")
        made.append(stack())
    for index in order:
        cores[index] = None
    return before, made, stack()


seen = []
for words, order in (("last come, first gone", (1, 0)), ("first come, first gone", (0, 1))):
    before, made, after = left_by(order)
    name = "none" if after is None else "that of the first Core" if after == made[0] else "another"
    print(f"{words}: before {'none' if before is None else 'one'}, after {name}")
    seen.append((before, name))
if seen != [(None, "none"), (None, "that of the first Core")]:
    sys.exit("changed: none, and that of the first Core, were expected")
END
