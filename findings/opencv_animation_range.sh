#!/usr/bin/env bash
# OpenCV reads other frames of an animated WebP or GIF than the ones that were asked for, and reports success.
#
# Packages:    opencv-python-headless 5.0.0.93, numpy 2.4.6
# Expectation: cv2.imdecodemulti(..., range=(2, 4)) and cv2.imreadmulti(..., start=2, count=2) give pages 2 and 3, as documented
#              ("a continuous selection of pages", "start index"), and nothing for a start behind the last page. TIFF does so.
# Behaviour:   WebP: the start counts for the number of frames only, always the first ones are returned. GIF: they begin a frame
#              early or at the first. Frame 4 of 4, which is none, is "read" from both. Nothing is raised, True is returned; only
#              reading everything and cutting the list gives the right frames. Not documented, and no issue was found.
# Seen:        of four frames 0 to 3, asked for 2 and 3: TIFF 2 3, WebP 0 1, GIF 1 2; for 3: TIFF 3, WebP 0, GIF 0; for 4: TIFF
#              nothing, WebP 0, GIF 2; for all: 0 1 2 3 of each; the same from memory and from a file
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --target "$folder/packages" opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$folder"
PYTHONPATH="$folder/packages" "${PYTHON:-python3}" - <<'END'
import sys
from pathlib import Path

import cv2
import numpy as np

frames = [np.full((32, 32, 3), 85 * number, np.uint8) for number in range(4)]
animation = cv2.Animation()
animation.frames, animation.durations = frames, np.full(4, 100)
ranges = [(0, 4), (2, 4), (3, 4), (4, 5)]


def numbers(read: bool, pictures: tuple[np.ndarray, ...]) -> list[int]:
    """Which of the frames came back: their grey values are far enough apart to survive lossy formats."""
    return [round(picture.mean() / 85) for picture in pictures] if read else []


def asked(ending: str) -> list[list[int]]:
    """The frames that are read for each of the ranges."""
    path = Path(f"animation.{ending}")
    written = cv2.imwritemulti(path, frames) if ending == "tiff" else cv2.imwriteanimation(path, animation)
    if not written or cv2.imcount(path) != len(frames):
        sys.exit(f"changed: no {ending} of four frames could be written")
    data = np.fromfile(path, np.uint8)
    memory = [numbers(*cv2.imdecodemulti(data, cv2.IMREAD_COLOR, range=wanted)) for wanted in ranges]
    file = [numbers(*cv2.imreadmulti(path, start, end - start, flags=cv2.IMREAD_COLOR)) for start, end in ranges]
    if memory != file:
        sys.exit(f"changed: from memory {memory}, from a file {file}")
    return memory


seen = {ending: asked(ending) for ending in ("tiff", "webp", "gif")}
for ending, found in seen.items():
    print(f"OpenCV {cv2.__version__}, {ending}:", dict(zip(ranges, found, strict=True)))
right = [list(range(4))[start:end] for start, end in ranges]
if seen["tiff"] != right or any(found[0] != right[0] for found in seen.values()):
    sys.exit("changed: all ranges of a TIFF and whole animations were expected to be read right")
if any(one == other for ending in ("webp", "gif") for one, other in zip(seen[ending][1:], right[1:], strict=True)):
    sys.exit("changed: a range of an animation is read right now")
END
