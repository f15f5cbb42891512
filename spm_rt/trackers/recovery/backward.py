"""The forward-backward check: does what was found lead back to the target as it was seen first?"""

from __future__ import annotations

from ...frame.crop import Frame
from ...frame.geometry import iou
from ...settings import TrackerSettings
from .looking import Box, Looker, View, box_of


def leads_back(
    looker: Looker,
    frame: Frame,
    box: Box,
    first: View,
    settings: TrackerSettings,
    overlap: float,
    score: float,
) -> bool:
    """Whether a template made of a box of this frame finds the target in the view that it was started with.

    Not in a later view: that may be of something else, if the tracker was wrong before.

    Args:
        looker: runs the network.
        frame, box: what was found, x1, y1, x2, y2.
        first: that view.
        settings: of the tracker.
        overlap: with the box in it, from which on it is the target's.
        score: least score of that.
    """
    result = looker.look_at(first, looker.template(looker.view(frame, box)), settings)
    return result.score >= score and float(iou(box_of(result), first.box)) >= overlap
