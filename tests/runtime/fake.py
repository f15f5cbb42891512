"""A backend without a network: it finds what is bright. For tests of everything around the network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_rt import Tracker, TrackerSettings
from spm_rt.settings import ModelSpec

Floats = NDArray[np.float32]
SPEC = ModelSpec()
CENTERS = (63.5 + SPEC.stride * np.arange(SPEC.response_cells)).astype(np.float32)


class BrightBackend:
    """Scores are the brightness of the crop at each cell, boxes are squares of five sizes."""

    name = "bright"
    description = "a fake"

    def context(self) -> BrightContext:
        return BrightContext()


class BrightContext:
    def __init__(self) -> None:
        self.crop: Floats = np.zeros((1, 3, SPEC.crop_size, SPEC.crop_size), np.float32)
        self.templates: list[Floats] = []
        x, y = np.meshgrid(CENTERS, CENTERS)
        half = np.array([24, 28, 32, 36, 40], np.float32)
        center = np.stack([x, y], axis=-1)[:, :, None]
        boxes = np.concatenate([center - half[:, None], center + half[:, None]], axis=-1)
        self.boxes = boxes.reshape(1, -1, 4).astype(np.float32)

    def set_template(self, box: Floats) -> None:
        self.templates.append(box.copy())

    def search(self) -> tuple[Floats, Floats]:
        return self._brightness(self.boxes), self.boxes

    def relate(self, proposals: Floats) -> tuple[Floats, Floats]:
        return self._brightness(proposals), proposals + np.float32(1)

    def _brightness(self, boxes: Floats) -> Floats:
        center = np.clip((boxes[..., :2] + boxes[..., 2:]) / 2, 0, SPEC.crop_size - 1).astype(int)
        levels = self.crop[0].mean(0)[center[..., 1], center[..., 0]]
        return (levels / 255).astype(np.float32)


def bright_tracker(settings: TrackerSettings | None = None) -> Tracker:
    return Tracker(BrightBackend(), SPEC, settings or TrackerSettings())


def bright_frame(x: float, y: float, size: tuple[int, int] = (120, 160), side: int = 40) -> NDArray[np.uint8]:
    """A dark frame with a bright disc around x, y."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    distance = np.hypot(columns - x, rows - y)
    level = np.clip(1 - distance / side, 0, 1) * 235 + 10
    return np.repeat(level[:, :, None], 3, axis=2).astype(np.uint8)
