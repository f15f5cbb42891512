"""A backend without a network: it finds what is bright. For tests of everything around the network."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spm_rt import MultiTracker, Tracker, TrackerSettings, TrackResult
from spm_rt.backends.protocol import Template
from spm_rt.pipelines.streams import Observer, StreamTracker
from spm_rt.results import Box
from spm_rt.settings import ModelSpec
from spm_rt.trackers.batch import BatchTracker

Floats = NDArray[np.float32]
COUNT = 5
"""Pictures of a source in tests of ``spm-track``."""
SPEC = ModelSpec()
CENTERS = (63.5 + SPEC.stride * np.arange(SPEC.response_cells)).astype(np.float32)


class BrightBackend:
    """Scores are the brightness of the crop at each cell, boxes are squares of five sizes."""

    name = "bright"
    description = "a fake"

    def __init__(self, targets: int = 1) -> None:
        self.targets = targets

    def context(self) -> BrightContext:
        return BrightContext(self.targets)


class BrightContext:
    """Its template is the target's box, which gives nothing but the place to look at in a test."""

    def __init__(self, targets: int = 1) -> None:
        self.crop: Floats = np.zeros((targets, 3, SPEC.crop_size, SPEC.crop_size), np.float32)
        self.templates: list[Floats] = []
        self.slots: dict[int, Template] = {}
        self.searches = 0
        x, y = np.meshgrid(CENTERS, CENTERS)
        half = np.array([24, 28, 32, 36, 40], np.float32)
        center = np.stack([x, y], axis=-1)[:, :, None]
        boxes = np.concatenate([center - half[:, None], center + half[:, None]], axis=-1)
        self.boxes = np.tile(boxes.reshape(1, -1, 4).astype(np.float32), (targets, 1, 1))

    def set_template(self, box: Floats) -> None:
        self.templates.append(box.copy())

    def template(self) -> Template:
        return {"box": self.templates[-1][0]}

    def put_template(self, slot: int, template: Template) -> None:
        self.slots[slot] = template

    def search(self) -> tuple[Floats, Floats]:
        self.searches += 1
        return self._brightness(self.boxes), self.boxes

    def relate(self, proposals: Floats) -> tuple[Floats, Floats]:
        return self._brightness(proposals), proposals + np.float32(1)

    def _brightness(self, boxes: Floats) -> Floats:
        center = np.clip((boxes[..., :2] + boxes[..., 2:]) / 2, 0, SPEC.crop_size - 1).astype(int)
        slots = np.arange(len(boxes))[:, None]
        levels = self.crop.mean(1)[slots, center[..., 1], center[..., 0]]
        return (levels / 255).astype(np.float32)


def bright_tracker(settings: TrackerSettings | None = None) -> Tracker:
    return Tracker(BrightBackend(), SPEC, settings or TrackerSettings())


def bright_multi_tracker(sizes: tuple[int, ...] = (1, 2, 4), settings: TrackerSettings | None = None) -> MultiTracker:
    """For several targets; graphs for those numbers of targets."""
    made: dict[int, BrightBackend] = {}
    return MultiTracker(lambda n: made.setdefault(n, BrightBackend(n)), sizes, SPEC, settings or TrackerSettings())


def bright_batch_tracker(sizes: tuple[int, ...] = (1, 2, 4)) -> BatchTracker:
    """Finds what is bright, in calls for those numbers of targets."""
    made: dict[int, BrightBackend] = {}
    return BatchTracker(lambda n: made.setdefault(n, BrightBackend(n)), sizes, SPEC, TrackerSettings())


def bright_streams(observer: Observer | None = None) -> StreamTracker:
    return StreamTracker(bright_batch_tracker(), measure=False, observer=observer)


class Shifted:
    """A tracker for several targets that gives the last one's box changed."""

    def __init__(self, multi: MultiTracker, change: Callable[[Box], Box]) -> None:
        self._multi, self._change = multi, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._multi, name)

    def __len__(self) -> int:
        return len(self._multi)

    def update(self, frame: NDArray[np.uint8]) -> dict[int, TrackResult]:
        results = self._multi.update(frame)
        if results:
            last = max(results)
            results[last] = dataclasses.replace(results[last], box=self._change(results[last].box))
        return results


def bright_frame(x: float, y: float, size: tuple[int, int] = (120, 160), side: int = 40) -> NDArray[np.uint8]:
    """A dark frame with a bright disc around x, y."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    distance = np.hypot(columns - x, rows - y)
    level = np.clip(1 - distance / side, 0, 1) * 235 + 10
    return np.repeat(level[:, :, None], 3, axis=2).astype(np.uint8)


def moving_disc(count: int = 8) -> list[NDArray[np.uint8]]:
    """Frames whose bright disc starts at 80, 60 and moves by 2, -1."""
    return [bright_frame(80 + 2 * k, 60 - k) for k in range(count)]


@contextlib.contextmanager
def another_thread_inside(
    tracker: Tracker | MultiTracker, frame: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """While it lasts, another thread is in the middle of ``tracker.update(frame)``."""
    inside, leave = threading.Event(), threading.Event()
    search = BrightContext.search

    def slow(context: BrightContext) -> object:
        inside.set()
        assert leave.wait(60)
        return search(context)

    monkeypatch.setattr(BrightContext, "search", slow)
    thread = threading.Thread(target=tracker.update, args=(frame,))
    thread.start()
    assert inside.wait(60)
    yield
    leave.set()
    thread.join(60)
    assert not thread.is_alive()
