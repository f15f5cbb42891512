"""One tracker or a tracker of several targets behind one interface, by the targets' names."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence

from ..backends.protocol import Backend
from ..errors import BoxError
from ..media.drawing import Picture
from ..outputs import Tracked
from ..results import Box
from ..trackers.multi import MultiTracker
from ..trackers.single import Tracker


class Follower:
    """Follows named targets from frame to frame.

    After each frame every target's box is put where the result says (``move_to``). So a box as it is written, with all
    digits, is all that a later run needs to go on; a tracker's own corners may differ from ``x + width`` by one
    rounding of a float64.

    Attributes:
        seconds: spent in the tracker so far.
        updates: frames that it has worked on.
    """

    def __init__(self, tracker: Tracker | MultiTracker, names: Sequence[str]) -> None:
        self.seconds, self.updates = 0.0, 0
        self._tracker, self._names = tracker, list(names)
        self._ids: dict[str, int] = {}

    @property
    def backend(self) -> Backend:
        """What computes the graphs."""
        return self._tracker.backend

    def start(self, frame: Picture, boxes: Mapping[str, Box]) -> dict[str, Tracked]:
        """Begin with the boxes of all targets, on the first frame."""
        begun = time.perf_counter()
        if isinstance(self._tracker, Tracker):
            self._tracker.init(frame, boxes[self._names[0]])
        else:
            self._ids = {name: self._tracker.add(frame, boxes[name]) for name in self._names}
        self._count(begun)
        return {name: Tracked(boxes[name], None) for name in self._names}

    def put(self, boxes: Mapping[str, Box]) -> None:
        """The boxes of the last frame, as a run wrote them."""
        for name in self._names:
            if isinstance(self._tracker, Tracker):
                self._tracker.move_to(boxes[name])
            else:
                self._tracker.move_to(self._ids[name], boxes[name])

    def update(self, frame: Picture) -> dict[str, Tracked]:
        """All targets in the next frame."""
        begun = time.perf_counter()
        if isinstance(self._tracker, Tracker):
            results = {self._names[0]: self._tracker.update(frame)}
        else:
            by_id = self._tracker.update(frame)
            results = {name: by_id[id] for name, id in self._ids.items()}
        self._count(begun)
        with contextlib.suppress(BoxError):  # with settings that let boxes shrink below one pixel
            self.put({name: result.box for name, result in results.items()})
        return {name: Tracked(result.box, result) for name, result in results.items()}

    def _count(self, begun: float) -> None:
        self.seconds += time.perf_counter() - begun
        self.updates += 1


def load_follower(options: Namespace, names: Sequence[str]) -> Follower:
    """The tracker that the options ask for: for several targets a :class:`MultiTracker`, which computes as many of them
    in one call as the bundle has graphs for.
    """
    given = {"threads": options.threads, "precision": options.precision}
    tracker: Tracker | MultiTracker
    if len(names) == 1:
        tracker = Tracker.load(options.bundle, options.backend, options.device, **given)
    else:
        tracker = MultiTracker.load(options.bundle, options.backend, options.device, capacity=len(names), **given)
    if options.mode:
        tracker.settings = dataclasses.replace(tracker.settings, mode=options.mode)
    return Follower(tracker, names)
