"""Watches of targets that say what a test wants, and remember what they were shown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_rt.frame.switches import SwitchWatch


class Onlooker(SwitchWatch):
    """Remembers the rivals that it was shown last."""

    def __init__(self) -> None:
        super().__init__(np.zeros(4))

    def see(self, box: NDArray[np.float64], rivals: NDArray[np.floating], memory: int) -> bool:
        self.rivals = np.array(rivals)
        return False


def every_other(watch: SwitchWatch, box: NDArray[np.float64], rivals: NDArray[np.floating], memory: int) -> bool:
    """Instead of ``SwitchWatch.see``: every other frame of a target shows a switch, the second one first."""
    watch._frames += 1
    return watch._frames % 2 == 0
