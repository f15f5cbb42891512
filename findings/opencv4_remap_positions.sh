#!/usr/bin/env bash
# OpenCV 4 rounds the positions of cv2.remap to 1/32 pixel, although they are given as float32.
#
# Packages:    opencv-python-headless 4.12.0.88, numpy 2.2.6
# Expectation: with INTER_LINEAR and float32 maps, the value between two pixels is their mean weighted by the distance: halfway
#              between 0 and 1024 lies 512, and a hundredth of a pixel to the right of 0 lies 10.24.
# Behaviour:   the position is rounded to the nearest 1/32 pixel first, also for float32 pictures. A hundredth of a pixel is
#              rounded to 0, two hundredths to 1/32. A step of one pixel has 33 different values only.
# Seen:        at 0.01, 0.02, 0.5 pixels: 0, 32, 512 instead of 10.24, 20.48, 512; 33 values in 1001 positions
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --target "$folder/packages" opencv-python-headless==4.12.0.88 numpy==2.2.6
cd "$folder"
PYTHONPATH="$folder/packages" "${PYTHON:-python3}" - <<'END'
import sys

import cv2
import numpy as np

picture = np.array([[0, 1024], [0, 1024]], np.float32)


def sample(positions: list[float]) -> np.ndarray:
    x = np.array([positions], np.float32)
    return cv2.remap(picture, x, np.zeros_like(x), cv2.INTER_LINEAR)[0]


few, many = sample([0.01, 0.02, 0.5]).tolist(), len(set(sample(np.linspace(0, 1, 1001)).tolist()))
print(f"OpenCV {cv2.__version__}: at 0.01, 0.02, 0.5 pixels {few}; {many} values in 1001 positions")
if few != [0, 32, 512] or many != 33:
    sys.exit("changed: positions are no longer rounded to 1/32 pixel")
END
