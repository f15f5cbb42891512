"""A second template: the target as it was seen last, kept only while both stages agree, and given up after a loss."""

from __future__ import annotations

from ...backends.protocol import Template
from ...frame.crop import Frame
from .looking import Box, Looker, View


class SecondTemplate:
    """Views of the target, taken now and then; a template is made of one when it is asked for.

    Args:
        looker: cuts views and makes templates.
        every: frames from one view to the next.
        rollback: frames before a loss whose views are not believed.
    """

    def __init__(self, looker: Looker, every: int, rollback: int) -> None:
        self._looker, self._every, self._rollback = looker, every, rollback
        self._views: list[tuple[int, View]] = []
        self._template: Template | None = None

    def offer(self, number: int, frame: Frame, box: Box) -> None:
        """A frame in which both stages agree on ``box``; its view is kept if the last one is old enough."""
        if not self._views or number - self._views[-1][0] >= self._every:
            # Those that a rollback leaves, and one more.
            self._views = self._views[-(self._rollback // self._every + 1) :]
            self._views.append((number, self._looker.view(frame, box)))
            self._template = None

    def roll_back(self, number: int) -> None:
        """The target was lost in frame ``number``: forget what was seen shortly before."""
        self._views = [(at, view) for at, view in self._views if at <= number - self._rollback]
        self._template = None

    def template(self) -> Template | None:
        """The template of the newest view that is believed."""
        if self._template is None and self._views:
            self._template = self._looker.template(self._views[-1][1])
        return self._template
