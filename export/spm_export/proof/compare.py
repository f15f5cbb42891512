"""Proof that exported graphs compute what the reference computes: tensor by tensor, then box by box."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from spm_rt.bundle import FORMS, Bundle
from spm_rt.bundle.forms import graph_precision
from spm_rt.frame.crop import crop_exact
from spm_rt.frame.geometry import iou, search_region, to_crop, xywh_to_xyxy
from spm_rt.results import Box
from spm_rt.trackers.compare import center_distances, follow_both
from spm_rt.trackers.single import Tracker

from ..model.backend import reference_tracker
from ..model.network import SPMTracker
from .bounds import TRACK_BOUNDS, tolerance
from .runners import runners

Arrays = dict[str, NDArray[np.float32]]

SAMPLES = 6
"""Pairs of crops that :func:`sample_inputs` gives."""


@dataclasses.dataclass(frozen=True)
class TensorCheck:
    """One output of one graph against the reference, over all inputs tried."""

    variant: str
    stage: str
    tensor: str
    kind: str
    worst: float
    mean: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.worst <= self.tolerance


@dataclasses.dataclass(frozen=True)
class TrackCheck:
    """The exported tracker against the reference over a clip.

    The first figures are frame by frame, both from the reference's last box; ``free_iou`` is the mean overlap when each
    goes its own way from the first frame on. The free run is only reported: with weights that do not track,
    one near tie sends two correct trackers to different places.
    """

    clip: str
    frames: int
    mean_iou: float
    min_iou: float
    close_share: float
    mean_distance: float
    max_distance: float
    free_iou: float
    precision: str = "float32"

    @property
    def passed(self) -> bool:
        mean, _, share = TRACK_BOUNDS[self.precision]
        return self.mean_iou >= mean and self.close_share >= share


def sample_inputs(model: SPMTracker, clip: Sequence[NDArray[np.uint8]], box: Box) -> Iterator[tuple[str, Arrays]]:
    """Pairs of template and search crop, with a target box and proposals: from noise, and from a clip's frames.

    The noise pair's proposals include ones that cross the crop's edge and ones wholly outside.
    """
    spec, rng = model.spec, np.random.default_rng(1)
    size = spec.crop_size
    for seed in range(2):
        noise = rng.uniform(0, 255, (2, 1, 3, size, size)).astype(np.float32)
        corner = rng.uniform(-60, size, (1, 9, 2))
        proposals = np.concatenate([corner, corner + rng.uniform(5, 140, (1, 9, 2))], axis=2).astype(np.float32)
        target = np.array([[90.3, 101.7, 171.9, 168.2]], np.float32)
        yield f"noise {seed}", {"template": noise[0], "search": noise[1], "box": target, "proposals": proposals}
    start = xywh_to_xyxy(box)
    region = search_region(start, spec)
    template = crop_exact(clip[0], region, size)[None]
    target = to_crop(start, region)[None]
    offset = rng.uniform(-25, 25, (1, 9, 4))
    proposals = (target[:, None] + offset).astype(np.float32)
    for index in np.linspace(0, len(clip) - 1, SAMPLES - 2).astype(int):
        search = crop_exact(clip[index], region, size)[None]
        yield f"frame {index}", {"template": template, "search": search, "box": target, "proposals": proposals}


@torch.inference_mode()
def reference_outputs(model: SPMTracker, given: Arrays) -> dict[str, Arrays]:
    """What each graph should give, from the reference model alone."""
    box, proposals = torch.from_numpy(given["box"]), torch.from_numpy(given["proposals"])
    features = model.features(torch.from_numpy(given["template"]))
    embedding = model.template_embedding(features)
    kernel, bias = model.coarse.composed(embedding)
    target = model.fine.roi_features(features, box[:, None])[:, 0]
    half = model.fine.relate.weight[:, : target.shape[1]]
    target_half = torch.nn.functional.conv2d(target, half, model.fine.relate.bias, padding=1)
    found = model.features(torch.from_numpy(given["search"]))
    scores, boxes = model.coarse_boxes(model.coarse(model.coarse.kernels(embedding), model.search_embedding(found)))
    fine = model.fine(target, model.fine.roi_features(found, proposals))
    fine_scores, fine_boxes = model.fine_boxes(fine, proposals)
    tensors = {
        "template": {"head_kernel": kernel, "head_bias": bias, "target_half": target_half},
        "search": {"scores": scores, "boxes": boxes, "shallow": found.shallow, "deep": found.deep},
        "relation": {"scores": fine_scores, "boxes": fine_boxes},
    }
    return {stage: {name: value.numpy() for name, value in outputs.items()} for stage, outputs in tensors.items()}


def check_tensors(
    model: SPMTracker,
    bundle: Bundle,
    inputs: Iterable[tuple[str, Arrays]],
    targets: int,
    variants: Sequence[str] = (),
    step: Callable[[], None] = lambda: None,
) -> list[TensorCheck]:
    """Every output of every graph of the given variants (by default all) against the reference.

    ``step`` is called after each input.

    Each graph is given the reference's inputs, so that one graph's error is not the next one's. With several targets
    the inputs are repeated with a shift per target, so that a mix-up of targets shows.
    """
    sessions = runners(bundle, targets, variants)
    errors: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for label, given in inputs:
        shifted = [_shifted(given, k) for k in range(targets)]
        expected = [reference_outputs(model, one) for one in shifted]
        for (variant, stage), session in sessions.items():
            precision = graph_precision(stage, variant, bundle.precision)
            if precision == "int8" and label.startswith("noise"):
                continue  # nothing like it was met in calibration
            names = list(expected[0][stage])
            feeds = {name: _arranged(name, value, variant) for name, value in _feeds(stage, shifted, expected).items()}
            for name, found in zip(names, session.run(names, feeds), strict=True):
                wanted = _arranged(name, np.concatenate([one[stage][name] for one in expected]), variant)
                kind, _ = tolerance(stage, name, precision)
                errors.setdefault((variant, stage, name), []).append(_error(found, wanted, kind))
        step()
    checks = []
    for (variant, stage, name), found_errors in errors.items():
        label = variant if targets == 1 else f"{variant}, {targets} targets"
        kind, allowed = tolerance(stage, name, graph_precision(stage, variant, bundle.precision))
        worst, mean = zip(*found_errors, strict=True)
        checks.append(TensorCheck(label, stage, name, kind, max(worst), float(np.mean(mean)), allowed))
    return checks


def _error(found: NDArray[np.float32], wanted: NDArray[np.float32], kind: str) -> tuple[float, float]:
    """Worst and mean error of a tensor; infinite where it is not finite, so that a NaN does not vanish in a maximum."""
    error = np.abs(found.astype(np.float64) - wanted)
    if not np.isfinite(error).all():
        return np.inf, np.inf
    scale = max(float(np.abs(wanted).max()), 1e-12) if kind == "relative" else 1.0
    return float(error.max()) / scale, float(error.mean()) / scale


def check_tracks(
    model: SPMTracker,
    exported: Tracker,
    clip: Sequence[NDArray[np.uint8]],
    box: Box,
    name: str,
    precision: str = "float32",
    step: Callable[[], None] = lambda: None,
) -> TrackCheck:
    """The exported tracker against the reference: from the same box in every frame, and each on its own way."""
    tracks = follow_both(reference_tracker(model, exported.settings), exported, clip, box, step)
    overlaps, apart = iou(tracks.first, tracks.forced), center_distances(tracks.first, tracks.forced)
    return TrackCheck(
        name,
        len(clip),
        float(overlaps.mean()),
        float(overlaps.min()),
        float((overlaps > TRACK_BOUNDS[precision][1]).mean()),
        float(apart.mean()),
        float(apart.max()),
        float(iou(tracks.first, tracks.free).mean()),
        precision,
    )


def _shifted(given: Arrays, by: int) -> Arrays:
    """The same input rolled by some pixels, as another target's."""
    moved = {name: np.roll(array, 7 * by, axis=3) if array.ndim == 4 else array for name, array in given.items()}
    return {**moved, "proposals": given["proposals"] + np.float32(3 * by)}


def _feeds(stage: str, given: list[Arrays], expected: list[dict[str, Arrays]]) -> Arrays:
    """A graph's inputs from the reference's values, one target after the other."""

    def many(source: list[Arrays], name: str) -> NDArray[np.float32]:
        return np.concatenate([one[name] for one in source])

    template, search = ([one[s] for one in expected] for s in ("template", "search"))
    if stage == "template":
        return {"crop": many(given, "template"), "box": many(given, "box")}
    if stage == "search":
        return {"crop": many(given, "search"), **{n: many(template, n) for n in ("head_kernel", "head_bias")}}
    return {
        **{n: many(search, n) for n in ("shallow", "deep")},
        "target_half": many(template, "target_half"),
        "proposals": many(given, "proposals"),
    }


def _arranged(name: str, array: NDArray[np.float32], variant: str) -> NDArray[np.float32]:
    """An array in the layout of a form: the graphs for CPUs exchange feature maps channels last."""
    if name in ("shallow", "deep") and variant in FORMS and FORMS[variant].for_cpus:
        return np.ascontiguousarray(array.reshape(*array.shape[:2], -1).transpose(0, 2, 1))
    return array
