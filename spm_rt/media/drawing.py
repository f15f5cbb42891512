"""Boxes on frames, and a contact sheet of a whole run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..results import FOUND_AGAIN, LOST, TRACKED, UNSURE, Box, Corners, TrackResult

_COLORS = {TRACKED: (80, 220, 60), UNSURE: (60, 190, 240), LOST: (60, 60, 235), FOUND_AGAIN: (240, 170, 60)}
"""BGR, by a result's state."""
_WHITE = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX

Picture = NDArray[np.uint8]
Drawn = tuple[Box, TrackResult | None] | tuple[Box, TrackResult | None, Corners | None]


def draw_result(frame: NDArray[Any], box: Box, label: str, color: tuple[int, int, int]) -> Picture:
    """A copy of a BGR frame with a box ``x, y, width, height`` and a label above it (inside where there is no room)."""
    picture = _copy(frame)
    _draw(picture, box, label, color)
    return picture


def annotate(frame: NDArray[Any], result: TrackResult) -> Picture:
    """A frame with the tracker's box and score, and its state unless it is tracked."""
    return draw_targets(frame, {"": (result.box, result)})


def draw_targets(frame: NDArray[Any], targets: Mapping[str, Drawn]) -> Picture:
    """A copy of a frame with the boxes of all targets.

    Args:
        frame: grey, BGR or BGRA.
        targets: box and result of each by name, and perhaps more, which is not drawn; no result where the box was
            given. Where there are several, their names are in the labels.

    Returns:
        ``[h, w, 3]`` BGR.
    """
    picture = _copy(frame)
    for name, (box, result, *_) in targets.items():
        if result is None:
            _draw(picture, box, name or "target", _COLORS[TRACKED])
        else:
            score = f"{result.score:.2f}" if result.state == TRACKED else f"{result.state.upper()} {result.score:.2f}"
            label = f"{name} {score}" if len(targets) > 1 else score
            _draw(picture, box, label, _COLORS[result.state])
    return picture


def _copy(frame: NDArray[Any]) -> Picture:
    if frame.ndim == 2 or frame.shape[2] == 1:
        frame = np.repeat(frame.reshape(*frame.shape[:2], 1), 3, axis=2)
    return np.array(frame[:, :, :3], np.uint8, order="C")


def _draw(picture: Picture, box: Box, label: str, color: tuple[int, int, int]) -> None:
    label = label.encode("ascii", "replace").decode()  # OpenCV's font has nothing else
    unit = max(picture.shape[0], picture.shape[1]) / 640
    thick = max(1, round(2 * unit))
    x, y, width, height = (round(v) for v in np.nan_to_num(box).clip(-1e6, 1e6).tolist())
    cv2.rectangle(picture, (x, y), (x + width, y + height), color, thick, cv2.LINE_AA)
    (text_width, text_height), base = cv2.getTextSize(label, _FONT, 0.5 * unit, max(1, round(unit)))
    left = min(max(x - thick // 2, 0), max(picture.shape[1] - text_width - 6, 0))
    bottom = y - thick if y - thick - text_height - base >= 0 else y + height + text_height + base + 2 * thick
    bottom = min(max(bottom, text_height + base), picture.shape[0] - 1)
    cv2.rectangle(picture, (left, bottom - text_height - base), (left + text_width + 6, bottom), color, cv2.FILLED)
    cv2.putText(
        picture, label, (left + 3, bottom - base // 2 - 1), _FONT, 0.5 * unit, _WHITE, max(1, round(unit)), cv2.LINE_AA
    )


def contact_sheet(pictures: Sequence[Picture], names: Sequence[str], columns: int = 4, width: int = 320) -> Picture:
    """Pictures side by side, each with its name in the corner.

    Args:
        pictures: BGR; of several sizes, they are fitted into cells of one size, which the widest shape fills.
        names: of each.
        columns: most pictures in a row.
        width: of a cell in pixels.
    """
    columns = min(columns, len(pictures))
    height = max(8, max(fitted_size(picture, width)[1] for picture in pictures))
    rows = -(-len(pictures) // columns)
    gap = 4
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 32, np.uint8)
    for index, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        top, left = gap + index // columns * (height + gap), gap + index % columns * (width + gap)
        cell = sheet[top : top + height, left : left + width]
        size = fitted_size(picture, width)
        small = picture if size == picture.shape[1::-1] else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        cell[(height - size[1]) // 2 :, (width - size[0]) // 2 :][: size[1], : size[0]] = small
        _write_outlined(cell, name)
    return sheet


def fitted_size(picture: Picture, width: int = 320) -> tuple[int, int]:
    """Width and height of a picture in a contact sheet: so wide, but no more than twice as high."""
    scale = min(width / picture.shape[1], 2 * width / picture.shape[0])
    return max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))


def _write_outlined(picture: Picture, text: str) -> None:
    """White letters with a dark rim, in the lower left corner.

    The rim is made of the letters themselves: OpenCV 5 sets a bold text wider than a thin one.
    """
    letters = np.zeros(picture.shape[:2], np.uint8)
    cv2.putText(letters, text, (6, picture.shape[0] - 8), _FONT, 0.45, 255, 1, cv2.LINE_AA)
    rim = cv2.dilate(letters, np.ones((3, 3), np.uint8))
    light, dark = (plane[:, :, None].astype(np.float32) / 255 for plane in (letters, rim))
    picture[:] = np.round(picture * (1 - dark) + 255 * light).clip(0, 255)
