"""The way back, frame by frame: beside a tracker that works as always, and moves its box only in the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...backends.protocol import Backend, Template
from ...errors import FrameError
from ...frame.crop import Frame
from ...frame.fusion import Extent
from ...frame.geometry import iou, xywh_to_xyxy
from ...gpu.device_frames import DeviceFrame
from ...results import FOUND_AGAIN, LOST, TRACKED, TrackResult
from ...settings import ModelSpec, RecoverySettings, TrackerSettings
from .backward import leads_back
from .looking import Box, Looker, box_of
from .memory import SecondTemplate
from .standing import Standing, agree
from .windows import search_boxes

NEAR = 0.3
"""Overlap from which on what is seen in the next frame is the same thing."""


@dataclasses.dataclass
class Lead:
    """A box that may be the target's, while it is being confirmed: seen in ``frames`` frames one after another."""

    box: Box
    frames: int


class Recovery:
    """What a tracker with a way back has besides.

    Args:
        compiled: gives the backend for a number of targets.
        sizes: the numbers that it is asked for, ascending, 1 among them.
        spec: of the bundle.
        settings: of the way back.
    """

    def __init__(
        self, compiled: Callable[[int], Backend], sizes: Sequence[int], spec: ModelSpec, settings: RecoverySettings
    ) -> None:
        self.settings = settings
        self._compiled, self._sizes, self._spec = compiled, sizes, spec
        self._looker = Looker(compiled, sizes, spec)
        self._standing = Standing(settings)

    def sibling(self) -> Recovery:
        """The same for another tracker on the same graphs."""
        return Recovery(self._compiled, self._sizes, self._spec, self.settings)

    def start(
        self, frame: Frame | DeviceFrame, box: Box, template: Template, settings: TrackerSettings, extent: Extent
    ) -> None:
        """A new target, whose template was made of ``box`` in this frame."""
        picture = on_host(frame)
        self._looker.extent = extent
        places = search_boxes(
            box, (box[:2] + box[2:]) / 2, (picture.shape[0], picture.shape[1]), (1.0,), self.settings.step, self._spec
        )
        places = places[: self.settings.look_alikes]
        self._rival = best_rival(self._looker.look(picture, places, template, settings, candidates=True), box)
        self._first, self._template = self._looker.view(picture, box), template
        self._second = SecondTemplate(self._looker, self.settings.second_every, self.settings.rollback)
        self._number = 0
        self.moved(box)

    def moved(self, box: Box) -> None:
        """The target is at ``box``: somebody says so who knows."""
        self._standing.start_over()
        self._sure, self._motion, self._sure_at = box, np.zeros(2), self._number
        self._lead: Lead | None = None
        self._pending: list[Box] = []
        self._agreed, self._round = 0, 0

    def step(
        self, frame: Frame | DeviceFrame, box: Box, result: TrackResult, settings: TrackerSettings
    ) -> tuple[Box, TrackResult]:
        """What the tracker made of a frame, and what it is with a way back.

        Args:
            frame: in host memory.
            box: x1, y1, x2, y2, what the tracker found.
            result: likewise.
            settings: of the tracker.

        Returns:
            The box to go on from, and the result for the caller.
        """
        self._number += 1
        if self._standing.state != LOST:
            state = self._standing.see(result)
            if state == TRACKED and agree(result, self.settings.sure):
                self._keep(on_host(frame), box)
                self._rival = max(self._rival, result.rival_score)
            if state == LOST:
                self._second.roll_back(self._number)
                self._agreed, self._round, self._pending, self._lead = 0, 0, [], None
            return box, dataclasses.replace(result, state=state)
        back = self._look_around(on_host(frame), box, result, settings)
        if back is None:
            return box, dataclasses.replace(result, state=LOST)
        self.moved(box_of(back))
        found = back.score >= settings.found_threshold
        return box_of(back), dataclasses.replace(back, found=found, state=FOUND_AGAIN, candidates=result.candidates)

    def _keep(self, frame: Frame, box: Box) -> None:
        """Remember where the target surely was, and now and then what it looked like."""
        moved = (box - self._sure)[:2] + (box - self._sure)[2:]
        self._motion = moved / 2 / max(self._number - self._sure_at, 1)
        self._sure, self._sure_at = box, self._number
        if self.settings.second_template:
            self._second.offer(self._number, frame, box)

    def _look_around(
        self, frame: Frame, box: Box, result: TrackResult, settings: TrackerSettings
    ) -> TrackResult | None:
        """What is the target in a frame of a lost one, if something was confirmed in this frame."""
        enough = self._rival + self.settings.rival_margin
        sure = agree(result, self.settings.sure) and result.score >= enough
        self._agreed = self._agreed + 1 if sure else 0
        if self._agreed >= self.settings.confirm:
            self._agreed = 0
            if self._leads_back(frame, box, settings):
                return result
        if not self.settings.search:
            return None
        template = self._next_template()
        places = self._next_places((frame.shape[0], frame.shape[1]))
        followed = [self._lead.box] if self._lead else []
        seen = self._looker.look(frame, [*followed, *places], template, settings)
        best = max(seen, key=lambda each: each.score)
        least = max(enough, result.score + self.settings.margin)
        if not agree(best, self.settings.sure) or best.score < least:
            self._lead = None
            return None
        same = self._lead is not None and float(iou(self._lead.box, box_of(best))) >= NEAR
        self._lead = Lead(box_of(best), self._lead.frames + 1 if same and self._lead else 1)
        if self._lead.frames < self.settings.confirm:
            return None
        self._lead = None
        return best if self._leads_back(frame, box_of(best), settings) else None

    def _leads_back(self, frame: Frame, box: Box, settings: TrackerSettings) -> bool:
        if not self.settings.backward:
            return True
        limits = self.settings.backward_overlap, self.settings.backward_score
        return leads_back(self._looker, frame, box, self._first, settings, *limits)

    def _next_template(self) -> Template:
        """The first one, and in every other round over the frame the second one; a lead keeps the one it came by."""
        if self._lead is None and not self._pending:
            self._round += 1
        second = self._second.template() if self._round % 2 == 0 else None
        return second or self._template

    def _next_places(self, frame_size: tuple[int, int]) -> list[Box]:
        """The next of the places to look at, from the likely ones on; none is left out before the next round."""
        if not self._pending:
            elapsed = min(self._number - self._sure_at, self.settings.patience + self.settings.motion_frames)
            center = (self._sure[:2] + self._sure[2:]) / 2 + self._motion * elapsed
            scales, step = self.settings.scales, self.settings.step
            self._pending = search_boxes(self._sure, center, frame_size, scales, step, self._spec)
        count = self.settings.crops - (self._lead is not None)
        places, self._pending = self._pending[:count], self._pending[count:]
        return places


def best_rival(results: Iterable[TrackResult], box: Box) -> float:
    """The best score of a candidate that is not the target at ``box``; 0 where there is none."""
    rivals = [candidate for result in results for candidate in result.candidates or ()]
    return max((each.score for each in rivals if float(iou(xywh_to_xyxy(each.box), box)) < NEAR), default=0.0)


def on_host(frame: Frame | DeviceFrame) -> NDArray[np.generic]:
    """A frame whose pixels can be read here.

    Raises:
        FrameError: it lies on the GPU.
    """
    if isinstance(frame, DeviceFrame):
        raise FrameError("a tracker with a way back (recovery) takes frames in host memory, not on the GPU")
    return frame
