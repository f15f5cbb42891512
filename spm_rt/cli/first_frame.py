"""The first frame with a grid, to read a box from."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from ..media.drawing import Picture, draw_targets
from ..results import Box

_STEPS = (5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000)
_FONT, _SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
_LEFT, _TOP = 44, 22
_CLOSEST = 56
"""Pixels of the picture between two lines with numbers, at least."""


def grid_picture(frame: Picture, boxes: Mapping[str, Box]) -> Picture:
    """A frame enlarged to at least 900 pixels or so, with lines, and their coordinates in the frame around it.

    Args:
        frame: ``[height, width, 3]`` BGR.
        boxes: drawn too, by name.
    """
    height, width = frame.shape[:2]
    scale = -(-900 // max(height, width))
    drawn = draw_targets(frame, {name: (box, None) for name, box in boxes.items()}) if boxes else frame
    picture = np.repeat(np.repeat(drawn, scale, 0), scale, 1)
    longest = max(height, width) * scale
    closest = max(_CLOSEST, longest // 30)
    step = next((step for step in _STEPS if step * scale >= closest), _STEPS[-1])
    for axis, length in ((1, width), (0, height)):
        for place in range(0, length, max(1, step // 5)):
            _line(picture, axis, place * scale, 0.5 if place % step == 0 else 0.18)
    font = _SIZE * max(1.0, longest / 1800)
    left, top = round(_LEFT * font / _SIZE), round(_TOP * font / _SIZE)
    sheet = np.full((height * scale + 2 * top, width * scale + 2 * left, 3), 32, np.uint8)
    sheet[top:-top, left:-left] = picture
    for place in range(0, width, step):
        for y in (top - top // 3, sheet.shape[0] - top // 3):
            _write(sheet, str(place), (left + place * scale, y), font, centred=True)
    for place in range(0, height, step):
        for x in (4, sheet.shape[1] - left + 4):
            _write(sheet, str(place), (x, top + place * scale + top // 5), font)
    return sheet


def _line(picture: Picture, axis: int, place: int, opacity: float) -> None:
    """A line across the picture that is light on dark and dark on light pixels."""
    pixels = picture[place] if axis == 0 else picture[:, place]
    opposite = np.where(pixels.mean(-1, keepdims=True) > 127, 0, 255)
    pixels[:] = ((1 - opacity) * pixels + opacity * opposite).astype(np.uint8)


def _write(picture: Picture, text: str, place: tuple[int, int], font: float, *, centred: bool = False) -> None:
    thick = max(1, round(font / _SIZE / 2))
    x, y = place
    if centred:
        x -= cv2.getTextSize(text, _FONT, font, thick)[0][0] // 2
    cv2.putText(picture, text, (x, y), _FONT, font, (255, 255, 255), thick, cv2.LINE_AA)
