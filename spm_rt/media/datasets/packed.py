"""Packed sets: pictures one after another in ``frames.bin``, their offsets and boxes in ``tracks.json``."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import SourceError
from ..pictures import decode_picture
from .sequences import Frame, Sequences


def read_packed(folder: Path, found: Sequences) -> None:
    """Add every track of a packed set.

    Raises:
        SourceError: it is damaged.
    """
    try:
        clips = json.loads((folder / "tracks.json").read_text(encoding="utf-8"))["clips"]
        data = np.memmap(folder / "frames.bin", np.uint8, "r")
        for clip in clips:
            for number, track in enumerate(clip["tracks"]):
                boxes = np.array([[np.nan] * 4 if box is None else box for box in track["boxes"]], np.float64)
                name = clip["name"] if len(clip["tracks"]) == 1 else f"{clip['name']}/{number}"
                read = functools.partial(_read_packed_picture, data, clip["frames"], name)
                found.add(name, f"{name} at {len(found)}", boxes.reshape(-1, 4), read)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{folder}: not a packed set of clips ({type(error).__name__}: {error})") from error


def _read_packed_picture(data: NDArray[np.uint8], spans: list[list[int]], name: str, index: int) -> Frame:
    """Picture ``index``, at its offset and of its length in the packed file."""
    offset, length = spans[index]
    return decode_picture(np.asarray(data[offset : offset + length]), f"{name}: frame {index}")
