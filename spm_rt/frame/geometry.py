"""Boxes, the search region, and the way between the frame's and the crop's coordinates.

Inside the package a box is ``x1, y1, x2, y2``; at its edge (``Tracker``) it is ``x, y, width, height``. Coordinates are
pixels of the frame, 0 being the first pixel's centre, with ``x2 = x1 + width``.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from ..settings import ModelSpec

FloatArray = NDArray[np.floating]


@dataclasses.dataclass(frozen=True, slots=True)
class Region:
    """The square of the frame that a crop shows.

    ``x1, y1, x2, y2`` are in frame pixels (float64); ``scale`` is crop pixels per frame pixel.
    """

    x1: float
    y1: float
    x2: float
    y2: float
    scale: float


def search_region(box: tuple[float, float, float, float] | FloatArray, spec: ModelSpec) -> Region:
    """The square around a box ``x1, y1, x2, y2`` with context on all sides (paper, 4.1; docs/notes/model.md, "Crop").

    With ``c`` half of width + height, the template's side is ``s = sqrt((w + c) * (h + c))``, and the square's side is
    ``s * crop_size / template_size``. Nothing is rounded.
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    width, height = x2 - x1, y2 - y1
    context = spec.context_amount * (width + height)
    side = math.sqrt((width + context) * (height + context))
    scale = spec.template_size / side
    half = (side + (spec.crop_size - spec.template_size) / scale) / 2
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    return Region(cx - half, cy - half, cx + half, cy + half, scale)


def to_crop(boxes: FloatArray, region: Region) -> NDArray[np.float32]:
    """Boxes ``[..., 4]`` from frame to crop pixels, float32.

    The scale is ``crop_size / side`` although the crop's pixels lie ``side / (crop_size - 1)`` apart. The trained
    weights know this half-pixel quirk of the release: it stays.
    """
    moved = (boxes - _offset(region)).astype(np.float32)
    return (moved * region.scale).astype(np.float32, copy=False)


def to_frame(boxes: FloatArray, region: Region) -> NDArray[np.float32]:
    """Boxes ``[..., 4]`` from crop to frame pixels: the inverse of :func:`to_crop`, float32."""
    scaled = (boxes / region.scale).astype(np.float32, copy=False)
    # Added in float64, rounded once.
    np.add(scaled, _offset(region), out=scaled, casting="same_kind")
    return scaled


def _offset(region: Region) -> NDArray[np.float64]:
    return np.array([region.x1, region.y1, region.x1, region.y1])


def overlap_with(boxes: NDArray[np.float32], box: NDArray[np.float32], one: float) -> NDArray[np.float32]:
    """Overlap (IoU) of boxes ``[n, 4]`` with one box ``[4]``, float32.

    Args:
        boxes: x1, y1, x2, y2.
        box: x1, y1, x2, y2.
        one: 1 counts pixels inclusively (``x2 - x1 + 1``), as the release's near rule does; 0 does not, as its
            suppression does. Two empty boxes then give NaN.
    """
    unit = np.float32(one)
    first, second = boxes.T, box[:, None]  # x1, y1, x2, y2 along the leading axis
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = np.minimum(first[2:], second[2:])
        sides -= np.maximum(first[:2], second[:2])
        sides += unit
        np.maximum(sides, np.float32(0), out=sides)
        inter = sides[0] * sides[1]
        union = _area(first, unit) + _area(second, unit)
        union -= inter
        overlap: NDArray[np.float32] = np.divide(inter, union, out=inter)
    return overlap


def _area(corners: NDArray[np.float32], unit: np.float32) -> NDArray[np.float32]:
    sides = corners[2:] - corners[:2]
    sides += unit
    area: NDArray[np.float32] = sides[0] * sides[1]
    return area


def iou(a: FloatArray, b: FloatArray) -> NDArray[np.float64]:
    """Plain overlap of boxes ``[..., 4]`` (x1, y1, x2, y2) in pairs, float64; 0 where the union is empty."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    size = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inter = np.clip(size, 0, None).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inter
    return np.where(union > 0, inter / np.where(union > 0, union, 1), 0.0)


def xywh_to_xyxy(box: tuple[float, float, float, float]) -> NDArray[np.float64]:
    x, y, width, height = box
    return np.array([x, y, x + width, y + height], np.float64)


def as_corners(box: FloatArray) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 as Python's numbers."""
    x1, y1, x2, y2 = (float(v) for v in box)
    return x1, y1, x2, y2


def xyxy_to_xywh(box: FloatArray) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = as_corners(box)
    return x1, y1, x2 - x1, y2 - y1
