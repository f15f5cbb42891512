"""Pictures for tests of training: coloured shapes over a pattern, and settings that leave samples as they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from spm_train.config import AugmentConfig

PLAIN = AugmentConfig(**dict.fromkeys((field.name for field in dataclasses.fields(AugmentConfig)), 0.0))
"""Nothing is changed."""
SIZE = (96, 72)  # width, height


def draw(shape: int, center: tuple[float, float], seed: int = 0) -> tuple[np.ndarray, list[float]]:
    """A picture with one shape on a pattern, and the shape's box as x, y, width, height."""
    rng = np.random.default_rng(seed)
    small = rng.integers(60, 200, (9, 12, 3), dtype=np.uint8)
    picture = cv2.resize(small, SIZE, interpolation=cv2.INTER_CUBIC)
    color = [(30, 30, 220), (220, 40, 30), (30, 200, 40), (20, 210, 230)][shape % 4]
    x, y = round(center[0]), round(center[1])
    width, height = (24, 20) if shape % 2 else (18, 26)
    if shape % 2:
        cv2.ellipse(picture, (x, y), (width // 2, height // 2), 0, 0, 360, color, -1)
    else:
        cv2.rectangle(picture, (x - width // 2, y - height // 2), (x + width // 2, y + height // 2), color, -1)
    cv2.line(picture, (x - 5, y - 5), (x + 5, y + 4), (255, 255, 255), 2)
    return picture, [x - width / 2, y - height / 2, float(width), float(height)]


def pack(path: Path, pictures: Iterable[np.ndarray]) -> list[tuple[int, int]]:
    """Append pictures to a file as JPEG; their offsets and lengths."""
    spans = []
    with path.open("ab") as file:
        for picture in pictures:
            code = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            spans.append((file.tell(), len(code)))
            file.write(code)
    return spans
