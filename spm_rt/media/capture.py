"""Cameras, and videos where PyAV is not installed, read by OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2

from ..errors import SourceError
from .protocol import Decoded


class CaptureReader:
    """What :class:`cv2.VideoCapture` opens: a camera by its number, a file, a URL."""

    damaged = False

    def __init__(self, source: int | str, name: str, *, live: bool, timeout: float) -> None:
        self.live = live
        self.unreadable = 0
        self.notes: list[str] = []
        self._capture: Any = cv2.VideoCapture(source)
        if not self._capture.isOpened():
            kind = "camera" if isinstance(source, int) else "video"
            raise SourceError(f"{name}: cannot be opened as a {kind}")
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_rate = rate if 0 < rate <= 1000 else None
        self.expected = count if count > 0 and not live else None

    def __iter__(self) -> Iterator[Decoded]:
        index, first = 0, None
        while self._capture.grab():
            time = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
            first = time if first is None else first
            yield Decoded(index, time - first, None, lambda: self._capture.retrieve()[1])
            index += 1

    def close(self) -> None:
        self._capture.release()
