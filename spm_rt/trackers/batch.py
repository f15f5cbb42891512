"""Several targets, each in a frame of its own: those of different streams, in one run of each graph per batch."""

from __future__ import annotations

import builtins
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..backends.auto import frame_run
from ..backends.protocol import Backend
from ..frame.crop import Frame, MeanColor
from ..gpu.device_frames import DeviceFrame
from ..results import TrackResult
from ..settings import ModelSpec, TrackerSettings
from .checks import check_size, no_clock
from .input import AnyFrame, take_frame
from .multi import MultiTracker

RUNS = 4
"""Runs of each batch size that are timed; the fastest counts."""
HANDICAP = 1.05
"""A batch has to be faster by this factor than its targets one after the other, which gives a tracker's own bits."""


class BatchTracker(MultiTracker):
    """Follows targets of several videos: those that have a new frame, whichever these are, run through the graphs
    together.

    Results are those of single trackers to float32 rounding, and bit for bit where every target is computed alone:
    where ``per_call`` is 1, or :meth:`measure` has found that batches do not pay.

    Args:
        compiled, sizes, spec, settings: as for :class:`~spm_rt.MultiTracker`.

    Attributes:
        seconds: of search and relation by batch size, once they are measured.
    """

    def __init__(
        self, compiled: Callable[[int], Backend], sizes: Sequence[int], spec: ModelSpec, settings: TrackerSettings
    ) -> None:
        super().__init__(compiled, sizes, spec, settings)
        self.seconds: dict[int, float] = {}
        self._sizes: dict[int, tuple[int, int]] = {}

    def measure(self, most: int) -> dict[int, float]:
        """Time each batch size on this machine, and arrange targets by it from now on.

        Args:
            most: targets that may have a frame at the same time; larger batches are left out.

        Returns:
            ``seconds``: of search and relation, by batch size.
        """
        with self._gate:
            enough = next((size for size in self._batch_sizes if size >= most), self._batch_sizes[-1])
            runs = {size: frame_run(self._compiled(size)) for size in self._batch_sizes if size <= enough}
            seconds = dict.fromkeys(runs, math.inf)
            for turn in range(RUNS + 1 if len(runs) > 1 else 0):
                for size, run in runs.items():
                    start = time.perf_counter()
                    run()
                    if turn:  # the first one allocates
                        seconds[size] = min(seconds[size], time.perf_counter() - start)
            self.seconds = seconds
            self._batch_sizes = tuple(seconds)
            return seconds

    def add(self, frame: AnyFrame, box: Sequence[float] | NDArray[np.floating]) -> int:
        """Follow another target, seen on this frame of its own video; see :meth:`spm_rt.MultiTracker.add`."""
        with self._gate:
            frame = take_frame(frame, self._template_context, self._backend)
            id = self._begin(frame, box)
            self._sizes[id] = frame.shape[0], frame.shape[1]
            return id

    def remove(self, id: int) -> None:
        super().remove(id)
        del self._sizes[id]

    remove.__doc__ = MultiTracker.remove.__doc__

    def update(
        self, frame: AnyFrame, *, candidates: bool = False, clock: Callable[[str], None] = no_clock
    ) -> dict[int, TrackResult]:
        """Find all targets in one frame; see :meth:`spm_rt.MultiTracker.update`."""
        return self.update_each(dict.fromkeys(self.ids, frame), candidates=candidates, clock=clock)

    def update_each(
        self, frames: Mapping[int, AnyFrame], *, candidates: bool = False, clock: Callable[[str], None] = no_clock
    ) -> dict[int, TrackResult]:
        """Find targets, each in a frame of its own. Those that are not named stay as they were.

        Args:
            frames: the next frame of each target, of the size of the one that it was added on.
            candidates, clock: as for :meth:`spm_rt.MultiTracker.update`.

        Raises:
            TargetError: there is no such target.
            FrameError: one of the frames cannot be used. All targets stay as they were.
        """
        with self._gate:
            taken: dict[int, tuple[Frame | DeviceFrame, MeanColor | None]] = {}
            given: dict[int, tuple[Frame | DeviceFrame, MeanColor | None]] = {}
            for id, frame in frames.items():
                if (key := builtins.id(frame)) not in taken:
                    one = take_frame(frame, self._template_context, self._backend)
                    taken[key] = one, MeanColor(one) if isinstance(one, np.ndarray) else None
                self._target(id)
                given[id] = taken[key]
                check_size(given[id][0], self._sizes[id], "remove the target before frames of another size")
            batches = self._arrange({id: self._targets[id] for id in given})
            return self._find(batches, given, candidates, clock)

    def _split(self, count: int) -> list[int]:
        return cheapest(count, self.seconds) if self.seconds else super()._split(count)

    def _size_of(self, id: int) -> tuple[int, int]:
        return self._sizes[id]

    def _release(self) -> None:
        super()._release()
        self._sizes.clear()


def cheapest(count: int, seconds: Mapping[int, float]) -> list[int]:
    """Sizes of the batches that take ``count`` targets in the least time, given what a batch of each size takes.

    The last one may have slots that no target has; 1 is among the sizes.
    """
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for targets in range(1, count + 1):
        options = [
            (best[max(0, targets - size)][0] + (taken if size == 1 else HANDICAP * taken), -size)
            for size, taken in seconds.items()
        ]
        total, size = min(options)  # of equal ones the largest
        best.append((total, [-size, *best[max(0, targets + size)][1]]))
    return best[count][1]
