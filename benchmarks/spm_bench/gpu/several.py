"""The check's part about several targets: the same as single trackers, and target-frames per second by their number."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spm_export.cli import DEMO_BOX
from spm_rt import Bundle, MultiTracker, Tracker
from spm_rt.resident import ResidentMultiTracker
from spm_rt.resident.loading import open_networks
from spm_rt.resident.multi import BATCH_SIZES
from spm_rt.results import Box

from .agreement import several_parity
from .parts import BOX, SIZE, moving_frames, on_the_gpu, update_times

Report = dict[str, Any]
COMPARED: tuple[Box, ...] = (DEMO_BOX, (0.0, 0.0, 60.0, 80.0), (420.0, 120.0, 70.0, 50.0))
"""Targets in the shipped clip that are compared with single trackers: in a batch of four, so that one slot is empty."""
LEAST_FRAMES = 20
"""So many are timed at least."""
GOAL = 10_000
"""Target-frames per second that 16 targets are to reach on a card of the H200's class."""


def target_boxes(count: int) -> list[tuple[float, float, float, float]]:
    """The square that wanders, one in the frame's corner, and others all over the frame."""
    rng = np.random.default_rng(5)
    boxes = [BOX, (0.0, 0.0, 80.0, 80.0)]
    while len(boxes) < count:
        side = float(rng.uniform(60, 120))
        boxes.append((float(rng.uniform(0, SIZE[1] - side)), float(rng.uniform(0, SIZE[0] - side)), side, side))
    return boxes[:count]


def measure(
    multi: Any,
    single: Callable[[], Any],
    frames: int,
    targets: Sequence[int],
    precision: str,
    *,
    on_device: bool = False,
) -> Report:
    """Parity and the curve.

    ``multi`` has no targets yet, ``single`` makes a tracker for one on the same networks; ``frames`` are per number of
    ``targets``, which ascend. ``precision``: what both compute in. ``on_device``: also for frames on the GPU.
    """
    compared = several_parity(multi, single, COMPARED, precision)
    report: Report = {
        "beside_single_trackers": compared["targets"],
        "checks": {f"{what} of single trackers": right for what, right in compared["checks"].items()},
        "host_frames": curve(multi, moving_frames(40), max(frames // 3, LEAST_FRAMES), targets),
    }
    if on_device:
        report["gpu_frames"] = curve(multi, on_the_gpu(moving_frames(40)), frames, targets)
    rows = report["gpu_frames" if on_device else "host_frames"]
    report["goal"] = {"16 targets": GOAL, "reached": rows.get("16", {}).get("target_frames_per_second", 0) > GOAL}
    return report


def curve(multi: Any, pictures: Sequence[Any], frames: int, targets: Sequence[int]) -> Report:
    """By number of targets: milliseconds per frame (p50, p95), and target-frames per second of the whole run."""
    rows: Report = {}
    for box in target_boxes(max(targets)):
        multi.add(pictures[0], box)
        if len(multi) not in targets:
            continue
        times = update_times(multi, pictures, frames)
        median, high = (1e3 * float(np.percentile(times, p)) for p in (50, 95))
        rate = len(multi) * frames / sum(times)
        rows[str(len(multi))] = {"p50_ms": median, "p95_ms": high, "target_frames_per_second": rate}
    empty(multi)
    return rows


def empty(multi: Any) -> None:
    for id in multi.ids:
        multi.remove(id)


def resident(bundle: Bundle, frames: int, backend: str, precision: str | None = None) -> Report:
    """The resident tracker for several targets; the frame of each batch size must have become a CUDA graph."""
    from spm_rt.resident import ResidentTracker

    _, made = open_networks(bundle, backend, "cuda", precision)
    sizes = BATCH_SIZES if backend == "pytorch" else bundle.targets
    multi = ResidentMultiTracker(made, sizes, bundle.spec, bundle.settings)
    on_device = importlib.util.find_spec("torch") is not None  # which puts them there
    report = measure(
        multi,
        lambda: ResidentTracker(made(1), bundle.spec, bundle.settings),
        frames,
        BATCH_SIZES,
        precision or bundle.precision,
        on_device=on_device,
    )
    report["checks"]["captured"] = multi.graphs
    return {"buckets": list(sizes), **report}


def pytorch(bundle: Bundle, frames: int, precision: str) -> Report:
    """MultiTracker on PyTorch, which takes any number of targets."""
    from spm_rt.backends.pytorch.backend import PyTorchBackend

    whole = PyTorchBackend(bundle, device="cuda", precision=precision)
    multi = MultiTracker(functools.cache(whole.sized), BATCH_SIZES, bundle.spec, bundle.settings)
    return _multi(multi, BATCH_SIZES, frames, precision)


def loaded(bundle: Bundle, frames: int, backend: str) -> Report:
    """MultiTracker on another backend, with the bundle's own numbers of targets."""
    return _multi(MultiTracker.load(bundle, backend, "cuda"), bundle.targets, frames, bundle.precision)


def _multi(multi: MultiTracker, sizes: Sequence[int], frames: int, precision: str) -> Report:
    single = functools.partial(Tracker, multi.backend, multi.spec, multi.settings)
    report = measure(multi, single, frames, BATCH_SIZES, precision)
    return {"description": multi.backend.description, "buckets": list(sizes), **report}
