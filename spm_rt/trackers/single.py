"""The tracker: one target, one frame after the other. Read top to bottom beside the paper's section 3."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..backends import load_backend
from ..backends.protocol import Backend, SlotContext
from ..bundle import Bundle
from ..errors import NotInitializedError
from ..frame.crop import Frame, Scratch
from ..frame.fusion import AS_DETECTED, Extent
from ..frame.geometry import search_region, to_crop
from ..frame.steps import TargetView, decide, propose
from ..gpu.device_frames import DeviceFrame
from ..results import FOUND_AGAIN, Box, Candidate, TrackResult
from ..settings import ModelSpec, RecoverySettings, TrackerSettings, check_recovery
from .checks import check_box, check_levels, check_size, no_clock
from .extent import measure_extent, relate
from .input import AnyFrame, take_frame, write_crop
from .lifecycle import OnBackend
from .one_target import OneTarget
from .recovery.recovery import Recovery, on_host

__all__ = ["Box", "Candidate", "TrackResult", "Tracker", "check_box"]


class Tracker(OnBackend, OneTarget):
    """Follows one object through a video.

    ::

        tracker = Tracker.load("spm_alexnet")
        tracker.init(frames[0], (x, y, width, height))
        for frame in frames[1:]:
            result = tracker.update(frame)

    Frames are numpy arrays: uint8 or float (0..255), BGR, BGRA or grey, any memory layout. Where the backend works on a
    GPU (``tensorrt``, ``pytorch``), they may also be uint8 arrays on that GPU, of PyTorch, CuPy or any other library
    with ``__cuda_array_interface__`` or DLPack: they are cropped there (docs/notes/gpu.md). One tracker belongs to one
    thread at a time; make one per thread (they may share a backend). ``with`` or ``close`` gives its memory back.
    """

    def __init__(
        self, backend: Backend, spec: ModelSpec, settings: TrackerSettings, recovery: Recovery | None = None
    ) -> None:
        super().__init__(settings)
        self._recovery = recovery
        self._backend = backend
        self.spec = spec
        self._context = backend.context()
        self._scratch = Scratch()
        self._extent: Extent = AS_DETECTED

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | Bundle,
        backend: str = "auto",
        device: str = "cpu",
        *,
        threads: int | None = None,
        settings: TrackerSettings | None = None,
        precision: str | None = None,
        recovery: RecoverySettings | None = None,
    ) -> Tracker:
        """A tracker on a bundle's graphs.

        Args:
            bundle: the folder that ``spm-export`` wrote, a zip archive of it (``spm-export --pack``), or an opened
                :class:`~spm_rt.bundle.Bundle`.
            backend: ``auto``, ``onnxruntime``, ...
            device: ``cpu``, ``cuda``, ``cuda:1``, or a name that the backend's library knows.
            threads: threads per inference call; by default all cores the process may use.
            settings: instead of those in the bundle.
            precision: what the graphs are computed in, where the backend offers a choice: ``float32`` or, with OpenVINO
                on CPUs that have it, ``bfloat16``. int8 is a bundle of its own.
            recovery: how a lost target is looked for, and when it is believed to be found again; by default it is not
                looked for. Uses the bundle's graphs for several targets, where it has some.

        Raises:
            BundleError, BackendError: the bundle or the backend cannot be used; the message says why.
            SettingsError: the settings are something else.
        """
        way = None if recovery is None else check_recovery(recovery)
        opened = Bundle.of(bundle, settings)
        compiled = load_backend(opened, backend, device=device, threads=threads, precision=precision)
        if way is None:
            return cls(compiled, opened.spec, opened.settings)
        most = max(size for size in opened.targets if size <= way.crops)
        backends = {1: compiled}
        if most > 1:
            backends[most] = load_backend(
                opened, compiled.name, device=device, threads=threads, targets=most, precision=precision
            )
        way_back = Recovery(backends.__getitem__, sorted(backends), opened.spec, way)
        return cls(compiled, opened.spec, opened.settings, way_back)

    def sibling(self) -> Tracker:
        """Another, independent tracker that shares this one's compiled graphs."""
        self._gate.check()
        return Tracker(self._backend, self.spec, self.settings, self._recovery and self._recovery.sibling())

    def _release(self) -> None:
        del self._backend, self._context, self._scratch, self._recovery

    def _state(self) -> str:
        return f"{self._backend.description}; {self._place()}"

    def init(self, frame: AnyFrame, box: Sequence[float] | NDArray[np.floating]) -> None:
        """Start (again) on a frame.

        Args:
            frame: see the class.
            box: ``x, y, width, height`` in pixels; at least one pixel wide and high, and touching the frame.

        Raises:
            FrameError, BoxError: what is wrong with the frame or the box. The tracker stays as it was.
        """
        with self._gate:
            frame = self._take(frame)
            start = check_box(box, frame.shape[:2])
            region = search_region(start, self.spec)
            write_crop(frame, region, self._context, 0, self._scratch)
            check_levels(frame, self._context.crop)
            self._context.set_template(to_crop(start, region)[None])
            view = TargetView(start, region, (frame.shape[0], frame.shape[1]))
            extent = measure_extent(self._context, view, self.spec, self.settings)
            self._put(start)
            self._frame_size, self._extent = view.frame_size, extent
            if self._recovery is not None:
                assert isinstance(self._context, SlotContext)
                self._recovery.start(frame, start, self._context.template(), self.settings, extent)

    def move_to(self, box: Sequence[float] | NDArray[np.floating]) -> None:
        super().move_to(box)
        if self._recovery is not None:
            self._recovery.moved(self._known())

    move_to.__doc__ = OneTarget.move_to.__doc__

    def _take(self, frame: AnyFrame) -> Frame | DeviceFrame:
        taken = take_frame(frame, self._context, self._backend)
        return taken if self._recovery is None else on_host(taken)

    def update(
        self, frame: AnyFrame, *, candidates: bool = False, clock: Callable[[str], None] = no_clock
    ) -> TrackResult:
        """Find the target in the next frame.

        Args:
            frame: as for :meth:`init`, of the same size.
            candidates: return all proposals too.
            clock: called with the name of each stage as it ends (for measurements).

        Raises:
            NotInitializedError: before :meth:`init`.
            FrameError: the frame cannot be used. The tracker stays as it was.
        """
        with self._gate:
            if self._box is None:
                raise NotInitializedError("update before init: call init(frame, box) with the target's first box")
            frame = self._take(frame)
            check_size(frame, self._frame_size, "call init again")
            view = TargetView(self._box, search_region(self._box, self.spec), self._frame_size, self._extent)
            write_crop(frame, view.region, self._context, 0, self._scratch)
            clock("crop")
            scores, boxes = self._context.search()
            clock("search")
            proposals = propose(scores[0], boxes[0], view, self.settings)
            clock("proposals")
            fine = relate(self._context, proposals, self.settings)
            clock("relation")
            box, result = decide(proposals, fine, view, self.spec, self.settings, candidates, self._watch)
            clock("fusion")
            if self._recovery is not None:
                box, result = self._recovery.step(frame, box, result, self.settings)
                if result.state == FOUND_AGAIN:
                    self._put(box)
            self._box = box
            return result
