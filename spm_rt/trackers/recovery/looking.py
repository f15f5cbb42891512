"""Looking for one target at several places of a frame, through the graphs for several targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...backends.protocol import Backend, SlotContext, Template
from ...errors import BackendError
from ...frame.crop import Frame, MeanColor, Scratch, crop_into
from ...frame.fusion import AS_DETECTED, Extent
from ...frame.geometry import Region, search_region, to_crop
from ...frame.steps import TargetView, decide, propose
from ...results import TrackResult
from ...settings import ModelSpec, TrackerSettings
from ..slots import split

Floats = NDArray[np.float32]
Box = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class View:
    """A target as it was seen once: the crop around it, from which a template is made, and where it is in there.

    Attributes:
        crop: ``[3, S, S]`` float32.
        box: x1, y1, x2, y2 in frame pixels.
        region: what the crop shows.
    """

    crop: Floats
    box: Box
    region: Region


class Looker:
    """Runs the two stages at places that somebody else chose, without the window and the reserved proposal.

    Args:
        compiled: gives the backend for a number of targets.
        sizes: the numbers that it is asked for, ascending, 1 among them.
        spec: of the bundle.

    Attributes:
        extent: of the target.
    """

    def __init__(self, compiled: Callable[[int], Backend], sizes: Sequence[int], spec: ModelSpec) -> None:
        self.spec = spec
        self.extent: Extent = AS_DETECTED
        self._sizes = sizes
        self._contexts = {size: _slot_context(compiled(size)) for size in sizes}
        self._holds: dict[int, Template | None] = dict.fromkeys(sizes)
        self._templates = _slot_context(compiled(1))
        self._scratch = Scratch()

    def view(self, frame: Frame, box: Box) -> View:
        """What a template is made of."""
        region = search_region(box, self.spec)
        crop = np.empty((3, self.spec.crop_size, self.spec.crop_size), np.float32)
        crop_into(frame, region, crop, self._scratch)
        return View(crop, box.copy(), region)

    def template(self, view: View) -> Template:
        """The template of a target as it was seen."""
        self._templates.crop[0] = view.crop
        self._to_host(self._templates)
        self._templates.set_template(to_crop(view.box, view.region)[None])
        return self._templates.template()

    def look(
        self,
        frame: Frame,
        boxes: Sequence[Box],
        template: Template,
        settings: TrackerSettings,
        candidates: bool = False,
    ) -> list[TrackResult]:
        """What is seen around each of ``boxes``, as if each had been the last box; with all ``candidates`` if asked."""
        regions = [search_region(box, self.spec) for box in boxes]
        mean, results = MeanColor(frame), list[TrackResult]()
        for size in split(len(boxes), self._sizes):
            part = slice(len(results), len(results) + size)
            for slot, region in enumerate(regions[part]):
                crop_into(frame, region, self._contexts[size].crop[slot], self._scratch, mean)
            results += self._run(size, boxes[part], regions[part], template, frame.shape[:2], settings, candidates)
        return results

    def look_at(self, view: View, template: Template, settings: TrackerSettings) -> TrackResult:
        """What a template finds in a view; the target's size and place there are taken for known."""
        self._contexts[1].crop[0] = view.crop
        far = (10**6, 10**6)  # the view has been cut: its frame's edge is not known any more
        return self._run(1, [view.box], [view.region], template, far, settings)[0]

    def _run(
        self,
        size: int,
        boxes: Sequence[Box],
        regions: Sequence[Region],
        template: Template,
        frame_size: tuple[int, ...],
        settings: TrackerSettings,
        candidates: bool = False,
    ) -> list[TrackResult]:
        context = self._contexts[size]
        if self._holds[size] is not template:
            for slot in range(size):
                context.put_template(slot, template)
            self._holds[size] = template
        self._to_host(context)
        shape = (frame_size[0], frame_size[1])
        views = [TargetView(box, region, shape, self.extent) for box, region in zip(boxes, regions, strict=True)]
        free = dataclasses.replace(settings, window_influence=0, num_near_candidates=0, size_rate=1, update_threshold=0)
        scores, coarse = context.search()
        proposals = [propose(scores[slot], coarse[slot], view, free) for slot, view in enumerate(views)]
        given = np.zeros((size, max(len(each.scores) for each in proposals), 4), np.float32)
        for slot, each in enumerate(proposals):
            given[slot, : len(each.scores)] = each.crop_boxes
            given[slot, len(each.scores) :] = each.crop_boxes[-1]
        fine_scores, fine_boxes = context.relate(given)
        results = []
        for slot, (each, view) in enumerate(zip(proposals, views, strict=True)):
            count = len(each.scores)
            fine = fine_scores[slot, :count], fine_boxes[slot, :count]
            results.append(decide(each, fine, view, self.spec, free, candidates)[1])
        return results

    @staticmethod
    def _to_host(context: SlotContext) -> None:
        """The next call reads ``crop``, also where frames may lie on the device."""
        if getattr(context, "on_device", False):
            context.on_device = False  # type: ignore[attr-defined]


def box_of(result: TrackResult) -> Box:
    """A result's box as x1, y1, x2, y2."""
    x, y, width, height = result.box
    return np.array([x, y, x + width, y + height])


def _slot_context(backend: Backend) -> SlotContext:
    context = backend.context()
    if not isinstance(context, SlotContext):
        raise BackendError(f"backend {backend.name!r} cannot look at several places of a frame: no way back with it")
    return context
