"""Frames alone, for who needs no time stamps and no report: thin covers over :mod:`spm_rt.media.sources`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from .pictures import picture_files, read_picture
from .protocol import Picture as Frame
from .sources import is_camera, open_source

__all__ = ["Frame", "frame_count", "frame_rate", "frames", "is_camera", "picture_files", "read_picture"]


def frames(source: str | os.PathLike[str]) -> Iterator[Frame]:
    """Frames, BGR uint8, of whatever :func:`spm_rt.media.sources.open_source` opens.

    Raises:
        SourceError: on the first frame, if there is nothing to read.
    """
    with open_source(source) as opened:
        for frame in opened:
            yield frame.picture


def frame_count(source: str | os.PathLike[str]) -> int | None:
    """Number of frames, as far as the source says."""
    if is_camera(os.fspath(source)):
        return None
    with open_source(source) as opened:
        return opened.expected


def frame_rate(source: str | os.PathLike[str], default: float = 25.0) -> float:
    """Frames per second of a video file; ``default`` where the source does not say."""
    if is_camera(os.fspath(source)):
        return default
    with open_source(source) as opened:
        return opened.frame_rate or default
