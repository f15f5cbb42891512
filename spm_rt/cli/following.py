"""One tracker or a tracker of several targets behind one interface, by the targets' names."""

from __future__ import annotations

import dataclasses
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from ..backends.protocol import Backend
from ..media.drawing import Picture
from ..outputs import Tracked
from ..results import Box, Corners
from ..settings import RecoverySettings, TrackerSettings
from ..trackers.multi import MultiTracker
from ..trackers.single import Tracker


class Follower:
    """Follows named targets from frame to frame.

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

    @property
    def settings(self) -> TrackerSettings:
        """Those that the targets are followed with."""
        return self._tracker.settings

    def start(self, frame: Picture, boxes: Mapping[str, Box]) -> dict[str, Tracked]:
        """Begin with the boxes of all targets, on the first frame."""
        begun = time.perf_counter()
        if isinstance(self._tracker, Tracker):
            self._tracker.init(frame, boxes[self._names[0]])
        else:
            self._ids = {name: self._tracker.add(frame, boxes[name]) for name in self._names}
        self._count(begun)
        return {name: Tracked(boxes[name], None, self._corners(name)) for name in self._names}

    def restore(self, corners: Mapping[str, Corners]) -> None:
        """The targets of the last frame, as a run wrote them."""
        for name in self._names:
            if isinstance(self._tracker, Tracker):
                self._tracker.restore(corners[name])
            else:
                self._tracker.restore(self._ids[name], corners[name])

    def update(self, frame: Picture) -> dict[str, Tracked]:
        """All targets in the next frame."""
        begun = time.perf_counter()
        if isinstance(self._tracker, Tracker):
            results = {self._names[0]: self._tracker.update(frame)}
        else:
            by_id = self._tracker.update(frame)
            results = {name: by_id[id] for name, id in self._ids.items()}
        self._count(begun)
        return {name: Tracked(result.box, result, self._corners(name)) for name, result in results.items()}

    def _corners(self, name: str) -> Corners:
        return self._tracker.corners if isinstance(self._tracker, Tracker) else self._tracker.corners(self._ids[name])

    def _count(self, begun: float) -> None:
        self.seconds += time.perf_counter() - begun
        self.updates += 1


def load_follower(options: Namespace, names: Sequence[str]) -> Follower:
    """The tracker that the options ask for: for several targets a :class:`MultiTracker`, which computes as many of them
    in one call as the bundle has graphs for.
    """
    given: dict[str, Any] = {"threads": options.threads, "precision": options.precision}
    if options.recover:
        given["recovery"] = RecoverySettings()
    tracker: Tracker | MultiTracker
    if len(names) == 1:
        tracker = Tracker.load(options.bundle, options.backend, options.device, **given)
    else:
        tracker = MultiTracker.load(options.bundle, options.backend, options.device, capacity=len(names), **given)
    if options.mode:
        tracker.settings = dataclasses.replace(tracker.settings, mode=options.mode)
    return Follower(tracker, names)
