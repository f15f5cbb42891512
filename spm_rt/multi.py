"""Several targets on the same frames, in one call of each graph."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .backends import Backend, SlotContext, Template, load_backend
from .bundle import Bundle
from .crop import MeanColor, Scratch
from .errors import BackendError, TargetError
from .geometry import Region, search_region, to_crop, xyxy_to_xywh
from .intake import AnyFrame, show, take_frame
from .settings import ModelSpec, TrackerSettings
from .target import (
    Box,
    Gate,
    Proposals,
    TrackResult,
    check_box,
    check_levels,
    check_size,
    decide,
    no_clock,
    propose,
)

Floats = NDArray[np.float32]
OTHER_SIZE = "remove all targets before a stream of another size"


@dataclasses.dataclass(slots=True)
class _Target:
    """One target between two frames."""

    box: NDArray[np.float64]
    template: Template


@dataclasses.dataclass(slots=True)
class _Call:
    """One call of the graphs: a context for T targets, and whose template lies in each of its slots."""

    context: SlotContext
    targets: int
    templates: list[int | None]
    ids: list[int] = dataclasses.field(default_factory=list)
    """The targets of the next frame, by slot; slots behind them are not looked at."""


class MultiTracker:
    """Follows any number of objects through a video; each as a :class:`~spm_rt.tracker.Tracker` of its own would.

    ::

        tracker = MultiTracker.load("spm_alexnet")
        first = tracker.add(frames[0], (x, y, width, height))
        second = tracker.add(frames[0], (x, y, width, height))
        for frame in frames[1:]:
            results = tracker.update(frame)
            results[first].box, results[second].box

    A bundle has graphs for certain numbers of targets (``spm-export --targets 1,2,4,8``). The smallest that hold all
    targets are used; more targets than the largest holds take several calls. Results are those of single trackers, to
    float32 rounding. As there, one tracker belongs to one thread at a time.

    Args:
        compiled: gives the backend for a number of targets; asked again for the same number, the same one.
        sizes: the numbers of targets that it can be asked for, ascending, 1 among them.
        spec, settings: of the bundle, for all targets.
    """

    def __init__(
        self, compiled: Callable[[int], Backend], sizes: Sequence[int], spec: ModelSpec, settings: TrackerSettings
    ) -> None:
        self.backend = compiled(1)
        self.spec = spec
        self.settings = settings
        self._compiled = compiled
        self._sizes = tuple(sizes)
        self._painter = _slot_context(self.backend)
        self._scratch = Scratch(spec.crop_size)
        self._targets: dict[int, _Target] = {}
        self._pool: dict[int, list[_Call]] = {}
        self._calls: list[_Call] = []
        self._next_id = 0
        self._frame_size = (0, 0)
        self._gate = Gate()

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | Bundle,
        backend: str = "auto",
        device: str = "cpu",
        *,
        threads: int | None = None,
        settings: TrackerSettings | None = None,
        capacity: int | None = None,
        precision: str | None = None,
        per_call: int | None = None,
    ) -> MultiTracker:
        """A tracker on a bundle's graphs.

        Args:
            bundle, backend, device, threads, settings, precision: as for :meth:`spm_rt.Tracker.load`.
            capacity: number of targets to be ready for: the graphs for up to so many are compiled now. Others are
                compiled when a target is added or removed that needs them, which takes a good part of a second.
            per_call: most targets in one call; by default as many as the bundle has graphs for. A CPU gains little from
                large calls, and a small one nothing (docs/performance.md).

        Raises:
            BundleError, BackendError: the bundle or the backend cannot be used; the message says why.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        first = load_backend(opened, backend, device=device, threads=threads, precision=precision)
        made = {1: first}

        def compiled(targets: int) -> Backend:
            if targets not in made:
                made[targets] = load_backend(
                    opened, first.name, device=device, threads=threads, targets=targets, precision=precision
                )
            return made[targets]

        sizes = [size for size in opened.targets if size == 1 or size <= (per_call or size)]
        tracker = cls(compiled, sizes, opened.spec, settings or opened.settings)
        for count in range(1, (capacity or 0) + 1):
            tracker._prepare(split(count, sizes))
        return tracker

    def sibling(self) -> MultiTracker:
        """Another, independent tracker without targets that shares this one's compiled graphs."""
        return MultiTracker(self._compiled, self._sizes, self.spec, self.settings)

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def ids(self) -> tuple[int, ...]:
        """The targets, in the order in which they were added."""
        return tuple(self._targets)

    def box(self, id: int) -> Box:
        """The last box of a target, ``x, y, width, height``."""
        return xyxy_to_xywh(self._target(id).box)

    def add(self, frame: AnyFrame, box: Sequence[float] | NDArray[np.floating]) -> int:
        """Follow another target, seen on this frame; returns its number, which is never given again.

        Args:
            frame: as for :meth:`spm_rt.Tracker.init`; of the size of the others' frames, while there are others.
            box: ``x, y, width, height`` in pixels; at least one pixel wide and high, and touching the frame.

        Raises:
            FrameError, BoxError: what is wrong with the frame or the box. The tracker stays as it was.
        """
        with self._gate:
            frame = take_frame(frame, self._painter, self.backend)
            if self._targets:
                check_size(frame, self._frame_size, OTHER_SIZE)
            start = check_box(box, frame.shape[:2])
            region = search_region(start, self.spec)
            show(frame, region, self._painter, 0, self._scratch)
            check_levels(frame, self._painter.crop)
            self._painter.set_template(to_crop(start, region)[None])
            id = self._next_id
            target = _Target(start, self._painter.template())
            self._seat({**self._targets, id: target})
            self._frame_size = (frame.shape[0], frame.shape[1])
            self._next_id += 1
            return id

    def remove(self, id: int) -> None:
        """Follow a target no longer.

        Raises:
            TargetError: there is no such target.
        """
        with self._gate:
            self._target(id)
            self._seat({other: target for other, target in self._targets.items() if other != id})

    def move_to(self, id: int, box: Sequence[float] | NDArray[np.floating]) -> None:
        """Put a target's box elsewhere, as :meth:`spm_rt.Tracker.move_to`; its template stays what it is."""
        with self._gate:
            target = self._target(id)
            target.box = check_box(box, self._frame_size)

    def update(
        self, frame: AnyFrame, *, candidates: bool = False, clock: Callable[[str], None] = no_clock
    ) -> dict[int, TrackResult]:
        """Find all targets in the next frame.

        Args:
            frame: as for :meth:`add`, of the same size.
            candidates: return all proposals too.
            clock: called with the name of each stage as it ends for all targets (for measurements).

        Raises:
            FrameError: the frame cannot be used, or not near one of the targets. All targets stay as they were.
        """
        with self._gate:
            frame = take_frame(frame, self._painter, self.backend)
            if not self._targets:
                return {}
            check_size(frame, self._frame_size, OTHER_SIZE)
            regions = {id: search_region(target.box, self.spec) for id, target in self._targets.items()}
            mean = MeanColor(frame) if isinstance(frame, np.ndarray) else None
            for call in self._calls:
                for slot, id in enumerate(call.ids):
                    show(frame, regions[id], call.context, slot, self._scratch, mean)
            clock("crop")
            searched = [call.context.search() for call in self._calls]
            clock("search")
            proposals = {
                id: propose(scores[slot], boxes[slot], regions[id], self._targets[id].box, self.settings)
                for call, (scores, boxes) in zip(self._calls, searched, strict=True)
                for slot, id in enumerate(call.ids)
            }
            clock("proposals")
            fine = self._relate(proposals)
            clock("relation")
            results = self._decide(proposals, fine, regions, candidates)
            clock("fusion")
            return results

    def _relate(self, proposals: dict[int, Proposals]) -> dict[int, tuple[Floats, Floats]]:
        """The fine stage's scores ``[K]`` and boxes ``[K, 4]`` of each target; none in ``coarse`` mode."""
        fine: dict[int, tuple[Floats, Floats]] = {}
        for call in self._calls if self.settings.mode != "coarse" else ():
            most = max(len(proposals[id].scores) for id in call.ids)
            given = np.zeros((call.targets, most, 4), np.float32)
            for slot, id in enumerate(call.ids):
                boxes = proposals[id].crop_boxes
                given[slot, : len(boxes)] = boxes
                given[slot, len(boxes) :] = boxes[-1]
            scores, moved = call.context.relate(given)
            for slot, id in enumerate(call.ids):
                count = len(proposals[id].scores)
                fine[id] = scores[slot, :count], moved[slot, :count]
        return fine

    def _decide(
        self,
        proposals: dict[int, Proposals],
        fine: dict[int, tuple[Floats, Floats]],
        regions: dict[int, Region],
        candidates: bool,
    ) -> dict[int, TrackResult]:
        results = {}
        for id, target in self._targets.items():
            given = proposals[id], fine.get(id), regions[id], target.box, self._frame_size
            target.box, results[id] = decide(*given, self.spec, self.settings, candidates)
        return results

    def _target(self, id: int) -> _Target:
        if id not in self._targets:
            there = ", ".join(map(str, self._targets)) or "none"
            raise TargetError(f"there is no target {id!r} (there are: {there})")
        return self._targets[id]

    def _seat(self, targets: dict[int, _Target]) -> None:
        """Give every target a slot, and move the templates of those that lie elsewhere."""
        calls = self._prepare(split(len(targets), self._sizes))
        waiting = list(targets)
        for call in calls:
            call.ids, waiting = waiting[: call.targets], waiting[call.targets :]
            for slot, id in enumerate(call.ids):
                if call.templates[slot] != id:
                    call.context.put_template(slot, targets[id].template)
                    call.templates[slot] = id
        self._calls, self._targets = calls, targets

    def _prepare(self, sizes: Sequence[int]) -> list[_Call]:
        """Contexts for calls of so many targets each, kept for the next time."""
        calls = []
        for size in dict.fromkeys(sizes):
            pool = self._pool.setdefault(size, [])
            while len(pool) < sizes.count(size):
                pool.append(_Call(_slot_context(self._compiled(size)), size, [None] * size))
            calls += pool[: sizes.count(size)]
        return calls


def _slot_context(backend: Backend) -> SlotContext:
    context = backend.context()
    if not isinstance(context, SlotContext):
        raise BackendError(f"backend {backend.name!r} follows one target; use a Tracker for each (sibling())")
    return context


def split(count: int, sizes: Sequence[int]) -> list[int]:
    """Numbers of targets of the calls that ``count`` targets take, given the ascending ``sizes`` that there are."""
    largest = sizes[-1]
    full, rest = divmod(count, largest)
    return [largest] * full + [next(size for size in sizes if size >= rest)] * (rest > 0)
