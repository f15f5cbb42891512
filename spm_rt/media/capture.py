"""Cameras, and videos where PyAV is not installed, read by OpenCV."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import cv2

from ..errors import SourceError
from ..files import shown
from ..machine import OneProcess
from .protocol import Decoded, check_process

_MOST_ERRORS = 50
"""Frames in a row that cannot be decoded, after which nothing more is to be expected."""


class CameraReader(OneProcess):
    """A camera, by its number or its device. Times are those at which its frames arrived."""

    live = True
    damaged = False
    expected = None

    def __init__(self, camera: int | str) -> None:
        super().__init__()
        self.unreadable = 0
        self.notes: list[str] = []
        self._capture: Any = cv2.VideoCapture(camera)
        if not self._capture.isOpened():
            raise SourceError(f"{shown(str(camera))}: there is no such camera, or another program uses it")
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.frame_rate = rate if 0 < rate <= 1000 else None

    def __iter__(self) -> Iterator[Decoded]:
        index, first = 0, None
        while check_process(self) and self._capture.grab():
            now = time.monotonic()
            first = now if first is None else first
            yield Decoded(index, now - first, None, lambda: self._capture.retrieve()[1])
            index += 1
        self.notes.append("the camera gives no more pictures")

    def close(self) -> None:
        if not self.elsewhere:
            self._capture.release()


class CaptureReader(OneProcess):
    """A video file or a URL.

    Args:
        source: its path or URL.
        live: frames come at their own pace.
        timeout: seconds to wait for data of a URL.

    Raises:
        SourceError: it cannot be opened.
    """

    def __init__(self, source: str, *, live: bool, timeout: float) -> None:
        super().__init__()
        self.live, self.damaged, self.unreadable = live, False, 0
        self.notes = [
            "read by OpenCV, which can tell neither the end from a damaged spot nor a change of size, after which it "
            "scales what comes to the size before: PyAV can (spm-rt[video])"
        ]
        self._file = -1 if "://" in source else _descriptor(source)
        self._capture: Any = self._open(source, int(1000 * timeout))
        if not self._capture.isOpened():
            self.close()
            raise SourceError(f"{shown(source)}: cannot be opened as a video by OpenCV")
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_rate = rate if 0 < rate <= 1000 else None
        self.expected = count if count > 0 and not live else None

    def __iter__(self) -> Iterator[Decoded]:
        index, errors, first = 0, 0, None
        while check_process(self) and errors < _MOST_ERRORS:
            if not self._capture.grab():
                errors += 1
                continue
            self.unreadable, index, errors = self.unreadable + errors, index + errors, 0
            at = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
            first = at if first is None else first
            yield Decoded(index, at - first if at > first or not index else None, None, self._picture)
            index += 1
        self.damaged = self.unreadable > 0
        if self.expected and index < self.expected:
            self.notes.append(f"it ended at frame {index} of about {self.expected}")

    def close(self) -> None:
        if self.elsewhere:
            return
        self._capture.release()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _picture(self) -> Any:
        return self._capture.retrieve()[1]

    def _open(self, source: str, timeout: int) -> Any:
        """By FFmpeg, and a file by its descriptor where its name is one that OpenCV crashes on."""
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong is said once, by us
        if self._file < 0:
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout]
            return cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
        try:
            source.encode()
        except UnicodeEncodeError:
            source = f"/dev/fd/{self._file}"
        has_ffmpeg = cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends()
        return cv2.VideoCapture(f"file:{source}", cv2.CAP_FFMPEG) if has_ffmpeg else cv2.VideoCapture(source)


def _descriptor(source: str) -> int:
    try:
        return os.open(source, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{shown(source)}: cannot be opened ({reason})") from error
