"""What int8 is made from: activations along real tracks, and what rounding each layer does to scores and boxes.

The reference tracks through clips (:mod:`~spm_export.calibration.following`). From samples of every layer's input come
grids, and factors that balance its channels (:mod:`~spm_export.calibration.balancing`); from how its inputs go together
come weights that make up for each other's rounding (:mod:`~spm_export.calibration.compensation`). Some frames are kept
whole, and on those the model is run again with one layer after the other rounded as int8 would round it
(:mod:`~spm_export.calibration.rounding`). A layer that moves the boxes too far stays float32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spm_rt.errors import ExportError
from spm_rt.frame.geometry import iou
from spm_rt.settings import TrackerSettings

from ..graphs.int8 import Floats, Quantization, least_scales
from ..graphs.quantizable import Quantizable, quantizable
from ..model.backend import ReferenceContext
from ..model.network import SPMTracker
from .balancing import make_plan
from .compensation import compensated
from .following import Clip, Kept, Seen, follow
from .following import calibration_clips as calibration_clips
from .rounding import quantized, quantized_modules, quantized_part

MOST_KEPT = 18
"""Frames that are run again for each layer, over all clips."""

LAYER_IOU = 0.985
LAYER_SCORE = 0.02
"""A layer stays float32 if, rounded alone, it moves the best boxes below this mean overlap or their scores by more."""


@dataclasses.dataclass(frozen=True)
class LayerDrift:
    """What rounding one layer alone does to what the tracker sees: mean over the kept frames' best boxes."""

    layer: str
    overlap: float
    score: float
    chosen: bool


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A quantisation, and the figures that it was chosen by."""

    plan: Quantization
    drifts: list[LayerDrift]
    clips: list[str]
    frames: int

    def to_json(self) -> dict[str, Any]:
        return {"clips": self.clips, "frames": self.frames, "layers": [dataclasses.asdict(d) for d in self.drifts]}

    def with_fewer_layers(self) -> Calibration:
        """The same with one layer more in float32: of those in int8, the one that moves the boxes most by itself."""
        worst = min((drift for drift in self.drifts if drift.chosen), key=lambda drift: drift.overlap)
        drifts = [dataclasses.replace(drift, chosen=drift.chosen and drift is not worst) for drift in self.drifts]
        plan = dataclasses.replace(self.plan, layers=self.plan.layers - {worst.layer})
        return dataclasses.replace(self, plan=plan, drifts=drifts)


def calibrate(
    model: SPMTracker, settings: TrackerSettings, clips: Sequence[Clip], step: Callable[[], None] = lambda: None
) -> Calibration:
    """A quantisation of the model for what its tracker meets on a few frames of each of these clips.

    ``step`` is called after each clip and each layer.

    Raises:
        ExportError: no clip has a second frame.
    """
    seen = Seen({}, {})
    kept: list[Kept] = []
    count = 0
    for clip in clips:
        found, frames_used = follow(model, settings, clip, seen)
        kept += found
        count += frames_used
        step()
    if not kept:
        raise ExportError("calibration: none of the clips has a second frame")
    kept = kept[:: max(1, len(kept) // MOST_KEPT)][:MOST_KEPT]
    known = quantizable(model.spec)
    plan = _plan(model, seen, known)
    exact = [_outputs(*frame) for frame in kept]
    drifts = []
    for layer in known.all_layers:
        with quantized(model, dataclasses.replace(plan, layers=frozenset({layer}))):
            overlap, score = _drift(exact, [_outputs(*frame) for frame in kept])
        drifts.append(LayerDrift(layer, overlap, score, overlap >= LAYER_IOU and score <= LAYER_SCORE))
        step()
    chosen = frozenset(drift.layer for drift in drifts if drift.chosen)
    return Calibration(dataclasses.replace(plan, layers=chosen), drifts, [name for name, _, _ in clips], count)


def _plan(model: SPMTracker, seen: Seen, known: Quantizable) -> Quantization:
    """Grids, factors, and the weights that are rounded with an eye on what they meet."""
    modules = quantized_modules(model)
    weights = {name: quantized_part(name, module.weight.data).numpy() for name, module in modules.items()}
    plan, rounded = make_plan(seen.samples, weights, known), {}
    for name, moments in seen.moments.items():
        grid, bias = plan.grids[f"{name}.input"], modules[name].bias
        assert bias is not None
        least = least_scales(bias.data.numpy(), grid)
        rounded[name] = compensated(weights[name], moments, grid.scale, known.weight_limit, least)
    return dataclasses.replace(plan, rounded=rounded)


def calibration_steps(model: SPMTracker, clips: int) -> int:
    """How many times ``step`` is called by :func:`calibrate`."""
    return clips + len(quantizable(model.spec).all_layers)


def _outputs(context: ReferenceContext, proposals: Floats) -> list[Floats]:
    """Scores and boxes of the coarse stage, then of the fine stage, on one kept frame."""
    return [value[0] for value in (*context.search(), *context.relate(proposals))]


def _drift(exact: Sequence[Sequence[Floats]], found: Sequence[Sequence[Floats]]) -> tuple[float, float]:
    """Mean overlap and mean score difference of the boxes that matter: the fine stage's, and as many coarse ones."""
    overlaps, differences = [], []
    for (scores, boxes, fine_scores, fine_boxes), other in zip(exact, found, strict=True):
        best = np.argsort(-scores)[: len(fine_scores)]
        overlaps += [iou(boxes[best], other[1][best]), iou(fine_boxes, other[3])]
        differences += [np.abs(scores[best] - other[0][best]), np.abs(fine_scores - other[2])]
    return float(np.mean(np.concatenate(overlaps))), float(np.mean(np.concatenate(differences)))
