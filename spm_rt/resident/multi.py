"""Several targets on frames that never leave the GPU: for each bucket of targets one graph launch and one copy back."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import BackendError
from ..frame.geometry import search_region, to_crop
from ..gpu.device_frames import DeviceFrame
from ..results import TrackResult
from ..settings import ModelSpec, TrackerSettings
from ..trackers.checks import check_box
from ..trackers.slots import OTHER_SIZE, Batch, Target, TargetSlots
from .frame_buffer import FrameBuffer, check_shape, frame_facts, frame_shape
from .frame_graph import FrameGraph, Networks, track_result

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

    Targets share a bucket: networks, buffers and a recorded graph for 1, 2, 4, ... of them. The smallest bucket that
    holds all is used, places that nobody has are passed over by our kernels, and more targets than the largest holds
    take several buckets at once, each on a stream of its own. The frame is uploaded once for all. A target that comes
    to lie in another place takes its template along.

    Frames are as for :class:`~spm_rt.resident.ResidentTracker`, and ``TrackResult.candidates`` is always None.

    Args:
        networks: makes networks for a number of targets, new ones each time.
        sizes: the numbers of targets that it can be asked for, ascending, 1 among them.
        spec, settings: of the bundle, for all targets.
        graphs: record each bucket's work as a CUDA graph.

    Raises:
        BackendError: see :class:`spm_rt.resident.frame_graph.FrameGraph`.
    """

    def __init__(
        self,
        networks: Callable[[int], Networks],
        sizes: Sequence[int],
        spec: ModelSpec,
        settings: TrackerSettings,
        *,
        graphs: bool = True,
    ) -> None:
        self.spec, self.settings = spec, settings
        self._networks, self._wanted = networks, graphs
        super().__init__(self._frame_graph, sizes)
        self._template_context = self._frame_graph(1)
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
            bundle: a folder that ``spm-export`` wrote, or what :meth:`Bundle.open` gave for one.
            backend: ``tensorrt``, ``tensorrt-rtx`` (with engines for each number of targets) or ``pytorch``.
            device: ``cuda`` or ``cuda:INDEX``.
            precision: of ``pytorch``: ``float32``, ``float16`` or ``bfloat16``; by default the bundle's.
            settings: by default the bundle's.
            capacity: number of targets to be ready for: what up to so many need is made now.
            sizes: batch sizes; by default those that the bundle has graphs for, and ``BATCH_SIZES`` for
                ``pytorch``, which needs no graphs.

        Raises:
            BundleError, BackendError, EngineError: the bundle or the backend cannot be used; the message says why.
        """
        opened = Bundle.of(bundle, settings)
        chosen = sizes or (BATCH_SIZES if backend == "pytorch" else opened.targets)
        tracker = cls(networks_of(opened, backend, device, precision), chosen, opened.spec, opened.settings)
        tracker._prepare_for(capacity or 0)
        return tracker

    def sibling(self) -> ResidentMultiTracker:
        """Another, independent tracker without targets that shares this one's engines or weights."""
        return ResidentMultiTracker(self._networks, self._batch_sizes, self.spec, self.settings, graphs=self._wanted)

    @property
    def graphs(self) -> bool:
        """Whether graphs are used; False too where one could not be recorded."""
        return self._wanted and all(batch.context.graphs for pool in self._pool.values() for batch in pool)

    def add(self, frame: Any, box: Sequence[float] | NDArray[np.floating]) -> int:
        """Follow another target, seen on this frame; see :meth:`spm_rt.MultiTracker.add`."""
        with self._gate:
            given = frame_facts(frame)
            start = check_box(box, (given.height, given.width))
            buffer = self._stage(given)
            template_context = self._prepared(self._template_context, buffer)
            buffer.bring(given, template_context.stream)
            template_context.crop(start[None])
            template_context.networks.set_template(to_crop(start, search_region(start, self.spec))[None])
            id = self._accept(Target(start, template_context.networks.template()), (given.height, given.width))
            self._buffer = buffer
            return id

    def update(self, frame: Any) -> dict[int, TrackResult]:
        """Find all targets in the next frame.

        Raises:
            FrameError: the frame cannot be used, or is of another shape. All targets stay as they were.
            BackendError: the GPU's complaints. Likewise.
        """
        with self._gate:
            given = frame_facts(frame)
            if not self._targets or self._buffer is None:
                return {}
            check_shape(given, self._buffer.shape, OTHER_SIZE)
            first = self._batches[0].context.stream
            self._buffer.bring(given, first)
            for batch in self._batches:
                graph = self._prepared(batch.context, self._buffer)
                if graph.stream is not first:
                    graph.stream.after(first.handle)
                graph.begin(self._boxes(batch))
            records: dict[int, Any] = {}
            for batch in self._batches:
                records |= dict(zip(batch.ids, batch.context.end(), strict=False))  # behind them: empty slots
            results = {}
            for id, target in self._targets.items():
                target.box, results[id] = records[id]["box"].copy(), track_result(records[id], self.settings)
            return results

    def _frame_graph(self, targets: int) -> FrameGraph:
        return FrameGraph(self._networks(targets), self.spec, self.settings, graphs=self._wanted)

    def _stage(self, given: DeviceFrame) -> FrameBuffer:
        """The place for frames of this shape: of no other, while there are targets."""
        if self._buffer is not None and self._targets:
            check_shape(given, self._buffer.shape, OTHER_SIZE)
        if self._buffer is None or self._buffer.shape != frame_shape(given):
            return FrameBuffer(self._template_context.networks.device, frame_shape(given))
        return self._buffer

    @staticmethod
    def _prepared(graph: FrameGraph, buffer: FrameBuffer) -> FrameGraph:
        if graph.buffer is not buffer:
            graph.prepare(buffer)
        return graph

    def _boxes(self, batch: Batch[FrameGraph]) -> NDArray[np.float64]:
        """The last boxes by slot, and zeros behind them."""
        boxes = np.zeros((batch.size, 4))
        for slot, id in enumerate(batch.ids):
            boxes[slot] = self._targets[id].box
        return boxes


def networks_of(bundle: Bundle, backend: str, device: str, precision: str | None = None) -> Callable[[int], Networks]:
    """What makes a backend's networks by number of targets: engines or weights are loaded once.

    Raises:
        BackendError: no such backend, or none whose frames can stay on the device; the precision is not to be had.
    """
    if backend == "pytorch":
        from ..backends.pytorch.backend import PyTorchBackend
        from ..backends.pytorch.resident import PyTorchNetworks

        whole = PyTorchBackend(bundle, device=device, precision=precision)
        return lambda targets: PyTorchNetworks(whole.sized(targets), bundle)
    if backend not in ("tensorrt", "tensorrt-rtx"):
        raise BackendError(f"backend {backend!r} cannot keep frames on the GPU; tensorrt, tensorrt-rtx and pytorch can")
    if precision is not None:
        raise BackendError(f"backend {backend!r}: an engine's precision is its bundle's (spm-export --precision)")
    from ..backends.tensorrt.backend import TensorRtBackend, TensorRtNetworks

    @functools.cache
    def engines(targets: int) -> TensorRtBackend:
        return TensorRtBackend(bundle, device=device, targets=targets, library=backend.replace("-", "_"))

    return lambda targets: TensorRtNetworks(engines(targets))
