"""Where a lost target is looked for: boxes of its last size all over the frame, the likely places first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...frame.geometry import search_region
from ...settings import ModelSpec

Box = NDArray[np.float64]


def search_boxes(
    last: Box,
    expected: NDArray[np.float64],
    frame_size: tuple[int, int],
    scales: Sequence[float],
    step: float,
    spec: ModelSpec,
) -> list[Box]:
    """Boxes x1, y1, x2, y2 whose search regions together see the whole frame, at each of several sizes.

    Args:
        last: the target's last sure box, which gives the size.
        expected: x, y of where its centre is expected: the nearest boxes come first.
        frame_size: height, width.
        scales: times the last size.
        step: distance of neighbouring search regions, at most, in sides of a region.
        spec: of the network, which has the side of a region.
    """
    boxes: list[Box] = []
    for scale in scales:
        half = scale * (last[2:] - last[:2]) / 2
        region = search_region(np.concatenate([-half, half]), spec)
        side = (region.x2 - region.x1) * step
        lines = [_places(length, side) for length in frame_size[::-1]]
        centers = [np.array([x, y]) for y in lines[1] for x in lines[0]]
        centers.sort(key=lambda center: float(np.hypot(*(center - expected))))
        boxes += [np.concatenate([center - half, center + half]) for center in centers]
    return boxes


def _places(length: int, step: float) -> list[float]:
    """Places along an axis, evenly, at most ``step`` apart and half of it from the ends."""
    count = max(1, math.ceil(length / step))
    return [(k + 0.5) * length / count for k in range(count)]
