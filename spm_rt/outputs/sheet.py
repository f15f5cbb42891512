"""A contact sheet of a run whose length nobody knows before its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ..errors import SourceError
from ..files import written_whole
from ..media.drawing import Picture, contact_sheet, draw_targets, fitted_size
from ..media.protocol import SourceFrame
from .base import Targets, label, suffix_of

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
COUNT = 12
"""Pictures on a sheet."""
_MOST = 8 * COUNT
"""Pictures that are kept at a time, small ones: then every second one is let go."""


class SheetOutput:
    """Twelve annotated frames, the first and the last among them, at even distances to a few percent of the run.

    Args:
        path: of the picture.
    """

    def __init__(self, path: str) -> None:
        self.label, self.note, self.frames = label(path), "", 0
        self._path = path
        self._open = contextlib.ExitStack()
        self._part = self._open.enter_context(written_whole(Path(path)))
        self._every = 1
        self._kept: list[tuple[int, Picture]] = []
        self._seen = 0
        self._last: tuple[SourceFrame, Targets] | None = None

    def write(self, frame: SourceFrame, targets: Targets, drawn: Callable[[], Picture]) -> None:
        if self._seen % self._every == 0:
            self._kept.append((frame.index, _small(drawn())))
            if len(self._kept) == _MOST:
                self._kept = self._kept[::2]
                self._every *= 2
        self._seen += 1
        self._last = frame, dict(targets)

    def finish(self) -> None:
        if self._last is None:
            self._part.unlink()
            self._open.close()
            return
        frame, targets = self._last
        kept = [entry for entry in self._kept if entry[0] != frame.index]
        kept.append((frame.index, _small(draw_targets(frame.picture, targets))))
        chosen = [kept[k] for k in np.linspace(0, len(kept) - 1, min(COUNT, len(kept))).round().astype(int)]
        sheet = contact_sheet([picture for _, picture in chosen], [f"frame {index}" for index, _ in chosen])
        self._part.write_bytes(encode_picture(sheet, self._path))
        self._open.close()
        self.frames = len(chosen)

    def close(self) -> None:
        self._part.unlink(missing_ok=True)
        self._open.close()


def encode_picture(picture: Picture, path: str) -> bytes:
    """A picture as the file that ``path`` names has it.

    Raises:
        SourceError: OpenCV cannot write such a file.
    """
    try:
        done, encoded = cv2.imencode(suffix_of(path), picture)
    except cv2.error as error:
        raise SourceError(f"{label(path)}: OpenCV cannot write such a picture ({error.err})") from error
    if not done:
        raise SourceError(f"{label(path)}: OpenCV cannot write such a picture")
    return encoded.tobytes()


def _small(picture: Picture) -> Picture:
    """As it will be on the sheet."""
    return np.asarray(cv2.resize(picture, fitted_size(picture), interpolation=cv2.INTER_AREA), np.uint8)
