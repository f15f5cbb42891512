"""What a caller gives to a tracker, checked before anything changes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import BoxError, FrameError
from ..fields import shortened
from ..frame.geometry import xywh_to_xyxy
from ..gpu.device_frames import DeviceFrame

Floats = NDArray[np.float32]
MOST_LEVEL = 2 * 255.0
"""Above this the values of a float frame are those of more than eight bits; filters overshoot white by less."""


def no_clock(stage: str) -> None:
    """Stands in for a stage clock when nobody measures."""


def check_size(frame: NDArray[np.generic] | DeviceFrame, size: tuple[int, int], advice: str) -> None:
    """A FrameError with ``advice`` if a frame has not the ``size`` (height, width) that a tracker was started with."""
    if frame.shape[:2] != size:
        was, now = size[::-1], frame.shape[1::-1]
        raise FrameError(
            f"the frame's size changed from {was[0]} x {was[1]} to {now[0]} x {now[1]}: "
            f"boxes would mean something else; {advice}"
        )


def check_levels(frame: NDArray[np.generic] | DeviceFrame, crop: Floats) -> None:
    """A FrameError if a float frame's template crop has the values of a picture scaled to 0..1, or of over 8 bits."""
    if frame.dtype == np.uint8:
        return
    highest = float(crop.max())
    if 0 < highest <= 1.0:
        raise FrameError("the float frame's values are within 0..1; 0..255 is needed")
    if highest > MOST_LEVEL:
        raise FrameError(f"the float frame's values go up to {highest:.0f}; 0..255 is needed: scale them to 8 bits")


def check_box(box: Sequence[float] | NDArray[np.floating], frame_size: tuple[int, ...]) -> NDArray[np.float64]:
    """A box ``x, y, width, height`` as x1, y1, x2, y2 in float64, if a tracker can start on it.

    Args:
        box: as a caller gives it.
        frame_size: height, width.

    Raises:
        BoxError: not four finite numbers, less than one pixel wide or high, or wholly outside the frame.
    """
    x, y, width, height = _four_numbers(box, "a box is four numbers x, y, width, height")
    given = f"box x={x:g}, y={y:g}, width={width:g}, height={height:g}"
    if not all(math.isfinite(v) for v in (x, y, width, height)):
        raise BoxError(f"{given}: all four must be finite")
    if width <= 0 or height <= 0:
        raise BoxError(f"{given}: empty or inverted (x, y, width, height is expected, not two corners)")
    if width < 1 or height < 1:
        raise BoxError(f"{given}: less than one pixel wide or high")
    rows, columns = frame_size
    if x >= columns or y >= rows or x + width <= 0 or y + height <= 0:
        raise BoxError(f"{given}: wholly outside the frame of {columns} x {rows} pixels")
    if max(width, height) > 100 * max(rows, columns):
        raise BoxError(f"{given}: over 100 times the frame's size, {columns} x {rows}")
    return xywh_to_xyxy((x, y, width, height))


def check_corners(corners: Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    """Corners ``x1, y1, x2, y2`` that a tracker had: its own boxes may be smaller than those that it starts on.

    Raises:
        BoxError: not four finite numbers, or the second corner is not right of and below the first.
    """
    x1, y1, x2, y2 = _four_numbers(corners, "corners are four numbers x1, y1, x2, y2")
    if not (all(map(math.isfinite, (x1, y1, x2, y2))) and x1 < x2 and y1 < y2):
        raise BoxError(f"corners {x1:g}, {y1:g}, {x2:g}, {y2:g}: finite numbers are needed, with x1 < x2 and y1 < y2")
    return np.array([x1, y1, x2, y2], np.float64)


def _four_numbers(values: Sequence[float] | NDArray[np.floating], wanted: str) -> tuple[float, float, float, float]:
    try:
        a, b, c, d = (float(v) for v in values)
    except (TypeError, ValueError, OverflowError) as error:
        raise BoxError(f"{wanted}, not {shortened(values)}") from error
    return a, b, c, d
