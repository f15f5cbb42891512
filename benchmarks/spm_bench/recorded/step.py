"""One frame of the tracker, step by step, with every number kept: the rows that recorded reference data hold.

The steps are the runtime's own functions on any backend's context; the names are those of docs/reference/benchmarks.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_rt.backends.protocol import Context
from spm_rt.frame.crop import check_frame, crop_exact, crop_into
from spm_rt.frame.fusion import cosine_window, fuse, next_box
from spm_rt.frame.geometry import overlap_with, search_region, to_crop, to_frame
from spm_rt.frame.proposals import select_proposals
from spm_rt.settings import ModelSpec, TrackerSettings

Array = NDArray[Any]
Row = dict[str, Array]

TIE = 1e-6
"""Scores this close are the same but for rounding."""


def start_row(context: Context, frame: Array, box: Array, spec: ModelSpec) -> Row:
    """Take the template at ``box`` (x1, y1, x2, y2 in the frame): the ``init_*`` arrays."""
    region = search_region(box, spec)
    crop_into(check_frame(frame), region, context.crop[0])
    roi = to_crop(box, region)
    context.set_template(roi[None])
    return {
        "init_x_box": np.array([region.x1, region.y1, region.x2, region.y2]),
        "init_scale": np.array(region.scale),
        "init_roi": roi,
        "init_crop": _normalized(crop_exact(check_frame(frame), region, spec.crop_size), spec),
        "init_crop_fast": _normalized(context.crop[0], spec),
        **_seen(context),
    }


def frame_row(context: Context, frame: Array, box: Array, spec: ModelSpec, settings: TrackerSettings) -> Row:
    """One step from the last box ``box`` (x1, y1, x2, y2, float64), which may be any box at all."""
    region = search_region(box, spec)
    crop_into(check_frame(frame), region, context.crop[0])
    row: Row = {
        "x_box": np.array([region.x1, region.y1, region.x2, region.y2]),
        "scale": np.array(region.scale),
        "crop": _normalized(crop_exact(check_frame(frame), region, spec.crop_size), spec),
        "crop_fast": _normalized(context.crop[0], spec),
    }
    scores, crop_boxes = (array[0].copy() for array in context.search())
    frame_boxes = to_frame(crop_boxes, region)
    current = box.astype(np.float32)
    overlaps = overlap_with(frame_boxes, current, 1)
    index = select_proposals(scores, frame_boxes, current, settings)
    proposals = np.ascontiguousarray(crop_boxes[index])
    tied = (overlaps > settings.near_iou) & (np.abs(scores - scores[index[-1]]) <= TIE)
    fine_scores, fine_boxes = (array[0].copy() for array in context.relate(proposals[None]))
    row.update(
        cm_scores=scores,
        cm_boxes=np.concatenate([frame_boxes, crop_boxes], axis=1),
        near_count=np.array((overlaps > settings.near_iou).sum()),
        near_iou=overlaps[index[-1]],
        near_iou_tied=overlaps[tied],
        num_prop=np.array(len(index)),
        prop_index=index,
        prop_image=frame_boxes[index],
        prop_crop=proposals,
        prop_score=scores[index],
        fm_scores=fine_scores,
        fm_boxes=fine_boxes,
        **_seen(context),
    )
    window = cosine_window(proposals, spec.crop_size)
    fused = fuse(scores[index], frame_boxes[index], fine_scores, to_frame(fine_boxes, region), window, settings)
    in_crop = fuse(scores[index], proposals, fine_scores, fine_boxes, window, settings)
    score = float(fused.scores[fused.chosen])
    updated = score >= settings.update_threshold
    moved = next_box(box, fused.boxes[fused.chosen], score, (frame.shape[0], frame.shape[1]), settings)
    row.update(
        win_scores=window,
        pred_scores=fused.scores,
        final_scores=fused.ranking,
        fused_image=fused.boxes,
        fused_crop=in_crop.boxes,
        chosen=np.array(fused.chosen),
        best_score=np.array(score),
        updated=np.array(updated),
        box_out=moved if updated else box,
    )
    return row


def _normalized(crop: Array, spec: ModelSpec) -> Array:
    """The crop as the network's first convolution sees it (a copy: the context's buffer is used again)."""
    return crop - np.array(spec.pixel_mean_bgr, np.float32)[:, None, None]


def _seen(context: Context) -> Row:
    return dict(getattr(context, "seen", {}))
