"""Pictures: which files of a folder are some, in which order, and what is in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from .protocol import Decoded, Picture

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".jp2", ".avif")


def natural_order(path: Path) -> tuple[list[tuple[int, str]], str]:
    """A key to sort files by: runs of digits count as numbers, so that 2 comes before 10."""
    parts = re.split(r"([0-9]+)", path.name)
    return [(int(part), "") if index % 2 else (-1, part.lower()) for index, part in enumerate(parts)], path.name


def picture_files(folder: str | os.PathLike[str], inner: Sequence[str] = ("img",)) -> list[Path]:
    """The pictures of a folder in natural order (2 before 10), hidden files left out.

    Of the first folder in it that has one of the ``inner`` names, if there is one: a folder in OTB layout may be
    given as itself or as its ``img``.

    Raises:
        SourceError: the folder cannot be listed, or holds no pictures.
    """
    path = Path(folder)
    pictures = next((path / name for name in inner if (path / name).is_dir()), path)
    try:
        files = [p for p in pictures.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    except OSError as error:
        raise SourceError(f"{path}: cannot be listed ({error.strerror})") from error
    if not files:
        raise SourceError(f"{path}: no pictures in it ({', '.join(SUFFIXES)})")
    return sorted(files, key=natural_order)


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """A picture as BGR, uint8 ``[h, w, 3]``, turned as its EXIF data says.

    Raises:
        SourceError: no such file, or not a picture.
    """
    try:
        encoded = np.fromfile(path, np.uint8)
    except OSError as error:
        raise SourceError(f"{os.fspath(path)}: {_reason(error)}") from error
    picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if len(encoded) else None
    if picture is None:
        raise SourceError(f"{os.fspath(path)}: not a readable picture")
    return np.asarray(picture, np.uint8)


def _reason(error: OSError) -> str:
    return "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"


class PictureReader:
    """Files of pictures, one frame each."""

    live = False
    damaged = False

    def __init__(self, files: Sequence[Path], rate: float | None = None) -> None:
        self.expected: int | None = len(files)
        self.frame_rate = rate
        self.unreadable = 0
        self.notes: list[str] = []
        self._files = files

    def __iter__(self) -> Iterator[Decoded]:
        for index, file in enumerate(self._files):
            yield Decoded(index, None, file.name, lambda file=file: read_picture(file))  # type: ignore[misc]

    def close(self) -> None:
        """Nothing is held open."""


def as_bytes(picture: NDArray[np.uint16], low: int, high: int) -> Picture:
    """Counts from ``low`` to ``high`` become 0 to 255; what lies outside is cut off."""
    scaled = (np.clip(picture, low, high).astype(np.float32) - low) * (255.0 / max(high - low, 1))
    return np.asarray(np.rint(scaled), np.uint8)
