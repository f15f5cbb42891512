"""One measured run: the clip, the machine and its steadiness, who takes turns on it, and whether it may be quoted."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..loading import load_clip
from .gemm import Steadiness
from .machine import describe_machine
from .neighbours import neighbours
from .turns import Contestant, TimedTracker, interleave, summarize
from .verdict import verdict_of


class Measurement:
    """What the contestants of a run share.

    Args:
        options: with ``clip``, ``box``, ``frames``, ``block``, ``pause``, ``pace``, ``neighbours`` and ``quiet``.
        threads: per inference call, if there is one number for all.
    """

    def __init__(self, options: argparse.Namespace, threads: int | None = None) -> None:
        self.options = options
        self.frames, self.box, self.clip = load_clip(options.clip, options.box)
        self.machine = describe_machine(threads)
        self.steadiness = Steadiness()

    def start(self, name: str, load: Callable[[], TimedTracker]) -> Contestant:
        """A contestant on this run's clip, loaded and warmed up."""
        return Contestant.start(name, load, self.frames, self.box)

    def take_turns(
        self, contestants: Sequence[Contestant], between: Callable[[int], None] = lambda done: None
    ) -> dict[str, dict[str, Any]]:
        """Figures by contestant; ``between`` is called before each round, with the number of frames done."""

        def before_round(done: int) -> None:
            self.steadiness.visit()
            between(done)

        options = self.options
        how: dict[str, Any] = {"pace": options.pace, "quiet": options.quiet, "between": before_round}
        with neighbours(options.neighbours):
            interleave(contestants, options.frames, options.block, options.pause, **how)
        return summarize(contestants)

    def report(
        self,
        results: Mapping[str, Mapping[str, Any]],
        precisions: Sequence[str] | None = None,
        doubts: Sequence[str] = (),
    ) -> dict[str, Any]:
        """What every report of a measurement has; ``doubts`` are further reasons against quoting it."""
        spread = self.steadiness.spread()
        reasons = [*verdict_of(results, spread, precisions), *doubts]
        return {
            "clip": self.clip,
            "frame_size": [self.frames[0].shape[1], self.frames[0].shape[0]],
            "block": self.options.block,
            "pace": self.options.pace,
            "neighbours": self.options.neighbours,
            "machine": self.machine,
            "noise": {"calibration_spread": spread, "calibration_ms": [t * 1e3 for t in self.steadiness.times]},
            "verdict": {"valid": not reasons, "reasons": reasons},
        }
