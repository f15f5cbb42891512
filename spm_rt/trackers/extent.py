"""The first frame looked at once more: what box does the network see where one was given?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..backends.protocol import Context
from ..frame.fusion import AS_DETECTED, Extent
from ..frame.steps import Proposals, TargetView, measure, propose
from ..settings import ModelSpec, TrackerSettings

Floats = NDArray[np.float32]


def relate(context: Context, proposals: Proposals, settings: TrackerSettings) -> tuple[Floats, Floats] | None:
    """The fine stage's scores ``[K]`` and boxes ``[K, 4]`` of one target; None in ``coarse`` mode."""
    if settings.mode == "coarse":
        return None
    scores, boxes = context.relate(proposals.crop_boxes[None])
    return scores[0], boxes[0]


def measure_extent(context: Context, view: TargetView, spec: ModelSpec, settings: TrackerSettings) -> Extent:
    """The extent of a target.

    Args:
        context: for one target, with the template and the crop that it was made of.
        view: where the given box is.
        spec, settings: of the tracker.
    """
    if not settings.extent_correction:
        return AS_DETECTED
    scores, boxes = context.search()
    proposals = propose(scores[0], boxes[0], view, settings)
    return measure(proposals, relate(context, proposals, settings), view, spec, settings)
