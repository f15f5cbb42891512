"""Windows: the first box drawn by hand, and the run as it goes. Many OpenCV builds have none."""

from __future__ import annotations

import os
import re
import sys

import cv2

from ..errors import SourceError
from ..media.drawing import Picture, draw_targets
from ..outputs import Tracked
from ..results import Box

TITLE = "spm-track"
_INSTALL = "pip uninstall -y opencv-python-headless && pip install opencv-python"


def require_windows(option: str, instead: str) -> None:
    """Refuse an option that needs a window where there can be none.

    Args:
        option: that needs it.
        instead: what to do without one.

    Raises:
        SourceError: the OpenCV that is installed has no windows, or there is no screen.
    """
    found = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.M)
    if found is None or found[1] == "NONE":
        raise SourceError(f"{option}: the installed OpenCV is a build without windows; {_INSTALL}; or {instead}")
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise SourceError(f"{option}: there is no screen (DISPLAY is not set); {instead}")


def select_boxes(picture: Picture, names: list[str]) -> list[Box]:
    """The targets' boxes, drawn one after the other in a window.

    Raises:
        SourceError: nothing was drawn.
    """
    boxes: dict[str, Box] = {}
    for name in names:
        shown = draw_targets(picture, {known: Tracked(box, None) for known, box in boxes.items()})
        title = f"{TITLE}: draw a box around {name}, then Enter (c: none)"
        x, y, width, height = cv2.selectROI(title, shown, showCrosshair=False, fromCenter=False)
        cv2.destroyWindow(title)
        if width < 1 or height < 1:
            raise SourceError(f"--select: no box was drawn around {name}")
        boxes[name] = float(x), float(y), float(width), float(height)
    return list(boxes.values())


def show(picture: Picture) -> bool:
    """Show a frame; False when the user has had enough: q, Escape, or the window closed."""
    cv2.imshow(TITLE, picture)
    key = cv2.waitKey(1) & 0xFF
    return key not in (ord("q"), 27) and cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1
