"""Pictures: which files of a folder are some, in which order, and what is in them."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from ..files import shown
from .protocol import Decoded, Picture

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".jp2", ".avif"),
    *(".pgm", ".ppm", ".pbm", ".pnm", ".hdr", ".exr"),
)
_LOOKED_AT = 32
"""Pictures of a sequence from which the range of its counts is taken."""
_TAILS = 0.1
"""Percent of counts at either end that the range leaves out: dead pixels."""


def natural_order(file: Path) -> tuple[list[tuple[int, str]], str]:
    """A key to sort files by their names, in which runs of digits count as numbers: 2 comes before 10."""
    parts = re.split(r"([0-9]+)", file.stem)
    return [(int(part), "") if index % 2 else (-1, part.lower()) for index, part in enumerate(parts)], file.name


def picture_files(folder: str | os.PathLike[str], inner: Sequence[str] = ("img",)) -> list[Path]:
    """The pictures of a folder in natural order (2 before 10), without hidden files.

    Of the first folder in it that has one of the ``inner`` names, if there is one: a folder in OTB layout may be
    given as itself or as its ``img``.

    Raises:
        SourceError: the folder cannot be listed, or holds no pictures.
    """
    path = Path(folder)
    try:
        pictures = _folder_of_pictures(path, inner)
        with os.scandir(pictures) as entries:
            names = [entry.name for entry in entries if _is_picture(entry.name) and not entry.is_dir()]
    except OSError as error:
        raise SourceError(f"{shown(str(path))}: cannot be listed ({error.strerror})") from error
    if not names:
        raise SourceError(f"{shown(str(path))}: no pictures in it ({', '.join(SUFFIXES)})")
    return sorted((pictures / name for name in names), key=natural_order)


def _folder_of_pictures(folder: Path, inner: Sequence[str] = ("img",)) -> Path:
    return next((folder / name for name in inner if (folder / name).is_dir()), folder)


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def files_of_pattern(pattern: str) -> list[Path]:
    """The files that fit ``%04d`` (as in C: at least four digits), or ``*``, ``?`` and ``[...]``, in order."""
    path = Path(pattern)
    if fits := _numbers(path.name):
        files = [file for file in path.parent.iterdir() if fits.fullmatch(file.name)] if path.parent.is_dir() else []
    else:
        files = [Path(name) for name in glob.glob(pattern) if os.path.isfile(name)]
    return sorted(files, key=natural_order)


def _numbers(name: str) -> re.Pattern[str] | None:
    """What fits a name with ``%04d`` in it; None where there is no such thing in it."""
    number = re.search(r"%(?:0?([0-9]+))?d", name)
    if number is None:
        return None
    digits = int(number[1] or 1)
    before, after = re.escape(name[: number.start()]), re.escape(name[number.end() :])
    return re.compile(f"{before}([1-9][0-9]{{{digits},}}|[0-9]{{{digits}}}){after}".replace("%%", "%"))


def would_be_read(source: str, path: str) -> bool:
    """Whether a file that is written to ``path``, there or not, would be among the pictures of a folder or pattern."""
    if os.path.isdir(source):
        folders, fits = [str(_folder_of_pictures(Path(source)))], _is_picture
    elif numbers := _numbers(Path(source).name):
        folders, fits = [str(Path(source).parent)], lambda name: bool(numbers.fullmatch(name))
    else:
        folder, pattern = os.path.split(source)
        folders = glob.glob(folder) if folder else ["."]
        fits = lambda name: fnmatch.fnmatch(name, pattern) and (pattern[:1] == "." or name[:1] != ".")  # noqa: E731
    taken = {os.path.realpath(folder) for folder in folders}
    places = (os.path.split(name) for name in (path, os.path.realpath(path)))  # of a link, and of what it leads to
    return any(fits(name) and os.path.realpath(folder or ".") in taken for folder, name in places)


def read_picture(path: str | os.PathLike[str], levels: tuple[float, float] | None = None) -> Picture:
    """A picture as BGR, turned as its EXIF data says; transparency is left out.

    Args:
        path: its file.
        levels: the values that become 0 and 255, for pictures of more than 8 bits.

    Returns:
        ``[h, w, 3]`` uint8.

    Raises:
        SourceError: no such file, not a picture, or one of more than 8 bits without ``levels``.
    """
    return _require_eight_bits(_decode(path), shown(os.fspath(path)), levels)


def decode_picture(encoded: NDArray[np.uint8], name: str) -> Picture:
    """The bytes of a picture file as :func:`read_picture` gives them.

    Raises:
        SourceError: not a picture, or one of more than 8 bits; the message begins with ``name``.
    """
    return _require_eight_bits(_decode_bytes(encoded, name), name, None)


def _decode(path: str | os.PathLike[str]) -> NDArray[Any]:
    """A picture in the depth in which it is stored, BGR."""
    name = shown(os.fspath(path))
    try:
        encoded = np.fromfile(path, np.uint8)
    except FileNotFoundError as error:
        raise SourceError(f"{name}: no such file") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    return _decode_bytes(encoded, name)


def _decode_bytes(encoded: NDArray[np.uint8], name: str) -> NDArray[Any]:
    picture = _try(encoded, _flags(encoded))
    if picture is None:
        raise SourceError(f"{name}: not a readable picture")
    return _in_three_channels(picture)


def _in_three_channels(picture: NDArray[Any]) -> NDArray[Any]:
    return picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)


def _flags(encoded: NDArray[np.uint8]) -> int:
    """How OpenCV is to decode: TIFFs of one channel of floating point cannot be had as colours."""
    tiff = encoded[:2].tobytes() in (b"II", b"MM")
    return (cv2.IMREAD_ANYCOLOR if tiff else cv2.IMREAD_COLOR) | cv2.IMREAD_ANYDEPTH


def _try(encoded: NDArray[np.uint8], flags: int) -> NDArray[Any] | None:
    try:
        picture: NDArray[Any] | None = cv2.imdecode(encoded, flags) if len(encoded) else None
    except cv2.error:
        return None
    return picture


def _require_eight_bits(picture: NDArray[Any], name: str, levels: tuple[float, float] | None) -> Picture:
    if picture.dtype == np.uint8:
        return picture
    if levels is None:
        raise SourceError(
            f"{name}: {picture.dtype} instead of 8 bits; convert the pictures, or say which values are black and white "
            "where levels can be given"
        )
    return _in_eight_bits(picture, *levels)


def _in_eight_bits(picture: NDArray[Any], low: float, high: float) -> Picture:
    """Values from ``low`` to ``high`` become 0 to 255; what lies outside, and what is no number, is cut off."""
    scaled = (picture.astype(np.float32) - low) * np.float32(255 / (high - low))
    return np.asarray(np.rint(np.clip(np.nan_to_num(scaled), 0, 255)), np.uint8)


class PictureReader:
    """Files of pictures, one frame each.

    Args:
        files: in order.
        levels: see :func:`read_picture`; None: the range of the whole sequence, of which some pictures are looked at.
    """

    live = False
    damaged = False
    frame_rate = None

    def __init__(self, files: Sequence[Path], levels: tuple[float, float] | None = None) -> None:
        self.expected: int | None = len(files)
        self.unreadable = 0
        self.notes: list[str] = []
        self._files, self._levels, self._told = files, levels, False

    def __iter__(self) -> Iterator[Decoded]:
        for index in range(self.expected or 0):
            yield Decoded(index, None, self._file(index).name, lambda index=index: self._read(index))  # type: ignore[misc]

    def close(self) -> None:
        """Nothing is held open."""

    def _file(self, index: int) -> Path:
        return self._files[index]

    def _stored(self, index: int) -> NDArray[Any]:
        """A picture in the depth in which it is stored, BGR."""
        return _decode(self._files[index])

    def _read(self, index: int) -> Picture:
        picture = self._stored(index)
        if picture.dtype == np.uint8:
            return picture
        self._levels = self._levels or self._range()
        if not self._told:
            self._told = True
            low, high = self._levels
            self.notes.append(f"{picture.dtype} pictures: {low:g} became black and {high:g} white")
        return _in_eight_bits(picture, *self._levels)

    def _range(self) -> tuple[float, float]:
        """The lowest and the highest value of the sequence."""
        count = self.expected or 0
        ends = []
        for index in np.linspace(0, count - 1, min(_LOOKED_AT, count)).astype(int).tolist():
            try:
                picture = self._stored(index)
            except SourceError:
                continue
            values = picture[np.isfinite(picture)] if picture.dtype.kind == "f" else picture
            if picture.dtype != np.uint8 and values.size:
                ends.append(np.percentile(values, [_TAILS, 100 - _TAILS]))
        low, high = (float(np.min(ends, axis=0)[0]), float(np.max(ends, axis=0)[1])) if ends else (0.0, 0.0)
        return low, high if high > low else low + 1


class PageReader(PictureReader):
    """The pictures of one file: pages of a TIFF, or an animated WebP or AVIF."""

    def __init__(self, file: Path, levels: tuple[float, float] | None = None) -> None:
        super().__init__([file], levels)
        self.expected = _page_count(file)
        self._encoded = np.fromfile(file, np.uint8) if self.expected > 1 else np.empty(0, np.uint8)
        self._by_page = file.suffix.lower().startswith(".tif")
        self._all: Sequence[NDArray[Any]] = ()

    def _file(self, index: int) -> Path:
        return self._files[0]

    def _stored(self, index: int) -> NDArray[Any]:
        if self.expected == 1:
            return _decode(self._files[0])
        flags = _flags(self._encoded)
        try:
            if self._by_page:
                pages = cv2.imdecodemulti(self._encoded, flags, range=(index, index + 1))[1]
                return _in_three_channels(np.asarray(pages[0]))
            self._all = self._all or cv2.imdecodemulti(self._encoded, flags)[1]
            return _in_three_channels(np.asarray(self._all[index]))
        except (cv2.error, IndexError) as error:
            raise SourceError(f"{shown(str(self._files[0]))}: picture {index} cannot be read") from error


def _page_count(file: Path) -> int:
    try:
        with file.open("rb") as opened:
            name = str(file) if shown(str(file)) == str(file) else f"/dev/fd/{opened.fileno()}"
            return max(int(cv2.imcount(name)), 1)
    except (OSError, cv2.error):
        return 1
