"""Two trackers over one clip: from the same box in every frame, and each on its own way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import BoxError
from ..frame.geometry import xywh_to_xyxy
from ..results import Box
from .single import Tracker

Boxes = NDArray[np.float64]


class Tracks(NamedTuple):
    """Boxes x1, y1, x2, y2 of all frames but the first, ``[frames - 1, 4]`` each."""

    first: Boxes
    """of the first tracker"""
    forced: Boxes
    """of the second one, put to the first one's last box before every frame"""
    free: Boxes
    """of the second one, on its own way"""


def follow_both(
    first: Tracker,
    second: Tracker,
    clip: Sequence[NDArray[Any]],
    box: Box,
    step: Callable[[], None] = lambda: None,
    shift: float = 0.0,
) -> Tracks:
    """Run both over a clip.

    Args:
        first, second: they are started anew here.
        clip: frames, at least two.
        box: the target in the first of them, x, y, width, height.
        step: called after every frame but the first.
        shift: pixels by which the second one's free run starts off to the right of ``box``.
    """
    forced = second.sibling()
    for tracker in (first, forced, second):
        tracker.init(clip[0], box)
    if shift:
        second.move_to((box[0] + shift, *box[1:]))
    tracks: list[list[Boxes]] = [[], [], []]
    for frame in clip[1:]:
        with contextlib.suppress(BoxError):  # a box that drifted wholly out of the frame is no start
            forced.move_to(first.box)
        for tracker, track in zip((first, forced, second), tracks, strict=True):
            track.append(xywh_to_xyxy(tracker.update(frame).box))
        step()
    return Tracks(*(np.array(track) for track in tracks))


def center_distances(a: Boxes, b: Boxes) -> Boxes:
    """Pixels ``[n]`` between the centres of boxes ``[n, 4]`` in pairs."""
    distances: Boxes = np.linalg.norm(((a - b)[:, :2] + (a - b)[:, 2:]) / 2, axis=1)
    return distances
