"""Several targets on frames that never leave the GPU: for each batch of targets one graph launch and one copy back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..results import TrackResult
from ..settings import ModelSpec, TrackerSettings
from ..trackers.checks import check_box
from ..trackers.slots import OTHER_SIZE, Batch, Target, TargetSlots
from .frame_buffer import FrameBuffer, check_shape, frame_facts
from .frame_graph import FrameGraph, track_result
from .loading import MakeNetworks, open_networks

BATCH_SIZES = (1, 2, 4, 8, 16)
"""Numbers of targets in one launch where the networks take any."""


class ResidentMultiTracker(TargetSlots[FrameGraph]):
    """Follows any number of objects on the GPU, each as a :class:`~spm_rt.resident.ResidentTracker` of its own would.

    ::

        tracker = ResidentMultiTracker.load("spm_alexnet", "tensorrt")
        first = tracker.add(frames[0], (x, y, width, height))
        second = tracker.add(frames[0], (x, y, width, height))
        for frame in frames[1:]:
            results = tracker.update(frame)
            results[first].box, results[second].box

    Targets share a batch: networks, buffers and a recorded graph for 1, 2, 4, ... of them. The smallest batch that
    holds all is used, empty slots are passed over by our kernels, and more targets than the largest holds take several
    batches at once, each on a stream of its own. The frame is uploaded once for all. A target that gets another slot
    takes its template along.

    Frames are as for :class:`~spm_rt.resident.ResidentTracker`, and ``TrackResult.candidates`` is always None. ``with``
    or ``close`` gives the memory back. Settings cannot be changed.

    Args:
        networks: makes networks for a number of targets, new ones each time.
        sizes: the numbers of targets that it can be asked for, ascending, 1 among them.
        spec, settings: of the bundle, for all targets.
        graphs: record each batch's work as a CUDA graph.

    Raises:
        BackendError: see :class:`spm_rt.resident.frame_graph.FrameGraph`.
    """

    _settings_are_fixed = True

    def __init__(
        self,
        networks: MakeNetworks,
        sizes: Sequence[int],
        spec: ModelSpec,
        settings: TrackerSettings,
        *,
        graphs: bool = True,
    ) -> None:
        self.spec = spec
        self._networks, self._wanted = networks, graphs
        super().__init__(self._frame_graph, sizes, settings)
        self._template_graph = self._frame_graph(1)
        self._buffer: FrameBuffer | None = None

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | Bundle,
        backend: str = "tensorrt",
        device: str = "cuda",
        *,
        precision: str | None = None,
        settings: TrackerSettings | None = None,
        capacity: int | None = None,
        sizes: Sequence[int] | None = None,
    ) -> ResidentMultiTracker:
        """A tracker on a bundle's engines or weights.

        Args:
            bundle, backend, device, precision, settings: see :func:`spm_rt.resident.loading.open_networks`.
            capacity: number of targets to be ready for: what up to so many need is made now.
            sizes: batch sizes; by default those that the bundle has graphs for, and ``BATCH_SIZES`` for
                ``pytorch``, which needs no graphs.

        Raises:
            BundleError, BackendError, EngineError: the bundle or the backend cannot be used; the message says why.
        """
        opened, networks = open_networks(bundle, backend, device, precision, settings)
        chosen = sizes or (BATCH_SIZES if backend == "pytorch" else opened.targets)
        tracker = cls(networks, chosen, opened.spec, opened.settings)
        tracker._prepare_for(capacity or 0)
        return tracker

    def sibling(self) -> ResidentMultiTracker:
        """Another, independent tracker without targets that shares this one's engines or weights."""
        self._gate.check()
        return ResidentMultiTracker(self._networks, self._batch_sizes, self.spec, self.settings, graphs=self._wanted)

    @property
    def graphs(self) -> bool:
        """Whether graphs are used; False too where one could not be recorded."""
        self._gate.check()
        return self._wanted and all(batch.context.graphs for pool in self._pool.values() for batch in pool)

    def add(self, frame: Any, box: Sequence[float] | NDArray[np.floating]) -> int:
        """Follow another target, seen on this frame; see :meth:`spm_rt.MultiTracker.add`."""
        with self._gate:
            facts = frame_facts(frame)
            start = check_box(box, facts.shape[:2])
            if self._buffer is not None and self._targets:
                check_shape(facts, self._buffer.shape, OTHER_SIZE)
            buffer = FrameBuffer.fitting(facts, self._template_graph.networks.device, self._buffer)
            extent = self._template_graph.make_template(facts, buffer, start)
            id = self._accept(Target(start, self._template_graph.networks.template(), extent), facts.shape[:2])
            self._buffer = buffer
            return id

    def update(self, frame: Any) -> dict[int, TrackResult]:
        """Find all targets in the next frame.

        Raises:
            FrameError: the frame cannot be used, or is of another shape. All targets stay as they were.
            BackendError: the GPU's complaints. Likewise.
        """
        with self._gate:
            facts = frame_facts(frame)
            if not self._targets or self._buffer is None:
                return {}
            check_shape(facts, self._buffer.shape, OTHER_SIZE)
            first = self._batches[0].context.stream
            self._buffer.bring(facts, first)
            for batch in self._batches:
                graph = batch.context
                graph.prepare(self._buffer)
                if graph.stream is not first:
                    graph.stream.after(first.handle)
                graph.begin(self._boxes(batch))
            records: dict[int, Any] = {}
            for batch in self._batches:
                records |= dict(zip(batch.ids, batch.context.end(), strict=False))  # behind them: empty slots
            results = {}
            for id, target in self._targets.items():
                target.box = records[id]["box"].copy()
                results[id] = track_result(records[id], self.settings, target.extent, target.watch)
            return results

    def _release(self) -> None:
        super()._release()
        del self._networks, self._template_graph, self._buffer

    def _state(self) -> str:
        return f"{self._template_graph.networks.device.name}; {super()._state()}"

    def _frame_graph(self, targets: int) -> FrameGraph:
        return FrameGraph(self._networks(targets), self.spec, self.settings, graphs=self._wanted)

    def _boxes(self, batch: Batch[FrameGraph]) -> NDArray[np.float64]:
        """The last boxes and the extents by slot, and zeros behind them."""
        boxes = np.zeros((batch.size, 8))
        for slot, id in enumerate(batch.ids):
            boxes[slot] = np.append(self._targets[id].box, self._targets[id].extent)
        return boxes
