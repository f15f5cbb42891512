"""Crops cut out of pictures, and boxes in their pixels (docs/notes/model.md, "Crop").

All boxes are in pixels of the release's 271 x 271 crop, whatever part of it is really cut out: a smaller crop of side
``n`` is the central ``n`` x ``n`` of the same 271, so one set of anchors and offsets serves both.
"""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
import numpy.typing as npt

from spm_rt.settings import ModelSpec

from .readers import Boxes, Image


@dataclasses.dataclass(frozen=True)
class Window:
    """The position of a crop in its picture: the point at the full crop's first pixel, and the crop's sides in pixels.

    ``angle`` turns the picture about the crop's centre (radians); boxes are not turned with it. ``mirror`` flips it
    left to right.
    """

    left: float
    top: float
    width: float
    height: float
    angle: float = 0.0
    mirror: bool = False

    def to_crop(self, boxes: Boxes, side: int) -> Boxes:
        """``[N, 4]`` boxes of the picture, in pixels of the full crop; scaled by side / width, as the release does."""
        scale = np.array([side / self.width, side / self.height] * 2)
        out = (boxes - np.array([self.left, self.top] * 2)) * scale
        if self.mirror:
            # Sample j becomes sample 270 - j, and lies at j * 271 / 270 in these coordinates.
            out = np.stack([side - out[:, 2], out[:, 1], side - out[:, 0], out[:, 3]], axis=1)
        return np.asarray(out, dtype=np.float32)


def window_around(
    box: npt.ArrayLike,
    spec: ModelSpec,
    stretch: tuple[float, float] = (1.0, 1.0),
    angle: float = 0.0,
    mirror: bool = False,
) -> Window:
    """The window of the search crop (and of the template crop) for an object at ``box``.

    ``stretch`` widens the window in x and y, which makes the object look narrower or lower in the crop.
    """
    x1, y1, x2, y2 = (float(v) for v in np.asarray(box, dtype=np.float64))
    width, height = x2 - x1, y2 - y1
    context = spec.context_amount * (width + height)
    side = math.sqrt((width + context) * (height + context)) * spec.crop_size / spec.template_size
    sides = side * stretch[0], side * stretch[1]
    return Window((x1 + x2 - sides[0]) / 2, (y1 + y2 - sides[1]) / 2, sides[0], sides[1], angle, mirror)


def cut(picture: Image, window: Window, side: int, spec: ModelSpec) -> Image:
    """The central ``side`` x ``side`` pixels of the crop; outside the picture is the picture's mean colour.

    Sample j of the full crop lies at ``left + j * width / 270``, one bilinear sample each and no anti-aliasing, as in
    the release.
    """
    full = spec.crop_size
    mean = tuple(float(v) for v in cv2.mean(picture)[:3])
    # crop pixel -> picture pixel, as an affine map about the crop's centre
    step_x, step_y = window.width / (full - 1), window.height / (full - 1)
    sign = -1.0 if window.mirror else 1.0
    cos, sin = math.cos(window.angle), math.sin(window.angle)
    turn = np.array([[cos * sign * step_x, -sin * step_y], [sin * sign * step_x, cos * step_y]])
    center = np.array([window.left + window.width / 2, window.top + window.height / 2])
    shift = center - turn @ np.full(2, (side - 1) / 2)
    out = cv2.warpAffine(
        picture,
        np.concatenate([turn, shift[:, None]], axis=1),
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=mean,
    )
    return np.asarray(out, dtype=np.uint8)
