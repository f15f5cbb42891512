"""What outputs have in common: what is asked for, what they are given, what they say in the end."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import SourceError
from ..files import shown
from ..results import Box, Corners, TrackResult

if TYPE_CHECKING:  # both import numpy, which who reads the kinds need not wait for
    from ..media.drawing import Picture
    from ..media.protocol import SourceFrame

KINDS = {
    "video": "an annotated video: .mp4, .mov, .m4v, .mkv (H.264), .webm (VP9) or .avi (Motion JPEG)",
    "sheet": "twelve annotated frames as one picture: .png, .jpg, .webp, ...",
    "csv": "a table: frame, box, scores, time, file, target",
    "jsonl": "one JSON object for each frame and target, while tracking",
    "mot": "a table as of the MOT challenge: frames and boxes from 1, a number for each target",
    "otb": "boxes only, from 1, as OTB's ground truth; a file for each target",
    "coco": "one JSON file as of COCO, with videos and tracks as TAO has them",
}
"""Kinds of outputs, and what each is."""
STANDARD_OUTPUT = "-"


class Request(NamedTuple):
    """An output that is asked for.

    Attributes:
        kind: one of :data:`~spm_rt.outputs.base.KINDS`.
        path: of the file; ``-``, for what consists of lines, is standard output.
        resume_after: jsonl only: go on at the end of the file, whose last line is removed if it is torn; frames up to
            this number are in it.
    """

    kind: str
    path: str
    resume_after: int | None = None


class Tracked(NamedTuple):
    """One target in one frame.

    Attributes:
        box: ``x, y, width, height`` in pixels of the frame.
        result: what the tracker said; None in the frame where the box was given.
        corners: the box as the tracker keeps it (:attr:`spm_rt.Tracker.corners`), to go on from; or None.
    """

    box: Box
    result: TrackResult | None
    corners: Corners | None = None


class Written(NamedTuple):
    """What became of a file of an output; OTB has one for each target, the others one.

    Attributes:
        path: as it was asked for, with the target's name where there are several.
        frames: that are in it; 0 where there is nothing, then a file that was there before is what it was.
        note: what the user should know; empty as a rule, and with all files of an output but the first.
    """

    path: str
    frames: int
    note: str = ""


Targets = Mapping[str, Tracked]


class Output(Protocol):
    """One output. Its errors are OSError and SourceError."""

    label: str
    """The path in words."""
    frames: int
    """Frames that are in it and can be read."""
    note: str

    def write(self, frame: SourceFrame, targets: Targets, drawn: Callable[[], Picture]) -> None:
        """One more frame; ``drawn`` gives its picture with the boxes."""

    def finish(self) -> None:
        """Complete what there is and check it; what was asked for appears under its name. Also after an error."""

    def close(self) -> None:
        """Let go of everything; what is not finished is removed."""


def label(path: str) -> str:
    """A path for messages."""
    return "standard output" if path == STANDARD_OUTPUT else shown(path)


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Errors of the system become a SourceError that names an output."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{label(path)}: cannot be written ({reason(error)})") from error


def reason(error: BaseException) -> str:
    """Why something failed, without names of temporary files."""
    return str(getattr(error, "strerror", None) or error)


def count_of(frames: int) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{frames} frame{'s' * (frames != 1)}"


def suffix_of(path: str) -> str:
    """How a file's name ends, in lower case."""
    return os.path.splitext(path)[1].lower()


def number(value: float) -> float | None:
    """A Python float; None for what JSON cannot say."""
    value = float(value)
    return value if math.isfinite(value) else None
