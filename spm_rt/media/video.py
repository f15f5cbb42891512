"""Frames from a video file, a folder of pictures or a camera."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
Frame = NDArray[np.uint8]


def is_camera(source: str) -> bool:
    """Whether the source names a camera by its number, as OpenCV does: ``0``, ``1``, ..."""
    return source.isdigit()


def picture_files(folder: str | os.PathLike[str], inner: Sequence[str] = ("img",)) -> list[Path]:
    """The pictures of a folder by name: of the first folder in it that has one of the ``inner`` names, if there is one.

    So a folder in OTB layout may be given as itself or as its ``img``.
    """
    path = Path(folder)
    pictures = next((path / name for name in inner if (path / name).is_dir()), path)
    files = sorted(p for p in pictures.iterdir() if p.suffix.lower() in SUFFIXES)
    if not files:
        raise SourceError(f"{path}: no pictures in it ({', '.join(SUFFIXES)})")
    return files


def read_picture(path: str | os.PathLike[str]) -> Frame:
    """A picture as BGR, uint8 ``[h, w, 3]``."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise SourceError(f"{path}: not a readable picture" if Path(path).exists() else f"{path}: no such file")
    return np.asarray(picture, np.uint8)


def frames(source: str | os.PathLike[str]) -> Iterator[Frame]:
    """Frames, BGR uint8, of a video file, a folder or a camera number; a camera goes on until the caller stops.

    Raises:
        SourceError: on the first frame, if there is nothing to read.
    """
    name = os.fspath(source)
    if not is_camera(name) and os.path.isdir(name):
        for path in picture_files(name):
            yield read_picture(path)
        return
    capture = _open(name)
    count = 0
    try:
        while True:
            ok, frame = capture.read()
            if not ok:
                break
            count += 1
            yield frame
    finally:
        capture.release()
    if not count:
        raise SourceError(f"{name}: no frame can be read from it")


def frame_count(source: str | os.PathLike[str]) -> int | None:
    """Number of frames, as far as the source says."""
    name = os.fspath(source)
    if is_camera(name):
        return None
    if os.path.isdir(name):
        return len(picture_files(name))
    count = int(_property(name, cv2.CAP_PROP_FRAME_COUNT))
    return count if count > 0 else None


def frame_rate(source: str | os.PathLike[str], default: float = 25.0) -> float:
    """Frames per second of a video file; ``default`` where the source does not say."""
    name = os.fspath(source)
    if is_camera(name) or os.path.isdir(name):
        return default
    rate = _property(name, cv2.CAP_PROP_FPS)
    return rate if 1 <= rate <= 1000 else default


def _property(name: str, number: int) -> float:
    capture = _open(name)
    value = float(capture.get(number))
    capture.release()
    return value


def _open(name: str) -> Any:
    if not is_camera(name) and not os.path.exists(name):
        raise SourceError(f"{name}: no such file or folder")
    capture = cv2.VideoCapture(int(name) if is_camera(name) else name)
    if not capture.isOpened():
        kind = "camera" if is_camera(name) else "video"
        raise SourceError(f"{name}: OpenCV cannot open this {kind}")
    return capture
