"""What a tracker meets on its way through clips: samples of every layer's inputs and outputs, and some frames whole."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from spm_rt.results import Box
from spm_rt.settings import TrackerSettings
from spm_rt.trackers.single import Tracker

from ..graphs.int8 import Floats
from ..graphs.quantizable import quantizable
from ..model.backend import ReferenceBackend, ReferenceContext
from ..model.network import SPMTracker
from .compensation import Moments
from .rounding import quantized_modules, quantized_part

Clip = tuple[str, Callable[[], Iterable[NDArray[np.uint8]]], Box]
"""Name, a function that gives the frames, and the target in the first of them."""

MOST_CLIPS = 16
FRAMES_PER_CLIP = 12
SAMPLES_PER_FRAME = 4000
"""Values, about: rows of all channels at so many random places."""
KEPT_PER_CLIP = 3


class Sample(NamedTuple):
    """What was seen of a layer's input or output in one frame."""

    rows: Floats
    """``[n, C]``: all channels at random places"""
    low: Floats
    """``[C]``: the least value of each channel"""
    high: Floats
    """``[C]``: the largest"""


Samples = dict[str, list[Sample]]


class Seen(NamedTuple):
    """What was seen of all layers."""

    samples: Samples
    """by ``NAME.input`` and ``NAME.output`` of a layer"""
    moments: dict[str, Moments]
    """of the layers whose weights make up for each other's rounding"""


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


def calibration_clips(folder: str | os.PathLike[str]) -> list[Clip]:
    """The clips of a folder in any layout that ``spm-bench accuracy`` reads, at most ``MOST_CLIPS``, evenly picked."""
    from spm_rt.media.datasets import find_sequences
    from spm_rt.terminal import say_left_out

    found = find_sequences(folder)
    say_left_out(found.left_out)
    picked = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, MOST_CLIPS).astype(int))]
    return [(one.name, one.frames, one.first_box) for one in picked]


def follow(model: SPMTracker, settings: TrackerSettings, clip: Clip, seen: Seen) -> tuple[list[Kept], int]:
    """Track through a clip's first frames: what every layer sees is added, and some frames' inputs returned."""
    name, frames, box = clip
    backend, index = _RecordingBackend(model), 0
    tracker = Tracker(backend, model.spec, dataclasses.replace(settings, mode="series-parallel"))
    with sampled(model, seen, np.random.default_rng(len(name))):
        for index, frame in enumerate(itertools.islice(frames(), FRAMES_PER_CLIP + 1)):
            if index == 0:
                tracker.init(frame, box)
                continue
            backend.recorder.keep_next = index % (FRAMES_PER_CLIP // KEPT_PER_CLIP) == 1
            tracker.update(frame)
    return backend.recorder.kept, index


@contextmanager
def sampled(model: SPMTracker, seen: Seen, rng: np.random.Generator) -> Iterator[None]:
    """While this lasts, every layer adds what its inputs and outputs are at random places to ``seen``."""

    def take(name: str, values: Tensor) -> None:
        rows = values.detach().movedim(1, -1).flatten(0, -2).numpy()
        places = rng.integers(len(rows), size=max(1, SAMPLES_PER_FRAME // rows.shape[1]))
        seen.samples.setdefault(name, []).append(Sample(rows[places], rows.min(axis=0), rows.max(axis=0)))

    def look(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        part = quantized_part(name, inputs[0])
        if name == "relate_proposal":
            assert isinstance(module.weight, Tensor)
            output = nn.functional.conv2d(part, quantized_part(name, module.weight), padding=1)
        elif name not in known.linear:
            output = output.clamp(0, known.limit if name in known.search else None)
        take(f"{name}.input", part)
        take(f"{name}.output", output)
        if name in known.compensated:
            assert isinstance(module, nn.Conv2d)
            found = Moments.of(module, part.detach(), rng)
            seen.moments[name] = seen.moments[name] + found if name in seen.moments else found

    known = quantizable(model.spec)
    with ExitStack() as stack:
        for name, module in quantized_modules(model).items():
            stack.callback(module.register_forward_hook(functools.partial(look, name)).remove)
        yield
