"""Several targets on the same frames, in one run of each graph per batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..backends import load_backend
from ..backends.protocol import Backend, SlotContext
from ..bundle import Bundle
from ..bundle.manifest import MOST_TARGETS
from ..errors import BackendError, SettingsError
from ..fields import shortened
from ..frame.crop import Frame, MeanColor, Scratch
from ..frame.geometry import search_region, to_crop
from ..frame.steps import Proposals, TargetView, decide, propose
from ..gpu.device_frames import DeviceFrame
from ..results import TrackResult
from ..settings import ModelSpec, TrackerSettings
from .checks import check_box, check_levels, check_size, no_clock
from .extent import measure_extent
from .input import AnyFrame, take_frame, write_crop
from .lifecycle import OnBackend
from .slots import OTHER_SIZE, Batch, Target, TargetSlots

Floats = NDArray[np.float32]
Several = TypeVar("Several", bound="MultiTracker")


class MultiTracker(OnBackend, TargetSlots[SlotContext]):
    """Follows any number of objects through a video; each as a :class:`~spm_rt.trackers.single.Tracker` of its own
    would.

    ::

        tracker = MultiTracker.load("spm_alexnet")
        first = tracker.add(frames[0], (x, y, width, height))
        second = tracker.add(frames[0], (x, y, width, height))
        for frame in frames[1:]:
            results = tracker.update(frame)
            results[first].box, results[second].box

    A bundle has graphs for certain numbers of targets (``spm-export --targets 1,2,4,8``). The graphs for the smallest
    number that holds all targets are used; more targets than the largest number take several batches. Results are those
    of single trackers, to float32 rounding. As there, one tracker belongs to one thread at a time.

    Args:
        compiled: gives the backend for a number of targets; asked again for the same number, the same one.
        sizes: the numbers of targets that it can be asked for, ascending, 1 among them.
        spec, settings: of the bundle, for all targets.
    """

    def __init__(
        self, compiled: Callable[[int], Backend], sizes: Sequence[int], spec: ModelSpec, settings: TrackerSettings
    ) -> None:
        super().__init__(lambda targets: _slot_context(compiled(targets)), sizes, settings)
        self._backend = compiled(1)
        self.spec = spec
        self._compiled = compiled
        self._template_context = _slot_context(self._backend)
        self._scratch = Scratch()

    @classmethod
    def load(
        cls: type[Several],
        bundle: str | os.PathLike[str] | Bundle,
        backend: str = "auto",
        device: str = "cpu",
        *,
        threads: int | None = None,
        settings: TrackerSettings | None = None,
        capacity: int | None = None,
        precision: str | None = None,
        per_call: int | None = None,
    ) -> Several:
        """A tracker on a bundle's graphs.

        Args:
            bundle, backend, device, threads, settings, precision: as for :meth:`spm_rt.Tracker.load`.
            capacity: number of targets to be ready for: the graphs for up to so many are compiled now. Others are
                compiled when a target is added or removed that needs them, which takes a good part of a second.
            per_call: largest batch size; by default the largest that the bundle has graphs for. A CPU gains little from
                large batches, and a small one nothing (docs/guide/targets.md).

        Raises:
            BundleError, BackendError: the bundle or the backend cannot be used; the message says why.
            SettingsError: settings, capacity or per_call are of another type.
        """
        for name, number in (("capacity", capacity), ("per_call", per_call)):
            if number is not None and not (type(number) is int and 0 <= number <= MOST_TARGETS):
                raise SettingsError(f"{name} is {shortened(number)}; it must be a whole number up to {MOST_TARGETS}")
        opened = Bundle.of(bundle, settings)
        first = load_backend(opened, backend, device=device, threads=threads, precision=precision)
        made = {1: first}

        def compiled(targets: int) -> Backend:
            if targets not in made:
                made[targets] = load_backend(
                    opened, first.name, device=device, threads=threads, targets=targets, precision=precision
                )
            return made[targets]

        sizes = [size for size in opened.targets if size == 1 or size <= (per_call or size)]
        tracker = cls(compiled, sizes, opened.spec, opened.settings)
        tracker._prepare_for(capacity or 0)
        return tracker

    def sibling(self: Several) -> Several:
        """Another, independent tracker without targets that shares this one's compiled graphs."""
        self._gate.check()
        return type(self)(self._compiled, self._batch_sizes, self.spec, self.settings)

    def _release(self) -> None:
        super()._release()
        del self._backend, self._compiled, self._template_context, self._scratch

    def _state(self) -> str:
        return f"{self._backend.description}; {super()._state()}"

    def add(self, frame: AnyFrame, box: Sequence[float] | NDArray[np.floating]) -> int:
        """Follow another target, seen on this frame; returns its number, which is never given again.

        Args:
            frame: as for :meth:`spm_rt.Tracker.init`; of the size of the others' frames, while there are others.
            box: ``x, y, width, height`` in pixels; at least one pixel wide and high, and touching the frame.

        Raises:
            FrameError, BoxError: what is wrong with the frame or the box. The tracker stays as it was.
        """
        with self._gate:
            frame = take_frame(frame, self._template_context, self._backend)
            if self._targets:
                check_size(frame, self._frame_size, OTHER_SIZE)
            return self._begin(frame, box)

    def _begin(self, frame: Frame | DeviceFrame, box: Sequence[float] | NDArray[np.floating]) -> int:
        """Make a target's template, and give it a number."""
        start = check_box(box, frame.shape[:2])
        region = search_region(start, self.spec)
        write_crop(frame, region, self._template_context, 0, self._scratch)
        check_levels(frame, self._template_context.crop)
        self._template_context.set_template(to_crop(start, region)[None])
        view = TargetView(start, region, (frame.shape[0], frame.shape[1]))
        extent = measure_extent(self._template_context, view, self.spec, self.settings)
        return self._accept(Target(start, self._template_context.template(), extent), view.frame_size)

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
            frame = take_frame(frame, self._template_context, self._backend)
            if not self._targets:
                return {}
            check_size(frame, self._frame_size, OTHER_SIZE)
            mean = MeanColor(frame) if isinstance(frame, np.ndarray) else None
            return self._find(self._batches, dict.fromkeys(self._targets, (frame, mean)), candidates, clock)

    def _find(
        self,
        batches: Sequence[Batch[SlotContext]],
        frames: Mapping[int, tuple[Frame | DeviceFrame, MeanColor | None]],
        candidates: bool,
        clock: Callable[[str], None],
    ) -> dict[int, TrackResult]:
        """Find the targets of these batches, each in its frame."""
        views = {}
        for id, (frame, _) in frames.items():
            target = self._targets[id]
            region = search_region(target.box, self.spec)
            views[id] = TargetView(target.box, region, (frame.shape[0], frame.shape[1]), target.extent)
        for batch in batches:
            for slot, id in enumerate(batch.ids):
                frame, mean = frames[id]
                write_crop(frame, views[id].region, batch.context, slot, self._scratch, mean)
        clock("crop")
        searched = [batch.context.search() for batch in batches]
        clock("search")
        proposals = {
            id: propose(scores[slot], boxes[slot], views[id], self.settings)
            for batch, (scores, boxes) in zip(batches, searched, strict=True)
            for slot, id in enumerate(batch.ids)
        }
        clock("proposals")
        fine = self._relate(batches, proposals)
        clock("relation")
        results = {}
        for id, view in views.items():
            target = self._targets[id]
            decided = decide(proposals[id], fine.get(id), view, self.spec, self.settings, candidates, target.watch)
            target.box, results[id] = decided
        clock("fusion")
        return results

    def _relate(
        self, batches: Sequence[Batch[SlotContext]], proposals: dict[int, Proposals]
    ) -> dict[int, tuple[Floats, Floats]]:
        """The fine stage's scores ``[K]`` and boxes ``[K, 4]`` of each target; none in ``coarse`` mode."""
        fine: dict[int, tuple[Floats, Floats]] = {}
        for batch in batches if self.settings.mode != "coarse" else ():
            most = max(len(proposals[id].scores) for id in batch.ids)
            given = np.zeros((batch.size, most, 4), np.float32)
            for slot, id in enumerate(batch.ids):
                boxes = proposals[id].crop_boxes
                given[slot, : len(boxes)] = boxes
                given[slot, len(boxes) :] = boxes[-1]
            scores, moved = batch.context.relate(given)
            for slot, id in enumerate(batch.ids):
                count = len(proposals[id].scores)
                fine[id] = scores[slot, :count], moved[slot, :count]
        return fine


def _slot_context(backend: Backend) -> SlotContext:
    context = backend.context()
    if not isinstance(context, SlotContext):
        raise BackendError(f"backend {backend.name!r} follows one target; use a Tracker for each (sibling())")
    return context
