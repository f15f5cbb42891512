"""The verification of a bundle: every graph, the self-test and a clip, against the reference model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_rt.bundle import Bundle
from spm_rt.precision import PRECISIONS
from spm_rt.results import Box
from spm_rt.trackers.single import Tracker

from ..model.network import SPMTracker
from .bounds import TRACK_BOUNDS
from .compare import TensorCheck, TrackCheck, check_tensors, check_tracks, sample_inputs
from .runners import RUNNERS, RunnerBackend
from .self_test import check_self_test


@dataclasses.dataclass(frozen=True)
class Verification:
    """What the exporter measured on a bundle before it gave the folder its name.

    Attributes:
        tensors: every output of every graph.
        track: the clip, followed with the graphs for CPUs if the bundle has any, else with the portable ones.
        runner: what computed them, in words.
        portable_track: the same with the portable graphs, in int8 bundles, whose graphs for TensorRT round differently.
    """

    tensors: list[TensorCheck]
    track: TrackCheck
    runner: str = RUNNERS["float32"]
    portable_track: TrackCheck | None = None

    @property
    def tracks(self) -> dict[str, TrackCheck]:
        return {"track": self.track, **({"portable_track": self.portable_track} if self.portable_track else {})}

    def failures(self) -> list[str]:
        """What is not near enough, a line each."""
        lines = [
            f"  {c.variant} {c.stage}.{c.tensor}: worst {c.kind} error {c.worst:.3g}, allowed {c.tolerance:.3g}"
            for c in self.tensors
            if not c.passed
        ]
        for name, track in self.tracks.items():
            if track.passed:
                continue
            mean, close, share = TRACK_BOUNDS[track.precision]
            which = ", portable graphs" if name == "portable_track" else ""
            lines.append(
                f"  boxes on {track.clip}{which}: mean IoU {track.mean_iou:.5f} ({mean} allowed), "
                f"lowest {track.min_iou:.5f}, {track.close_share:.1%} of frames over {close} ({share:.0%} allowed)"
            )
        return lines

    @property
    def only_drifts(self) -> bool:
        """Whether it fails by what rounding may do: boxes on the clip, and outputs off by less than twice the bound."""
        return not self.passed and all(check.worst <= 2 * check.tolerance for check in self.tensors)

    @property
    def passed(self) -> bool:
        return all(track.passed for track in self.tracks.values()) and all(check.passed for check in self.tensors)

    def to_json(self) -> dict[str, Any]:
        tensors = [{**dataclasses.asdict(check), "passed": check.passed} for check in self.tensors]
        tracks = {name: {**dataclasses.asdict(track), "passed": track.passed} for name, track in self.tracks.items()}
        return {"passed": self.passed, "runner": self.runner, "tensors": tensors, **tracks}


def verify(
    model: SPMTracker,
    bundle: Bundle,
    clip: Sequence[NDArray[np.uint8]],
    box: Box,
    clip_name: str,
    step: Callable[[str], None],
) -> Verification:
    """What a bundle computes, beside the reference model: its graphs one by one, its self-test, and a clip.

    ``step`` is called with what has just been done.
    """
    inputs = list(sample_inputs(model, clip, box))
    tensors: list[TensorCheck] = []
    for targets in bundle.targets:
        tensors += check_tensors(model, bundle, inputs, targets, step=lambda: step("verifying"))

    def follow(tracker: Tracker) -> TrackCheck:
        return check_tracks(model, tracker, clip, box, clip_name, bundle.precision, lambda: step("tracking"))

    if PRECISIONS[bundle.precision].for_cpus:
        tracker = Tracker.load(bundle, "onnxruntime")
    else:
        tracker = Tracker(RunnerBackend(bundle), bundle.spec, bundle.settings)
    if bundle.self_test:
        tensors += check_self_test(bundle.self_test, tracker.backend)
    track = follow(tracker)
    other = None
    if bundle.precision == "int8":
        other = follow(Tracker(RunnerBackend(bundle), bundle.spec, bundle.settings))
    return Verification(tensors, track, RUNNERS[bundle.precision], other)
