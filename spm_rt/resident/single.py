"""A tracker whose frame never leaves the GPU: crop, network, proposals, fusion and the next box are one graph launch.

What comes back per frame is one record of 184 bytes. The kernels (:mod:`spm_rt.gpu.kernels`) compute what the steps of
:class:`~spm_rt.trackers.single.Tracker` compute, which stays the readable reference. The tests compare the two over a
stand-in for the driver that runs the kernels on the host. docs/notes/gpu.md says what has been run where.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backends.protocol import Networks
from ..bundle import Bundle
from ..errors import NotInitializedError
from ..frame.fusion import AS_DETECTED, Extent
from ..results import TrackResult
from ..settings import ModelSpec, TrackerSettings
from ..trackers.checks import check_box
from ..trackers.one_target import OneTarget
from .frame_buffer import FrameBuffer, check_shape, frame_facts
from .frame_graph import FrameGraph, track_result
from .loading import open_networks


class ResidentTracker(OneTarget):
    """Follows one object through frames on the GPU, or through host frames that it uploads whole.

    ::

        tracker = ResidentTracker.load("spm_alexnet", "tensorrt")
        tracker.init(frames[0], (x, y, width, height))
        for frame in frames[1:]:
            result = tracker.update(frame)

    Frames are uint8, BGR, BGRA or grey: numpy arrays, or anything with ``__cuda_array_interface__`` on the same GPU.
    ``TrackResult.candidates`` is always None. One tracker belongs to one thread at a time. ``with`` or ``close``
    gives its memory back. Its settings cannot be changed.

    Args:
        networks: for one target.
        spec, settings: of the bundle.
        graphs: record a frame's work as a CUDA graph.

    Raises:
        BackendError: see :class:`spm_rt.resident.frame_graph.FrameGraph`.
    """

    _settings_are_fixed = True

    def __init__(self, networks: Networks, spec: ModelSpec, settings: TrackerSettings, *, graphs: bool = True) -> None:
        super().__init__(settings)
        self.networks, self.spec = networks, spec
        self._graph = FrameGraph(networks, spec, settings, graphs=graphs)
        self._buffer: FrameBuffer | None = None
        self._extent: Extent = AS_DETECTED

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | Bundle,
        backend: str = "tensorrt",
        device: str = "cuda",
        *,
        precision: str | None = None,
        settings: TrackerSettings | None = None,
    ) -> ResidentTracker:
        """A tracker on a bundle's engines or weights.

        Args:
            bundle, backend, device, precision, settings: see :func:`spm_rt.resident.loading.open_networks`.

        Raises:
            BundleError, BackendError, EngineError: the bundle or the backend cannot be used; the message says why.
        """
        opened, networks = open_networks(bundle, backend, device, precision, settings)
        return cls(networks(1), opened.spec, opened.settings)

    @property
    def graphs(self) -> bool:
        """Whether graphs are used; False too where one could not be recorded."""
        self._gate.check()
        return self._graph.graphs

    def init(self, frame: Any, box: Sequence[float]) -> None:
        """Start (again) on a frame; see :meth:`spm_rt.Tracker.init`."""
        with self._gate:
            facts = frame_facts(frame)
            start = check_box(box, facts.shape[:2])
            buffer = FrameBuffer.fitting(facts, self.networks.device, self._buffer)
            self._extent = self._graph.make_template(facts, buffer, start)
            self._buffer, self._frame_size = buffer, facts.shape[:2]
            self._put(start)

    def update(self, frame: Any) -> TrackResult:
        """Find the target in the next frame; see :meth:`spm_rt.Tracker.update`."""
        with self._gate:
            if self._box is None or self._buffer is None:
                raise NotInitializedError("update before init: call init(frame, box) with the target's first box")
            facts = frame_facts(frame)
            check_shape(facts, self._buffer.shape, "call init again")
            self._buffer.bring(facts, self._graph.stream)
            self._graph.begin(np.append(self._box, self._extent)[None])
            record = self._graph.end()[0]
            self._box = record["box"].copy()
            return track_result(record, self.settings, self._extent, self._watch)

    def _release(self) -> None:
        del self.networks, self._graph, self._buffer

    def _state(self) -> str:
        return f"{self.networks.device.name}; {self._place()}"
