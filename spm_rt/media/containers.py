"""Videos and streams, read by PyAV: time stamps, damaged spots and rotation as FFmpeg knows them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import SourceError
from .protocol import Decoded, Picture


class ContainerReader:
    """The first video stream of a file, a pipe or a URL."""

    def __init__(self, source: Any, name: str, *, live: bool, timeout: float | None) -> None:
        import av

        self.live = live
        self.unreadable = 0
        self.damaged = False
        self.notes: list[str] = []
        self._av, self._name = av, name
        try:
            self._container = av.open(source, "r", timeout=timeout, metadata_errors="replace")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"{name}: cannot be opened as a video ({_reason(error)})") from error
        if not self._container.streams.video:
            self._container.close()
            raise SourceError(f"{name}: there is no video in it")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "SLICE" if live else "AUTO"
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.frame_rate = float(rate) if rate else None
        self.expected = self._stream.frames or None

    def __iter__(self) -> Iterator[Decoded]:
        index, first = 0, None
        for packet in self._container.demux(self._stream):
            try:
                decoded = packet.decode()
            except self._av.error.InvalidDataError:
                self.unreadable += 1
                index += 1
                continue
            for frame in decoded:
                time = frame.time
                if first is None:
                    first = time
                since = None if time is None or first is None else time - first
                yield Decoded(index, since, None, lambda frame=frame: _convert(frame))  # type: ignore[misc]
                index += 1

    def close(self) -> None:
        self._container.close()


def _convert(frame: Any) -> Picture:
    """BGR, turned upright as the video's display matrix says."""
    picture = frame.to_ndarray(format="bgr24", interpolation="BICUBIC")
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90))) if frame.rotation else picture


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def is_installed() -> bool:
    """Whether PyAV can be imported."""
    import importlib.util

    return importlib.util.find_spec("av") is not None


def open_file(name: str, *, live: bool = False, timeout: float | None = None) -> ContainerReader:
    """A file or URL."""
    return ContainerReader(os.fspath(name), name, live=live, timeout=timeout)
