"""Results as ``supervision.Detections``: from there go its annotators, zones, and writers of CSV and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...results import TrackResult


def to_detections(results: Mapping[int, TrackResult], *, class_id: int = 0, lost: bool = False) -> Any:
    """The targets of one frame.

    Args:
        results: by number, as :meth:`spm_rt.MultiTracker.update` gives them; ``{0: result}`` for one target.
        class_id: of all of them.
        lost: with those that were not found; their ``data["found"]`` is false.

    Returns:
        ``supervision.Detections``: ``xyxy`` float32 in pixels, the score as ``confidence``, the number as
        ``tracker_id``; ``data`` has ``found`` and ``state``.
    """
    import supervision

    kept = {id: result for id, result in results.items() if lost or result.found}
    boxes = np.array([result.box for result in kept.values()], np.float64).reshape(-1, 4)
    return supervision.Detections(
        xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32),
        confidence=np.array([result.score for result in kept.values()], np.float32),
        class_id=np.full(len(kept), class_id, np.int64),
        tracker_id=np.array(list(kept), np.int64),
        data={
            "found": np.array([result.found for result in kept.values()], bool),
            "state": np.array([result.state for result in kept.values()], str),
        },
    )
