"""Trackers behind one small interface: ours in its variants, OpenCV's, and anybody's by ``module:callable``."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spm_rt.errors import SourceError
from spm_rt.results import Box
from spm_rt.trackers.single import Tracker

Frame = NDArray[np.uint8]

OPENCV = {name.lower(): name for name in ("CSRT", "KCF", "MIL", "MOSSE", "MedianFlow", "TLD", "Boosting")}
"""Those that need no model files; all but MIL come with OpenCV's contrib build."""


class Contender(Protocol):
    """What is evaluated. Boxes are x, y, width, height; one is made for every clip."""

    def init(self, frame: Frame, box: Box) -> object:
        """Start on a frame, BGR uint8."""

    def update(self, frame: Frame) -> tuple[Sequence[float], float]:
        """Box and score in the next frame."""


Maker = Callable[[], Contender]


class OwnContender:
    """One of our trackers; all made from one share its compiled graphs."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker.sibling()

    def init(self, frame: Frame, box: Box) -> None:
        self._tracker.init(frame, box)

    def update(self, frame: Frame) -> tuple[Box, float]:
        result = self._tracker.update(frame)
        return result.box, result.score


def own_maker(tracker: Tracker, **changes: Any) -> Maker:
    """Ours, with these settings changed."""
    changed = with_settings(tracker, **changes) if changes else tracker
    return lambda: OwnContender(changed)


def with_settings(tracker: Tracker, **changes: Any) -> Tracker:
    """The same compiled graphs with other settings."""
    return Tracker(tracker.backend, tracker.spec, dataclasses.replace(tracker.settings, **changes))


class OpenCVContender:
    """A tracker of OpenCV with its default parameters. Where it reports a loss, the last box stays, with score 0."""

    def __init__(self, create: Callable[[], Any]) -> None:
        self._tracker = create()
        self._box: Sequence[float] = ()

    def init(self, frame: Frame, box: Box) -> None:
        # OpenCV takes whole pixels inside the frame.
        x, y = (int(min(max(round(v), 0), size - 2)) for v, size in zip(box[:2], frame.shape[1::-1], strict=True))
        width, height = (
            int(min(max(round(v), 2), size - at))
            for v, size, at in zip(box[2:], frame.shape[1::-1], (x, y), strict=True)
        )
        self._box = (x, y, width, height)
        self._tracker.init(frame, self._box)

    def update(self, frame: Frame) -> tuple[Sequence[float], float]:
        ok, box = self._tracker.update(frame)
        if ok:
            self._box = tuple(float(v) for v in box)
        return self._box, 1.0 if ok else 0.0


def opencv_maker(name: str) -> Maker:
    """A tracker of OpenCV by name (see ``OPENCV``).

    Raises:
        SourceError: unknown, or not in this build of OpenCV.
    """
    import cv2

    if name.lower() not in OPENCV:
        raise SourceError(f"OpenCV tracker {name!r} is unknown; there are: {', '.join(OPENCV)}")
    function = f"Tracker{OPENCV[name.lower()]}_create"
    create = getattr(cv2, function, None) or getattr(getattr(cv2, "legacy", None), function, None)
    if create is None:
        raise SourceError(
            f"OpenCV tracker {name!r}: this build of OpenCV {cv2.__version__} has no {function}; it "
            "comes with opencv-contrib-python-headless, in place of opencv-python-headless"
        )
    return lambda: OpenCVContender(create)


def foreign_maker(text: str) -> tuple[str, Maker]:
    """``[NAME=]module:callable[:argument...]`` as a name and a maker; the arguments are passed on as strings.

    The module is looked for as Python does, the current folder included.

    Raises:
        SourceError: not of this form, no such module or callable, or what it makes has no ``init`` and ``update``.
    """
    name, _, spec = text.rpartition("=")
    module_name, _, rest = spec.partition(":")
    function, *arguments = rest.split(":")
    if not module_name or not function:
        raise SourceError(f"--tracker {text!r}: give NAME=module:callable")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        create = getattr(importlib.import_module(module_name), function)
    except ImportError as error:
        raise SourceError(f"--tracker {text!r}: module {module_name} cannot be imported ({error})") from error
    except AttributeError as error:
        raise SourceError(f"--tracker {text!r}: {module_name} has no {function}") from error

    def make() -> Contender:
        contender: Contender = create(*arguments)
        if not (hasattr(contender, "init") and hasattr(contender, "update")):
            kind = type(contender).__name__
            raise SourceError(f"--tracker {text!r}: it makes a {kind}, which has no init and update")
        return contender

    return name or ":".join([function, *arguments]), make
