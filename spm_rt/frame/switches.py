"""Identity switches: whether a tracker's box has gone over to something else that looks like its target.

No score tells that, for what the box is on then may look just the same. Places do: other proposals of a frame, the
rivals of the one that was chosen, are remembered, and compared with where the box goes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ..results import Corners
from .fusion import APART
from .geometry import as_corners

NEARER = 0.5
"""A rival is the target that was left behind if it is nearer than this to where the target was expected, as a share of
the new box's distance from there."""

MOST = 8
"""Places that are remembered, the newest ones."""


class SwitchWatch:
    """Watches the box of one target, from frame to frame.

    A switch: the box leaves its last place for one where a rival was seen before, and a rival of this frame lies nearer
    to where the target was expected by its last motion. It is over when the box is back on what it left behind, which
    is followed from rival to rival, or after the frames for which rivals are remembered.

    Args:
        box: where the target is, ``[4]``, x1, y1, x2, y2 in frame pixels.
    """

    def __init__(self, box: NDArray[np.float64]) -> None:
        self._box = as_corners(box)
        self._motion = 0.0, 0.0
        self._known: list[tuple[Corners, int]] = []
        """Places of rivals, and frames since they were seen there."""
        self._left: Corners | None = None
        """The target that the box left behind."""
        self._frames = 0

    def see(self, box: NDArray[np.float64], rivals: NDArray[np.floating], memory: int) -> bool:
        """Go on by a frame.

        Args:
            box: ``[4]``, where the tracker's box is now.
            rivals: ``[n, 4]``, boxes of the frame's rivals.
            memory: frames for which rivals, and a switch, are remembered.

        Returns:
            Whether the box is on something else than the target.
        """
        now, seen = as_corners(box), [as_corners(rival) for rival in rivals]
        if self._left is not None:
            self._frames += 1
            over = self._frames > memory or overlap(self._left, now) >= APART
            self._left = None if over else _same(self._left, seen)
        elif overlap(now, self._box) < APART and any(overlap(now, place) >= APART for place, _ in self._known):
            self._left, self._frames = self._left_behind(now, seen), 0
        apart = [(rival, 0) for rival in seen if overlap(rival, now) < APART]
        kept = [(place, age + 1) for place, age in self._known if age < memory and overlap(place, now) < APART]
        kept = [(place, age) for place, age in kept if all(overlap(place, rival) < APART for rival, _ in apart)]
        self._known = [*apart, *kept][:MOST]
        (x, y), (last_x, last_y) = _center(now), _center(self._box)
        self._motion, self._box = (x - last_x, y - last_y), now
        return self._left is not None

    def _left_behind(self, now: Corners, seen: Iterable[Corners]) -> Corners | None:
        """The rival that is the target by its place; None where there is none."""
        x, y = (place + moved for place, moved in zip(_center(self._box), self._motion, strict=True))

        def distance(box: Corners) -> float:
            return math.dist(_center(box), (x, y))

        nearest = min(seen, key=distance, default=None)
        return nearest if nearest is not None and distance(nearest) < NEARER * distance(now) else None


def overlap(a: Corners, b: Corners) -> float:
    """Overlap (IoU) of two boxes, x1, y1, x2, y2; 0 where the union is empty."""
    if not (a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]):  # most of them
        return 0.0
    inter = (min(a[2], b[2]) - max(a[0], b[0])) * (min(a[3], b[3]) - max(a[1], b[1]))
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def _center(box: Corners) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _same(place: Corners, seen: Iterable[Corners]) -> Corners:
    """Where what was at a place is seen now; the place itself where it is not."""
    best = max(seen, key=lambda rival: overlap(rival, place), default=place)
    return best if overlap(best, place) >= APART else place
