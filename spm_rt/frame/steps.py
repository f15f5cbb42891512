"""One target's share of a frame: what comes before and after each call of the network (paper, sections 3.2 to 3.4).

:class:`~spm_rt.trackers.single.Tracker` takes these steps for one target, :class:`~spm_rt.trackers.multi.MultiTracker`
for several.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..results import LOST, TRACKED, UNSURE, Candidate, TrackResult
from ..settings import ModelSpec, TrackerSettings
from .compiled import compiled
from .fusion import (
    AS_DETECTED,
    Extent,
    Fused,
    Rivals,
    cosine_window,
    extent_of,
    find_rivals,
    fuse,
    next_box,
    with_extent,
)
from .geometry import Region, to_frame, xyxy_to_xywh
from .proposals import select_proposals
from .switches import SwitchWatch

_choosing = compiled("_choosing", interface=4)
compiled_propose: Callable[..., tuple[bytearray, bytearray, bytearray]] | None = getattr(_choosing, "propose", None)
compiled_decide: Callable[..., tuple[tuple[float, float, float, float], float, float, float, float, bytes]] | None
compiled_decide = getattr(_choosing, "decide", None)

_selection = operator.attrgetter(*("near_iou", "score_floor", "nms_threshold", "num_near_candidates", "num_candidates"))
_fusion = operator.attrgetter(
    *("fine_score_weight", "fine_box_weight", "window_influence", "update_threshold", "size_rate", "min_side")
)
Floats = NDArray[np.float32]


class Proposals(NamedTuple):
    """What the fine stage is asked about: K boxes of the coarse stage, float32."""

    crop_boxes: Floats
    """[K, 4] in crop pixels"""
    boxes: Floats
    """[K, 4] in frame pixels"""
    scores: Floats
    """[K]"""


class TargetView(NamedTuple):
    """Where one target is looked for in a frame."""

    last: NDArray[np.float64]
    """[4], the last box in frame pixels"""
    region: Region
    """what the crop shows"""
    frame_size: tuple[int, int]
    """height, width"""
    extent: Extent = AS_DETECTED
    """what makes the wanted box of a detected one"""


def propose(scores: Floats, boxes: Floats, view: TargetView, settings: TrackerSettings) -> Proposals:
    """The boxes of the coarse stage that the fine stage shall look at.

    Args:
        scores: ``[N]`` foreground probabilities.
        boxes: ``[N, 4]`` in crop pixels.
        view: where the target was looked for.
        settings: how many, and the thresholds.
    """
    last, region = view.last, view.region
    if compiled_propose is None:
        # Coordinate by coordinate in memory: what follows works on one of them at a time.
        frame_boxes = to_frame(np.asfortranarray(boxes), region)
        rows = select_proposals(scores, frame_boxes, last.astype(np.float32), settings)
        return Proposals(boxes[rows], frame_boxes[rows], scores[rows])
    offset = (region.scale, region.x1, region.y1)
    crop_boxes, boxes_in_frame, chosen_scores = compiled_propose(scores, boxes, last, offset, *_selection(settings))
    return Proposals(
        np.frombuffer(crop_boxes, np.float32).reshape(-1, 4),
        np.frombuffer(boxes_in_frame, np.float32).reshape(-1, 4),
        np.frombuffer(chosen_scores, np.float32),
    )


def decide(
    proposals: Proposals,
    fine: tuple[Floats, Floats] | None,
    view: TargetView,
    spec: ModelSpec,
    settings: TrackerSettings,
    candidates: bool = False,
    watch: SwitchWatch | None = None,
) -> tuple[NDArray[np.float64], TrackResult]:
    """Both stages' scores and boxes fused: the new box ``[4]`` in frame pixels, and what the caller gets to see.

    Args:
        proposals: of the coarse stage.
        fine: the fine stage's scores ``[K]`` and boxes ``[K, 4]`` in crop pixels; None in ``coarse`` mode.
        view: where the target was looked for.
        spec, settings: of the tracker.
        candidates: list all proposals in the result.
        watch: of the target, which goes on by this frame where the settings want it.
    """
    last, region, frame_size, extent = view
    if compiled_decide is not None and fine is not None and settings.mode != "coarse" and not candidates:
        corners, score, coarse_score, fine_score, rival_score, rivals = compiled_decide(
            *proposals,
            *(np.ascontiguousarray(array, np.float32) for array in fine),
            last,
            (region.scale, region.x1, region.y1),
            extent,
            frame_size,
            spec.crop_size,
            settings.mode == "series",
            *_fusion(settings),
        )
        box = np.array(corners)
        others = Rivals(rival_score, np.frombuffer(rivals, np.float32).reshape(-1, 4))
        return box, make_result(box, (score, coarse_score, fine_score), others, extent, settings, watch)
    fused, fine_scores = _fuse(proposals, fine, region, spec, settings)
    best, score = fused.chosen, float(fused.scores[fused.chosen])
    box = last
    if score >= settings.update_threshold:
        box = next_box(last, fused.boxes[best], score, frame_size, settings, extent)
    scores = score, float(proposals.scores[best]), float(fine_scores[best])
    others = find_rivals(fused, settings.update_threshold)
    listed = _list_candidates(fused, proposals.scores, fine_scores, extent) if candidates else None
    return box, make_result(box, scores, others, extent, settings, watch, listed)


def make_result(
    box: NDArray[np.float64],
    scores: tuple[float, float, float],
    rivals: Rivals,
    extent: Extent,
    settings: TrackerSettings,
    watch: SwitchWatch | None,
    candidates: tuple[Candidate, ...] | None = None,
) -> TrackResult:
    """What the caller gets to see of a frame: whether the target is found is decided here.

    Args:
        box: ``[4]``, the new box.
        scores: fused, coarse and fine score of the chosen proposal.
        rivals: of the chosen proposal.
        extent: of the target.
        settings: of the tracker.
        watch: of the target; None: switches are not looked for.
        candidates: to be listed.
    """
    switched, score = False, scores[0]
    if watch is not None and settings.rival_memory:
        others = with_extent(rivals.boxes, extent) if len(rivals.boxes) else rivals.boxes
        switched = watch.see(box, others, settings.rival_memory)
    found = score >= settings.found_threshold and not switched
    state = TRACKED if found else UNSURE if score >= settings.update_threshold else LOST
    given = xyxy_to_xywh(box), score, found, *scores[1:], candidates
    return TrackResult(*given, state=state, switched=switched, rival_score=rivals.score)


def measure(
    proposals: Proposals,
    fine: tuple[Floats, Floats] | None,
    view: TargetView,
    spec: ModelSpec,
    settings: TrackerSettings,
) -> Extent:
    """The extent of a target: the box ``view.last``, given on the first frame, against what is detected there.

    Args:
        proposals, fine, spec, settings: as for :func:`decide`, of the very frame that the template is from.
        view: where the given box is.
    """
    fused, _ = _fuse(proposals, fine, view.region, spec, settings)
    return extent_of(view.last, fused.boxes[fused.chosen], settings.extent_correction)


def _fuse(
    proposals: Proposals,
    fine: tuple[Floats, Floats] | None,
    region: Region,
    spec: ModelSpec,
    settings: TrackerSettings,
) -> tuple[Fused, Floats]:
    """Both stages fused, and the fine stage's scores, which are NaN in ``coarse`` mode."""
    if fine is None:
        fine_scores, fine_boxes = np.full_like(proposals.scores, np.nan), proposals.boxes
    else:
        fine_scores, fine_boxes = fine[0], to_frame(fine[1], region)
    window = cosine_window(proposals.crop_boxes, spec.crop_size)
    return fuse(proposals.scores, proposals.boxes, fine_scores, fine_boxes, window, settings), fine_scores


def _list_candidates(fused: Fused, coarse_scores: Floats, fine_scores: Floats, extent: Extent) -> tuple[Candidate, ...]:
    """All proposals, best ranking first."""
    boxes = with_extent(fused.boxes, extent)
    return tuple(
        Candidate(
            xyxy_to_xywh(boxes[k]),
            float(fused.scores[k]),
            float(coarse_scores[k]),
            float(fine_scores[k]),
            float(fused.ranking[k]),
        )
        for k in np.argsort(-fused.ranking, kind="stable")
    )
