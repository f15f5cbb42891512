"""The tracker: one target, one frame after the other. Read top to bottom beside the paper's section 3."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from .backends import Backend, load_backend
from .bundle import Bundle
from .crop import Frame, Scratch, check_frame, crop_into
from .errors import BoxError, FrameError, NotInitializedError, ThreadError
from .fusion import cosine_window, fuse, next_box
from .geometry import Region, search_region, to_crop, to_frame, xywh_to_xyxy, xyxy_to_xywh
from .proposals import select_proposals
from .settings import ModelSpec, TrackerSettings

Box = tuple[float, float, float, float]
Floats = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """One proposal of a frame, before the choice: box ``x, y, width, height`` after fusion, and all its scores."""

    box: Box
    score: float
    coarse_score: float
    fine_score: float
    ranking: float


@dataclasses.dataclass(frozen=True, slots=True)
class TrackResult:
    """What one frame gave.

    Attributes:
        box: ``x, y, width, height`` in pixels of the frame. Where the score is below ``update_threshold`` this is the
            last box, unchanged.
        score: fused score of the chosen proposal, 0..1, without the window.
        found: whether the target is thought to be in ``box`` (``score >= found_threshold``; docs/lost.md has figures).
        coarse_score: the coarse stage's share of it.
        fine_score: the fine stage's share of it; NaN in ``coarse`` mode.
        candidates: all proposals of the frame, best ranking first, if they were asked for.
    """

    box: Box
    score: float
    found: bool
    coarse_score: float
    fine_score: float
    candidates: tuple[Candidate, ...] | None = None


def _no_clock(stage: str) -> None:
    """Stands in for a stage clock when nobody measures."""


class Tracker:
    """Follows one object through a video.

    ::

        tracker = Tracker.load("spm_alexnet")
        tracker.init(frames[0], (x, y, width, height))
        for frame in frames[1:]:
            result = tracker.update(frame)

    Frames are numpy arrays: uint8 or float (0..255), BGR, BGRA or grey, any memory layout. One tracker belongs to one
    thread at a time; make one per thread (they may share a backend).
    """

    def __init__(self, backend: Backend, spec: ModelSpec, settings: TrackerSettings) -> None:
        self.backend = backend
        self.spec = spec
        self.settings = settings
        self._context = backend.context()
        self._scratch = Scratch(spec.crop_size)
        self._box: NDArray[np.float64] | None = None
        self._frame_size = (0, 0)
        self._busy = threading.Lock()

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | Bundle,
        backend: str = "auto",
        device: str = "cpu",
        *,
        threads: int | None = None,
        settings: TrackerSettings | None = None,
    ) -> Tracker:
        """A tracker on a bundle's graphs.

        Args:
            bundle: the folder that ``spm-export`` wrote, or an opened :class:`~spm_rt.bundle.Bundle`.
            backend: ``auto``, ``onnxruntime``, ...
            device: ``cpu``, ``cuda``, ``cuda:1``, or a name that the backend's library knows.
            threads: threads per inference call; by default all cores the process may use.
            settings: instead of those in the bundle.

        Raises:
            BundleError, BackendError: the bundle or the backend cannot be used; the message says why.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        compiled = load_backend(opened, backend, device=device, threads=threads)
        return cls(compiled, opened.spec, settings or opened.settings)

    def sibling(self) -> Tracker:
        """Another, independent tracker that shares this one's compiled graphs."""
        return Tracker(self.backend, self.spec, self.settings)

    @property
    def box(self) -> Box:
        """The last box, ``x, y, width, height``."""
        if self._box is None:
            raise NotInitializedError("no box yet: call init(frame, box) first")
        return xyxy_to_xywh(self._box)

    def move_to(self, box: Sequence[float] | NDArray[np.floating]) -> None:
        """Put the box ``x, y, width, height`` elsewhere, as after a detection; the template stays what it is.

        Raises:
            NotInitializedError: before :meth:`init`.
            BoxError: see :meth:`init`.
        """
        with self._entered():
            if self._box is None:
                raise NotInitializedError("move_to before init: there is no template yet")
            self._box = check_box(box, self._frame_size)

    def init(self, frame: Frame, box: Sequence[float] | NDArray[np.floating]) -> None:
        """Start (again) on a frame.

        Args:
            frame: see the class.
            box: ``x, y, width, height`` in pixels; at least one pixel wide and high, and touching the frame.

        Raises:
            FrameError, BoxError: what is wrong with the frame or the box. The tracker stays as it was.
        """
        with self._entered():
            frame = check_frame(frame)
            start = check_box(box, frame.shape[:2])
            region = search_region(start, self.spec)
            crop_into(frame, region, self._context.crop[0], self._scratch)
            if frame.dtype != np.uint8 and 0 < float(self._context.crop.max()) <= 1.0:
                raise FrameError("the float frame's values are within 0..1; 0..255 is needed")
            self._context.set_template(to_crop(start, region)[None])
            self._box = start
            self._frame_size = (frame.shape[0], frame.shape[1])

    def update(
        self, frame: Frame, *, candidates: bool = False, clock: Callable[[str], None] = _no_clock
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
        with self._entered():
            if self._box is None:
                raise NotInitializedError("update before init: call init(frame, box) with the target's first box")
            frame = check_frame(frame)
            if frame.shape[:2] != self._frame_size:
                was, now = self._frame_size[::-1], frame.shape[1::-1]
                raise FrameError(
                    f"the frame's size changed from {was[0]} x {was[1]} to {now[0]} x {now[1]}: "
                    "boxes would mean something else; call init again"
                )
            region = search_region(self._box, self.spec)
            crop_into(frame, region, self._context.crop[0], self._scratch)
            clock("crop")
            return self._locate(region, candidates, clock)

    def _locate(self, region: Region, candidates: bool, clock: Callable[[str], None]) -> TrackResult:
        """Sections 3.2 to 3.4: coarse matching, proposals, fine matching, fusion, and the new box."""
        assert self._box is not None
        all_scores, all_boxes = (array[0] for array in self._context.search())
        clock("search")
        frame_boxes = to_frame(all_boxes, region)
        rows = select_proposals(all_scores, frame_boxes, self._box.astype(np.float32), self.settings)
        crop_boxes, coarse_scores, coarse_boxes = all_boxes[rows], all_scores[rows], frame_boxes[rows]
        clock("proposals")
        if self.settings.mode == "coarse":
            fine_scores, fine_boxes = np.full_like(coarse_scores, np.nan), coarse_boxes
        else:
            scores, boxes = self._context.relate(crop_boxes[None])
            fine_scores, fine_boxes = scores[0], to_frame(boxes[0], region)
        clock("relation")
        window = cosine_window(crop_boxes, self.spec.crop_size)
        fused = fuse(coarse_scores, coarse_boxes, fine_scores, fine_boxes, window, self.settings)
        best, score = fused.chosen, float(fused.scores[fused.chosen])
        if score >= self.settings.update_threshold:
            self._box = next_box(self._box, fused.boxes[best], score, self._frame_size, self.settings)
        listed = None
        if candidates:
            order = np.argsort(-fused.ranking, kind="stable")
            listed = tuple(
                Candidate(
                    xyxy_to_xywh(fused.boxes[k]),
                    float(fused.scores[k]),
                    float(coarse_scores[k]),
                    float(fine_scores[k]),
                    float(fused.ranking[k]),
                )
                for k in order
            )
        result = TrackResult(
            xyxy_to_xywh(self._box),
            score,
            score >= self.settings.found_threshold,
            float(coarse_scores[best]),
            float(fine_scores[best]),
            listed,
        )
        clock("fusion")
        return result

    @contextmanager
    def _entered(self) -> Iterator[None]:
        """One thread at a time: buffers and state are this tracker's own, and are not locked any further."""
        if not self._busy.acquire(blocking=False):
            raise ThreadError("this tracker is in use by another thread; make one tracker per thread (sibling())")
        try:
            yield
        finally:
            self._busy.release()


def check_box(box: Sequence[float] | NDArray[np.floating], frame_size: tuple[int, ...]) -> NDArray[np.float64]:
    """A box ``x, y, width, height`` as x1, y1, x2, y2 in float64, if a tracker can start on it.

    Args:
        box: as a caller gives it.
        frame_size: height, width.

    Raises:
        BoxError: not four finite numbers, less than one pixel wide or high, or wholly outside the frame.
    """
    try:
        x, y, width, height = (float(v) for v in box)
    except (TypeError, ValueError) as error:
        raise BoxError(f"a box is four numbers x, y, width, height, not {box!r}") from error
    given = f"box x={x:g}, y={y:g}, width={width:g}, height={height:g}"
    if not all(math.isfinite(v) for v in (x, y, width, height)):
        raise BoxError(f"{given}: all four must be finite")
    if width <= 0 or height <= 0:
        raise BoxError(f"{given}: empty or inverted (x, y, width, height is expected, not two corners)")
    if width < 1 or height < 1:
        raise BoxError(f"{given}: less than one pixel wide or high")
    rows, columns = frame_size
    if x >= columns or y >= rows or x + width <= 0 or y + height <= 0:
        raise BoxError(f"{given}: wholly outside the frame of {columns} x {rows} pixels")
    if max(width, height) > 100 * max(rows, columns):
        raise BoxError(f"{given}: over 100 times the frame's size, {columns} x {rows}")
    return xywh_to_xyxy((x, y, width, height))
