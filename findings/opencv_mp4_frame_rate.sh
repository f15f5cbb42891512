#!/usr/bin/env bash
# OpenCV cannot open a writer of mp4 for some ordinary frame rates.
#
# Packages:    opencv-python-headless 5.0.0.93, numpy 2.4.6
# Expectation: cv2.VideoWriter opens for any positive frame rate: a rate is a number, and files may hold any time base.
# Behaviour:   for mp4 with the codec mp4v it opens at 66.666 and 120 frames per second, but not at 66.667 and 119.881.
#              The rate is rounded to thousandths and reduced; MPEG-4 part 2 has 16 bits for its time base, so 66667/1000,
#              whose numerator is over 65,535, is refused, and 33333/500 is not. isOpened() is False; no exception is raised.
# Seen:        60, 66.666 and 120 frames per second: opened; 66.667 and 119.881: refused
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --target "$folder/packages" opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" "${PYTHON:-python3}" - <<'END'
import os
import sys

import cv2


def opens(rate: float) -> bool:
    writer = cv2.VideoWriter("clip.mp4", cv2.VideoWriter.fourcc(*"mp4v"), rate, (64, 48))
    opened = writer.isOpened()
    writer.release()
    return opened


works, fails = [60, 66.666, 120], [66.667, 119.881]
seen = {rate: opens(rate) for rate in works + fails}
print("OpenCV", cv2.__version__, {rate: "opened" if opened else "refused" for rate, opened in seen.items()})
if any(seen[rate] for rate in fails):
    sys.exit("changed: a frame rate that was refused is accepted now")
if not all(seen[rate] for rate in works):
    sys.exit("changed: a frame rate that was accepted is refused now")
END
