"""One target's share of a frame: what comes before and after each call of the network (paper, sections 3.2 to 3.4).

:class:`~spm_rt.tracker.Tracker` takes these steps for one target, :class:`~spm_rt.multi.MultiTracker` for several.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .device_frames import DeviceFrame
from .errors import BoxError, FrameError, ThreadError
from .fusion import Fused, cosine_window, fuse, next_box
from .geometry import Region, to_frame, xywh_to_xyxy, xyxy_to_xywh
from .proposals import select_proposals
from .settings import ModelSpec, TrackerSettings

choose: Callable[..., tuple[bytearray, bytearray, bytearray]] | None
judge: Callable[..., tuple[tuple[float, float, float, float], float, float, float]] | None
try:
    from ._choosing import choose, judge
except ImportError:  # not built: no C compiler when the package was installed
    choose = judge = None

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


class Proposals(NamedTuple):
    """What the fine stage is asked about: K boxes of the coarse stage, float32."""

    crop_boxes: Floats
    """[K, 4] in crop pixels"""
    boxes: Floats
    """[K, 4] in frame pixels"""
    scores: Floats
    """[K]"""


def propose(
    scores: Floats, boxes: Floats, region: Region, last: NDArray[np.float64], settings: TrackerSettings
) -> Proposals:
    """The boxes of the coarse stage that the fine stage shall judge.

    Args:
        scores: ``[N]`` foreground probabilities.
        boxes: ``[N, 4]`` in crop pixels.
        region: what the crop shows.
        last: the last box ``[4]`` in frame pixels.
        settings: how many, and the thresholds.
    """
    if choose is None:
        # Coordinate by coordinate in memory: what follows works on one of them at a time.
        frame_boxes = to_frame(np.asfortranarray(boxes), region)
        rows = select_proposals(scores, frame_boxes, last.astype(np.float32), settings)
        return Proposals(boxes[rows], frame_boxes[rows], scores[rows])
    crop_boxes, places, chosen_scores = choose(
        scores,
        boxes,
        last.astype(np.float32),
        (region.scale, region.x1, region.y1),
        settings.near_iou,
        settings.score_floor,
        settings.nms_threshold,
        settings.num_near_candidates,
        settings.num_candidates,
    )
    return Proposals(
        np.frombuffer(crop_boxes, np.float32).reshape(-1, 4),
        np.frombuffer(places, np.float32).reshape(-1, 4),
        np.frombuffer(chosen_scores, np.float32),
    )


def decide(
    proposals: Proposals,
    fine: tuple[Floats, Floats] | None,
    region: Region,
    last: NDArray[np.float64],
    frame_size: tuple[int, int],
    spec: ModelSpec,
    settings: TrackerSettings,
    candidates: bool = False,
) -> tuple[NDArray[np.float64], TrackResult]:
    """Both stages' judgements fused: the new box ``[4]`` in frame pixels, and what the caller gets to see.

    Args:
        proposals: of the coarse stage.
        fine: the fine stage's scores ``[K]`` and boxes ``[K, 4]`` in crop pixels; None in ``coarse`` mode.
        region: what the crop shows.
        last: the last box ``[4]`` in frame pixels.
        frame_size: height, width.
        spec, settings: of the tracker.
        candidates: list all proposals in the result.
    """
    if judge is not None and fine is not None and settings.mode != "coarse" and not candidates:
        corners, score, coarse_score, fine_score = judge(
            *proposals,
            *(np.ascontiguousarray(array, np.float32) for array in fine),
            last,
            (region.scale, region.x1, region.y1),
            frame_size,
            spec.crop_size,
            settings.mode == "series",
            settings.fine_score_weight,
            settings.fine_box_weight,
            settings.window_influence,
            settings.update_threshold,
            settings.size_rate,
            settings.min_side,
        )
        box = np.array(corners)
        found = score >= settings.found_threshold
        return box, TrackResult(xyxy_to_xywh(box), score, found, coarse_score, fine_score)
    if fine is None:
        fine_scores, fine_boxes = np.full_like(proposals.scores, np.nan), proposals.boxes
    else:
        fine_scores, fine_boxes = fine[0], to_frame(fine[1], region)
    window = cosine_window(proposals.crop_boxes, spec.crop_size)
    fused = fuse(proposals.scores, proposals.boxes, fine_scores, fine_boxes, window, settings)
    best, score = fused.chosen, float(fused.scores[fused.chosen])
    box = last
    if score >= settings.update_threshold:
        box = next_box(last, fused.boxes[best], score, frame_size, settings)
    result = TrackResult(
        xyxy_to_xywh(box),
        score,
        score >= settings.found_threshold,
        float(proposals.scores[best]),
        float(fine_scores[best]),
        _list_candidates(fused, proposals.scores, fine_scores) if candidates else None,
    )
    return box, result


def _list_candidates(fused: Fused, coarse_scores: Floats, fine_scores: Floats) -> tuple[Candidate, ...]:
    """All proposals, best ranking first."""
    return tuple(
        Candidate(
            xyxy_to_xywh(fused.boxes[k]),
            float(fused.scores[k]),
            float(coarse_scores[k]),
            float(fine_scores[k]),
            float(fused.ranking[k]),
        )
        for k in np.argsort(-fused.ranking, kind="stable")
    )


class Gate:
    """One thread at a time: a tracker's buffers and state are its own, and are not locked any further."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise ThreadError("this tracker is in use by another thread; make one tracker per thread (sibling())")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def no_clock(stage: str) -> None:
    """Stands in for a stage clock when nobody measures."""


def check_size(frame: NDArray[np.generic] | DeviceFrame, size: tuple[int, int], advice: str) -> None:
    """A FrameError with ``advice`` if a frame has not the ``size`` (height, width) that a tracker was started with."""
    if frame.shape[:2] != size:
        was, now = size[::-1], frame.shape[1::-1]
        raise FrameError(
            f"the frame's size changed from {was[0]} x {was[1]} to {now[0]} x {now[1]}: "
            f"boxes would mean something else; {advice}"
        )


def check_levels(frame: NDArray[np.generic] | DeviceFrame, crop: Floats) -> None:
    """A FrameError if a float frame's template crop has the values of a picture scaled to 0..1."""
    if frame.dtype != np.uint8 and 0 < float(crop.max()) <= 1.0:
        raise FrameError("the float frame's values are within 0..1; 0..255 is needed")


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
