"""An annotated video of a run, at the source's own time stamps, checked when it is done."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ..errors import SourceError
from ..files import file_beside, written_whole
from ..media.drawing import Picture
from ..media.protocol import SourceFrame
from .base import Targets, label, reason, suffix_of
from .encoders import FORMATS, AvEncoder, CvEncoder, Encoder, check_encoder
from .reading import count_frames, put_index_in_front
from .salvage import cut_torn_end

VIDEO_SUFFIXES = tuple(FORMATS)
_LONGEST_PAUSE = 3600.0
"""Seconds; a longer one is a clock that was set."""


class VideoOutput:
    """The annotated frames as a video.

    Args:
        path: of the video; its suffix says which format.
        rate: frames per second where frames have no time, and how long the last one is shown.
    """

    def __init__(self, path: str, rate: float) -> None:
        self.label, self.note, self.frames = label(path), "", 0
        self._form, self._rate = FORMATS[suffix_of(path)], rate
        self._clock = Clock(rate)
        self._encoder: Encoder | None = None
        self._size = (0, 0)
        self._written = 0
        self._uneven = self._closed = False
        self._whole = contextlib.ExitStack()
        self._part = self._whole.enter_context(written_whole(Path(path), suffix=suffix_of(path)))
        try:
            check_encoder(self._part, self._form)
        except SourceError as error:
            self.close()
            raise SourceError(f"{self.label}: {error}") from error

    def write(self, frame: SourceFrame, targets: Targets, drawn: Callable[[], Picture]) -> None:
        picture = drawn()
        if self._encoder is None:
            self._size = picture.shape[1], picture.shape[0]
            self._encoder = self._start()
        time = self._clock.next(frame)
        if not self._form.times or isinstance(self._encoder, CvEncoder):
            even = self._written / self._rate
            self._uneven |= abs(time - even) > 1 / self._rate
            time = even
        self._encoder.write(_even_sized(_fitted(picture, self._size)), time)
        self._written += 1

    def _start(self) -> Encoder:
        size = self._size[0] + self._size[0] % 2, self._size[1] + self._size[1] % 2
        try:
            return AvEncoder(self._part, self._form, size, self._rate)
        except ImportError:
            return CvEncoder(self._part, self._form, size, self._rate)

    def finish(self) -> None:
        problem = self._complete() if self._encoder else ""
        if self.frames:
            with contextlib.ExitStack() as beside:  # left last: its file is locked until it has its name
                if self._form.container == "mp4" and isinstance(self._encoder, AvEncoder) and not problem:
                    self._put_index_in_front(beside.enter_context(file_beside(self._part)))
                try:
                    self._whole.close()
                except BaseException:
                    self.frames = 0
                    raise
        else:
            self.close()
        if problem:
            raise SourceError(f"{self.label}: {problem}")
        if self._uneven:
            self.note = f"{self._rate:g} frames per second throughout, the source's times differ"

    def close(self) -> None:
        if self._encoder and not self._closed:
            with contextlib.suppress(OSError):
                self._encoder.close()
        self._part.unlink(missing_ok=True)
        self._whole.close()

    def _complete(self) -> str:
        """Let the encoder end, cut off what is torn, count what can be read; returns what went wrong."""
        assert self._encoder
        problem = ""
        try:
            self._closed = True
            self._encoder.close()
        except OSError as error:
            problem = reason(error)
        problem = reason(self._encoder.error) if self._encoder.error else problem
        if not problem:
            self.frames = count_frames(self._part)
            if self.frames == self._written:
                return ""
        cut_torn_end(self._part, self._form.container)
        self.frames = count_frames(self._part)
        return problem or f"{self.frames} of {self._written} frames can be read again; is the disk full?"

    def _put_index_in_front(self, copy: Path) -> None:
        """MP4 with one index, which browsers can seek in; where there is no room for a copy, the fragments stay."""
        try:
            put_index_in_front(self._part, copy)
            if count_frames(copy) != self.frames:
                raise OSError(0, "the copy cannot be read")
            os.replace(copy, self._part)
        except OSError as error:
            self.note = f"complete, but in fragments; some players cannot seek in it ({reason(error)})"


class Clock:
    """Time stamps that start at 0 and only go forward, from a source's that may do anything.

    Args:
        rate: frames per second where there are none.
    """

    def __init__(self, rate: float) -> None:
        self._step = 1 / rate
        self._shift = 0.0
        self._last: float | None = None
        self._source = 0.0

    def next(self, frame: SourceFrame) -> float:
        """Seconds at which a frame is shown."""
        known = frame.time is not None and math.isfinite(frame.time)
        source = float(frame.time) if known and frame.time is not None else frame.index * self._step
        if self._last is None:
            self._shift = -source
        elif not 0 < source - self._source <= _LONGEST_PAUSE:
            self._shift = self._last + self._step - source
        self._last, self._source = source + self._shift, source
        return self._last


def _fitted(picture: Picture, size: tuple[int, int]) -> Picture:
    """A picture of another size than the video's, with black around it."""
    width, height = size
    if picture.shape[1::-1] == size:
        return picture
    scale = min(width / picture.shape[1], height / picture.shape[0])
    small = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    whole = np.zeros((height, width, 3), np.uint8)
    top, left = (height - small[1]) // 2, (width - small[0]) // 2
    whole[top : top + small[1], left : left + small[0]] = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
    return whole


def _even_sized(picture: Picture) -> Picture:
    """With the last row and column twice where there is an odd number: colours are coded for blocks of 2 x 2."""
    height, width = picture.shape[:2]
    if not (height % 2 or width % 2):
        return picture
    return np.asarray(cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8)
