"""How a target stands, by the scores of its last frames: when it counts as lost."""

from __future__ import annotations

from ...results import LOST, TRACKED, UNSURE, TrackResult
from ...settings import RecoverySettings


def agree(result: TrackResult, least: float) -> bool:
    """Whether both stages say so; a score that is not a number says nothing."""
    return result.coarse_score >= least and result.fine_score >= least


class Standing:
    """Goes to *unsure* by one low score, and from there back to *tracked* only where both stages agree.

    Attributes:
        state: ``tracked``, ``unsure`` or ``lost``.
    """

    def __init__(self, settings: RecoverySettings) -> None:
        self._settings = settings
        self.start_over()

    def start_over(self) -> None:
        """Tracked, whatever was before."""
        self.state, self._unsure = TRACKED, 0

    def see(self, result: TrackResult) -> str:
        """The state after one more frame of a target that is not lost yet."""
        if agree(result, self._settings.sure):
            self.start_over()
        elif not result.found or self.state == UNSURE:
            self._unsure += 1
            self.state = LOST if self._unsure >= self._settings.patience else UNSURE
        return self.state
