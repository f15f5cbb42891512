"""Changes of a crop that leave its boxes alone: colour, grey, light, blur, noise, and things in front of the object."""

from __future__ import annotations

import cv2
import numpy as np

from ..config import AugmentConfig
from .readers import Boxes, Image


def change_colors(crop: Image, rng: np.random.Generator, config: AugmentConfig) -> Image:
    """Gain and offset per channel, saturation; contrast and brightness."""
    out = crop.astype(np.float32)
    if rng.random() < config.color:
        out = out * rng.uniform(0.85, 1.15, 3).astype(np.float32) + rng.uniform(-8, 8, 3).astype(np.float32)
        grey = out @ np.array([0.114, 0.587, 0.299], np.float32)
        out = grey[..., None] + (out - grey[..., None]) * np.float32(rng.uniform(0.5, 1.4))
    if rng.random() < config.light:
        mean = out.mean()
        out = (out - mean) * np.float32(rng.uniform(0.6, 1.3)) + mean * np.float32(rng.uniform(0.6, 1.3))
    return np.clip(out, 0, 255).astype(np.uint8)


def soften(crop: Image, rng: np.random.Generator, config: AugmentConfig) -> Image:
    """Blur, of the lens or along a line of motion, and sensor noise."""
    if rng.random() < config.blur:
        if rng.random() < 0.5:
            crop = np.asarray(cv2.GaussianBlur(crop, (0, 0), float(rng.uniform(0.6, 2.2))), np.uint8)
        else:
            length = int(rng.integers(3, 10))
            kernel = np.zeros((length, length), np.float32)
            angle = rng.uniform(0, np.pi)
            middle = (length - 1) / 2
            reach = np.array([np.cos(angle), np.sin(angle)]) * middle
            start, end = np.round(middle - reach).astype(int), np.round(middle + reach).astype(int)
            cv2.line(kernel, tuple(start.tolist()), tuple(end.tolist()), 1.0)
            crop = np.asarray(cv2.filter2D(crop, -1, kernel / kernel.sum()), np.uint8)
    if rng.random() < config.noise:
        noise = rng.normal(0, rng.uniform(2, 10), crop.shape).astype(np.float32)
        crop = np.clip(crop + noise, 0, 255).astype(np.uint8)
    return crop


def to_grey(crop: Image) -> Image:
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)


def lower_detail(crop: Image, detail: float) -> Image:
    """The crop as if taken from a picture ``detail`` times as large."""
    side = crop.shape[0]
    cells = max(16, round(side * detail))
    small = cv2.resize(crop, (cells, cells), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def surround(crop: Image, keep: Boxes, background: Image, fade: float) -> Image:
    """The crop inside ``keep`` (``[4]``, in its pixels), another picture outside, faded over ``fade`` pixels."""
    side = crop.shape[0]
    at = np.arange(side, dtype=np.float32)
    x = np.clip((at - keep[0]) / fade, 0, 1) * np.clip((keep[2] - at) / fade, 0, 1)
    y = np.clip((at - keep[1]) / fade, 0, 1) * np.clip((keep[3] - at) / fade, 0, 1)
    alpha = (y[:, None] * x)[..., None]
    other = cv2.resize(background, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(other + (crop.astype(np.float32) - other) * alpha + 0.5, dtype=np.uint8)


def cover(crop: Image, box: Boxes, patch: Image, rng: np.random.Generator) -> Image:
    """Part of ``patch`` in front of a tenth to two fifths of ``box`` (``[4]``, in pixels of this crop)."""
    width, height = box[2] - box[0], box[3] - box[1]
    if rng.random() < 0.5:
        size = width * rng.uniform(0.2, 0.4), height * rng.uniform(0.5, 1.0)
    else:
        size = width * rng.uniform(0.5, 1.0), height * rng.uniform(0.2, 0.4)
    center = box[0] + rng.random() * width, box[1] + rng.random() * height
    return put(crop, box_around(np.array(center), np.array(size)), patch, feather=False)


def box_around(center: np.ndarray, size: np.ndarray) -> np.ndarray:
    """x1, y1, x2, y2 of a box by its centre ``[2]`` and its width and height ``[2]``."""
    return np.concatenate([center - size / 2, center + size / 2])


def put(crop: Image, box: np.ndarray, patch: Image, feather: bool = True) -> Image:
    """``patch`` resized into ``box`` (``[4]``) of the crop; ``feather`` fades its corners out."""
    side = crop.shape[0]
    x1, y1, x2, y2 = np.round(box).astype(int)
    if x2 - x1 < 3 or y2 - y1 < 3 or x1 >= side or y1 >= side or x2 <= 0 or y2 <= 0:
        return crop
    resized = cv2.resize(patch, (int(x2 - x1), int(y2 - y1)), interpolation=cv2.INTER_AREA).astype(np.float32)
    if feather:
        y, x = np.mgrid[0 : y2 - y1, 0 : x2 - x1]
        u, v = (x + 0.5) / (x2 - x1) * 2 - 1, (y + 0.5) / (y2 - y1) * 2 - 1
        alpha = np.clip((1.25 - (np.abs(u) ** 4 + np.abs(v) ** 4)) / 0.35, 0, 1)[..., None]
    else:
        alpha = np.ones((y2 - y1, x2 - x1, 1))
    a, b, c, d = max(0, x1), max(0, y1), min(side, x2), min(side, y2)
    inner = (slice(b - y1, d - y1), slice(a - x1, c - x1))
    out = crop.astype(np.float32)
    out[b:d, a:c] = out[b:d, a:c] * (1 - alpha[inner]) + resized[inner] * alpha[inner]
    return out.astype(np.uint8)
