"""Boxes on frames, and a contact sheet of a whole run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..results import Box, TrackResult

FOUND = (80, 220, 60)
LOST = (60, 60, 235)
_WHITE = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX

Picture = NDArray[np.uint8]


def draw_result(frame: NDArray[Any], box: Box, label: str, color: tuple[int, int, int]) -> Picture:
    """A copy of a BGR frame with a box ``x, y, width, height`` and a label above it (inside where there is no room)."""
    picture: Picture = np.ascontiguousarray(frame[:, :, :3], np.uint8).copy()
    unit = max(picture.shape[0], picture.shape[1]) / 640
    thick = max(1, round(2 * unit))
    x, y, width, height = (round(v) for v in box)
    cv2.rectangle(picture, (x, y), (x + width, y + height), color, thick, cv2.LINE_AA)
    (text_width, text_height), base = cv2.getTextSize(label, _FONT, 0.5 * unit, max(1, round(unit)))
    left = min(max(x - thick // 2, 0), max(picture.shape[1] - text_width - 6, 0))
    bottom = y - thick if y - thick - text_height - base >= 0 else y + height + text_height + base + 2 * thick
    bottom = min(max(bottom, text_height + base), picture.shape[0] - 1)
    cv2.rectangle(picture, (left, bottom - text_height - base), (left + text_width + 6, bottom), color, cv2.FILLED)
    cv2.putText(
        picture, label, (left + 3, bottom - base // 2 - 1), _FONT, 0.5 * unit, _WHITE, max(1, round(unit)), cv2.LINE_AA
    )
    return picture


def annotate(frame: NDArray[Any], result: TrackResult) -> Picture:
    """A frame with the tracker's box and score, or LOST."""
    if frame.ndim == 2 or frame.shape[2] == 1:
        frame = np.repeat(frame.reshape(*frame.shape[:2], 1), 3, axis=2)
    label = f"{result.score:.2f}" if result.found else f"LOST {result.score:.2f}"
    return draw_result(frame, result.box, label, FOUND if result.found else LOST)


def contact_sheet(pictures: Sequence[Picture], names: Sequence[str], columns: int = 4, width: int = 320) -> Picture:
    """Pictures of one size side by side, each with its name in the corner."""
    height = round(width * pictures[0].shape[0] / pictures[0].shape[1])
    rows = -(-len(pictures) // columns)
    gap = 4
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 32, np.uint8)
    for index, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        for color, thick in (((0, 0, 0), 3), (_WHITE, 1)):
            cv2.putText(small, name, (6, height - 8), _FONT, 0.45, color, thick, cv2.LINE_AA)
        top, left = gap + index // columns * (height + gap), gap + index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = small
    return sheet
