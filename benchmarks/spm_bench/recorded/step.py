"""One step of the tracker with every number kept, under the names of recorded data.

The steps are the runtime's own functions on any backend's context. A context with an attribute ``inner_values``
(:mod:`spm_bench.recorded.inner_values`) adds those. docs/reference/benchmarks.md has the names.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_rt.backends.protocol import Context
from spm_rt.frame.crop import check_frame, crop_exact, crop_into
from spm_rt.frame.fusion import cosine_window, fuse, next_box
from spm_rt.frame.geometry import overlap_with, search_region, to_crop, to_frame
from spm_rt.frame.proposals import select_proposals
from spm_rt.settings import ModelSpec, TrackerSettings

from .reading import Array, Arrays

TIE = 1e-6
"""Scores this close are the same but for rounding."""


def template_step(context: Context, frame: Array, box: Array, spec: ModelSpec) -> Arrays:
    """Take the template at ``box`` (x1, y1, x2, y2 in the frame): ``x_box``, ``scale``, ``roi``, ``crop_fast``."""
    region = search_region(box, spec)
    crop_into(check_frame(frame), region, context.crop[0])
    roi = to_crop(box, region)
    context.set_template(roi[None])
    return {
        "x_box": np.array([region.x1, region.y1, region.x2, region.y2]),
        "scale": np.array(region.scale),
        "roi": roi,
        "crop_fast": _normalized(context.crop[0], spec),
        **_inner_values(context),
    }


def tracking_step(context: Context, frame: Array, box: Array, spec: ModelSpec, settings: TrackerSettings) -> Arrays:
    """One step from the last box ``box`` (x1, y1, x2, y2, float64), which may be any box at all."""
    region = search_region(box, spec)
    crop_into(check_frame(frame), region, context.crop[0])
    values: Arrays = {
        "x_box": np.array([region.x1, region.y1, region.x2, region.y2]),
        "scale": np.array(region.scale),
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
    values.update(
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
        **_inner_values(context),
    )
    window = cosine_window(proposals, spec.crop_size)
    fused = fuse(scores[index], frame_boxes[index], fine_scores, to_frame(fine_boxes, region), window, settings)
    in_crop = fuse(scores[index], proposals, fine_scores, fine_boxes, window, settings)
    score = float(fused.scores[fused.chosen])
    updated = score >= settings.update_threshold
    moved = next_box(box, fused.boxes[fused.chosen], score, (frame.shape[0], frame.shape[1]), settings)
    values.update(
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
    return values


def exact_crop(frame: Array, box: Array, spec: ModelSpec) -> NDArray[np.float32]:
    """The normalised crop around ``box`` by the slow form, which follows the release's arithmetic step by step."""
    return _normalized(crop_exact(check_frame(frame), search_region(box, spec), spec.crop_size), spec)


def _normalized(crop: Array, spec: ModelSpec) -> Array:
    """The crop as the network's first convolution sees it (a copy: the context's buffer is used again)."""
    return crop - np.array(spec.pixel_mean_bgr, np.float32)[:, None, None]


def _inner_values(context: Context) -> Arrays:
    return dict(getattr(context, "inner_values", {}))
