"""What a source of frames gives, whatever reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ProcessError
from ..machine import OneProcess

Picture = NDArray[np.uint8]


class SourceFrame(NamedTuple):
    """One frame of a source."""

    picture: Picture
    """``[height, width, 3]`` uint8, BGR."""
    index: int  # type: ignore[assignment]
    """Number of the frame in the source, from 0. Frames that are jumped over or cannot be read count."""
    time: float | None
    """Seconds since the source's first frame; None where nobody knows."""
    file: str | None
    """The picture's file name; None for what is not a folder of pictures."""


@dataclasses.dataclass(frozen=True)
class SourceReport:
    """What became of a source, so far or in the end.

    Attributes:
        read: frames that were delivered.
        unreadable: frames that are known to be there and could not be decoded.
        expected: frames that the source states, or an estimate from its length; None where nobody knows.
        notes: what a user should know, one line each.
        damaged: something is missing: frames that could not be decoded, or an end before the one that is stated.
    """

    read: int
    unreadable: int
    expected: int | None
    notes: tuple[str, ...]
    damaged: bool


class Decoded(NamedTuple):
    """A frame before its pixels are converted, which frames that are jumped over never need."""

    number: int
    time: float | None
    file: str | None
    convert: Callable[[], Picture]


class Reader(Protocol):
    """What reads one kind of source."""

    notes: list[str]

    @property
    def expected(self) -> int | None:
        """Frames that the source states; an estimate at best, never to stop at."""

    @property
    def frame_rate(self) -> float | None:
        """Frames per second, on average; None where the source does not say."""

    @property
    def live(self) -> bool:
        """Whether frames come at their own pace and end when somebody ends them."""

    @property
    def unreadable(self) -> int:
        """Frames that could not be decoded, so far."""

    @property
    def damaged(self) -> bool:
        """Whether something is missing, such as the end, even if nobody knows how many frames."""

    def __iter__(self) -> Iterator[Decoded]: ...
    def close(self) -> None: ...


def check_process(reader: OneProcess) -> bool:
    """True in the process that has made a reader.

    Raises:
        ProcessError: this is a child that was forked from it.
    """
    if reader.elsewhere:
        raise ProcessError(
            "this source was opened in another process, and this is a child forked from it, where the decoder's "
            "threads do not exist: open it in the child"
        )
    return True
