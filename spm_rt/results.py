"""What a tracker returns."""

from __future__ import annotations

import dataclasses
import math

TRACKED, UNSURE, LOST, FOUND_AGAIN = STATES = ("tracked", "unsure", "lost", "found again")
"""How a target stands in a frame; see :class:`TrackResult`."""
Box = tuple[float, float, float, float]
"""``x, y, width, height`` in pixels of a frame; x and y are the upper left corner, the first pixel is 0."""
Corners = tuple[float, float, float, float]
"""``x1, y1, x2, y2`` in pixels of a frame, float64, as trackers keep a box: ``x2`` is ``x + width``, rounded."""


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
        found: whether the target is thought to be in ``box``: ``score >= found_threshold``, and not ``switched``
            (docs/notes/lost.md).
        coarse_score: the coarse stage's share of it.
        fine_score: the fine stage's share of it; NaN in ``coarse`` mode.
        candidates: all proposals of the frame, best ranking first, if they were asked for.
        state: ``tracked``, ``unsure`` or ``lost``: found; not found, but the score reaches ``update_threshold``; or
            neither. A tracker with a way back (docs/guide/recovery.md) goes by the course of the scores, and has a
            fourth state, ``found again``, for the frame in which the box moves to where the target was confirmed.
        switched: whether the box is thought to have gone over to a look-alike. Never, where ``rival_memory`` is 0.
        rival_score: the best fused score of a proposal elsewhere in the search region, one that overlaps the chosen one
            by less than 0.3; 0 where there is none. NaN in results that were read from a file.
    """

    box: Box
    score: float
    found: bool
    coarse_score: float
    fine_score: float
    candidates: tuple[Candidate, ...] | None = None
    state: str = dataclasses.field(kw_only=True)
    switched: bool = dataclasses.field(default=False, kw_only=True)
    rival_score: float = dataclasses.field(default=math.nan, kw_only=True)
