"""The last box of a tracker that follows one object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import NotInitializedError
from ..frame.geometry import as_corners, xyxy_to_xywh
from ..frame.switches import SwitchWatch
from ..results import Box, Corners
from ..settings import TrackerSettings
from .checks import check_box, check_corners
from .lifecycle import Lifecycle


class OneTarget(Lifecycle):
    """What trackers of one object have in common."""

    def __init__(self, settings: TrackerSettings) -> None:
        super().__init__(settings)
        self._box: NDArray[np.float64] | None = None
        self._frame_size = (0, 0)
        self._watch: SwitchWatch | None = None

    @property
    def box(self) -> Box:
        """The last box, ``x, y, width, height``."""
        return xyxy_to_xywh(self._known())

    @property
    def corners(self) -> Corners:
        """The last box as it is kept, ``x1, y1, x2, y2`` in float64: all that the next frame depends on beside the
        template. ``box`` has ``x2 - x1`` rounded.
        """
        return as_corners(self._known())

    def move_to(self, box: Sequence[float] | NDArray[np.floating]) -> None:
        """Put the box ``x, y, width, height`` elsewhere, as after a detection; the template stays what it is.

        Raises:
            NotInitializedError: before ``init``.
            BoxError: see ``init``.
        """
        with self._gate:
            if self._box is None:
                raise NotInitializedError("move_to before init: there is no template yet")
            self._put(check_box(box, self._frame_size))

    def restore(self, corners: Sequence[float] | NDArray[np.floating]) -> None:
        """Go on from the ``corners`` that a tracker with the same template had: the next results are then its own, bit
        for bit.

        Raises:
            NotInitializedError: before ``init``.
            BoxError: no corners.
        """
        with self._gate:
            if self._box is None:
                raise NotInitializedError("restore before init: there is no template yet")
            self._put(check_corners(corners))

    def _put(self, box: NDArray[np.float64]) -> None:
        """The target is here, as somebody says who knows."""
        self._box, self._watch = box, SwitchWatch(box)

    def _known(self) -> NDArray[np.float64]:
        self._gate.check()
        if self._box is None:
            raise NotInitializedError("no box yet: call init(frame, box) first")
        return self._box

    def _place(self) -> str:
        """Where the target was last, in words."""
        if self._box is None:
            return "no target yet"
        return "target at " + ", ".join(f"{number:.1f}" for number in xyxy_to_xywh(self._box))
