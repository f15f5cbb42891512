"""What int8 is made from: activations along real tracks, and what rounding each layer does to scores and boxes.

The reference model tracks through clips. Hooks sample the inputs and outputs of every layer that can be quantised;
some frames are kept whole, and on those the model is run again with one layer after the other rounded as int8 would
round it. A layer that moves the boxes too far stays float32.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spm_rt.errors import ExportError
from spm_rt.frame.geometry import iou
from spm_rt.results import Box
from spm_rt.settings import TrackerSettings
from spm_rt.trackers.single import Tracker

from .graphs.int8 import LAYERS, NEXT, OUTPUT_LEVELS, Floats, Grid, Quantization, best_grid, quantize_weight
from .model.backend import ReferenceBackend, ReferenceContext
from .model.network import SPMTracker

Clip = tuple[str, Callable[[], Iterable[NDArray[np.uint8]]], Box]
"""Name, a function that gives the frames, and the target in the first of them."""

ALL_LAYERS = (*LAYERS["search"], *LAYERS["relation"])
MOST_CLIPS = 16
FRAMES_PER_CLIP = 12
SAMPLES_PER_FRAME = 4000
KEPT_PER_CLIP = 3
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


Kept = tuple[ReferenceContext, Floats]
"""One frame as the two stages met it, and its proposals; the template's side is never rounded, since it runs in
float32."""


class _Recorder(ReferenceContext):
    """A context that keeps what it was given in some of its frames."""

    def __init__(self, backend: ReferenceBackend) -> None:
        super().__init__(backend)
        self.kept: list[Kept] = []
        self.keep_next = False

    def relate(self, proposals: Floats) -> tuple[Floats, Floats]:
        if self.keep_next:
            frame = copy.copy(self)
            frame.crop, frame.keep_next = self.crop.copy(), False
            self.kept.append((frame, proposals.copy()))
        return super().relate(proposals)


class _RecordingBackend(ReferenceBackend):
    def context(self) -> _Recorder:
        self.recorder = _Recorder(self)
        return self.recorder


def calibrate(
    model: SPMTracker, settings: TrackerSettings, clips: Sequence[Clip], step: Callable[[], None] = lambda: None
) -> Calibration:
    """A quantisation of the model for what its tracker meets on a few frames of each of these clips.

    ``step`` is called after each clip and each layer.

    Raises:
        ExportError: no clip has a second frame.
    """
    samples: dict[str, list[Floats]] = {}
    kept: list[Kept] = []
    count = 0
    for clip in clips:
        found, frames_used = _follow(model, settings, clip, samples)
        kept += found
        count += frames_used
        step()
    if not kept:
        raise ExportError("calibration: none of the clips has a second frame")
    kept = kept[:: max(1, len(kept) // MOST_KEPT)][:MOST_KEPT]
    grids = find_grids(samples)
    exact = [_outputs(*frame) for frame in kept]
    drifts = []
    for layer in ALL_LAYERS:
        with quantized(model, Quantization(frozenset({layer}), grids)):
            overlap, score = _drift(exact, [_outputs(*frame) for frame in kept])
        drifts.append(LayerDrift(layer, overlap, score, overlap >= LAYER_IOU and score <= LAYER_SCORE))
        step()
    chosen = frozenset(drift.layer for drift in drifts if drift.chosen)
    return Calibration(Quantization(chosen, grids), drifts, [name for name, _, _ in clips], count)


def find_grids(samples: dict[str, list[Floats]]) -> dict[str, Grid]:
    """A grid for every layer's input and output."""
    grids = {}
    for layer in ALL_LAYERS:
        grids[f"{layer}.input"] = best_grid(np.concatenate(samples[f"{layer}.input"]))
        grids[f"{layer}.output"] = best_grid(np.concatenate(samples[f"{layer}.output"]), OUTPUT_LEVELS)
    return {**grids, **{f"{layer}.output": grids[f"{after}.input"] for layer, after in NEXT.items()}}


def calibration_clips(folder: str | os.PathLike[str]) -> list[Clip]:
    """The clips of a folder in any layout that ``spm-bench accuracy`` reads, at most ``MOST_CLIPS``, evenly picked."""
    from spm_rt.media.datasets import find_sequences
    from spm_rt.terminal import say_left_out

    found = find_sequences(folder)
    say_left_out(found.left_out)
    picked = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, MOST_CLIPS).astype(int))]
    return [(one.name, one.frames, one.first_box) for one in picked]


def calibration_steps(clips: int) -> int:
    """How many times ``step`` is called by :func:`calibrate`."""
    return clips + len(ALL_LAYERS)


def _follow(
    model: SPMTracker, settings: TrackerSettings, clip: Clip, samples: dict[str, list[Floats]]
) -> tuple[list[Kept], int]:
    """Track through a clip's first frames: samples of every layer are added, and some frames' inputs returned."""
    name, frames, box = clip
    backend, index = _RecordingBackend(model), 0
    tracker = Tracker(backend, model.spec, dataclasses.replace(settings, mode="series-parallel"))
    with sampled(model, samples, np.random.default_rng(len(name))):
        for index, frame in enumerate(itertools.islice(frames(), FRAMES_PER_CLIP + 1)):
            if index == 0:
                tracker.init(frame, box)
                continue
            backend.recorder.keep_next = index % (FRAMES_PER_CLIP // KEPT_PER_CLIP) == 1
            tracker.update(frame)
    return backend.recorder.kept, index


def quantized_modules(model: SPMTracker) -> dict[str, nn.Conv2d | nn.Linear]:
    """The layers that can be quantised; of ``relate`` only the proposals' half of its inputs is."""
    fine = model.fine
    relation = {"relate_proposal": fine.relate, "linear1": fine.linear1, "linear2": fine.linear2}
    return {**{name: getattr(model.backbone, name) for name in LAYERS["search"]}, **relation}


@contextmanager
def sampled(model: SPMTracker, samples: dict[str, list[Floats]], rng: np.random.Generator) -> Iterator[None]:
    """While this lasts, every layer adds random values and the extremes of its inputs and outputs to ``samples``."""

    def take(name: str, values: Tensor) -> None:
        flat = values.detach().flatten().numpy()
        part = rng.choice(flat, min(SAMPLES_PER_FRAME, len(flat)))
        samples.setdefault(name, []).append(np.append(part, [flat.min(), flat.max()]).astype(np.float32))

    def look(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        part = _quantized_part(name, inputs[0])
        if name == "relate_proposal":
            assert isinstance(module.weight, Tensor)
            output = nn.functional.conv2d(part, _quantized_part(name, module.weight), padding=1)
        else:
            output = output.relu()
        take(f"{name}.input", part)
        take(f"{name}.output", output)

    with ExitStack() as stack:
        for name, module in quantized_modules(model).items():
            stack.callback(module.register_forward_hook(functools.partial(look, name)).remove)
        yield


@contextmanager
def quantized(model: SPMTracker, plan: Quantization) -> Iterator[None]:
    """While this lasts, the plan's layers have their weights and inputs rounded as int8 would round them."""

    def change(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        values = inputs[0].clone()
        part = _quantized_part(name, values)
        part.copy_(torch.from_numpy(plan.grids[f"{name}.input"].rounded(part.numpy())))
        return (values,)

    with ExitStack() as stack:
        for name, module in quantized_modules(model).items():
            if name not in plan.layers:
                continue
            stack.callback(module.register_forward_pre_hook(functools.partial(change, name)).remove)
            stack.callback(setattr, module.weight, "data", module.weight.data)
            weight = module.weight.data.clone()
            part = _quantized_part(name, weight)
            codes, scales = quantize_weight(np.ascontiguousarray(part.numpy()))
            part.copy_(torch.from_numpy(codes * scales.reshape(-1, *[1] * (codes.ndim - 1))))
            module.weight.data = weight
        yield


def _quantized_part(name: str, values: Tensor) -> Tensor:
    """What of a layer's inputs ``[B, C, ...]`` or weight ``[O, C, ...]`` is quantised (:func:`quantized_modules`)."""
    return values[:, values.shape[1] // 2 :] if name == "relate_proposal" else values


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
