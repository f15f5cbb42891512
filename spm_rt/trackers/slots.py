"""Which target lies in which slot of which batch, for trackers that follow several with one run of each graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..backends.protocol import Template
from ..errors import TargetError
from ..frame.fusion import Extent
from ..frame.geometry import as_corners, xyxy_to_xywh
from ..frame.switches import SwitchWatch
from ..results import Box, Corners
from ..settings import TrackerSettings
from .checks import check_box, check_corners
from .lifecycle import Lifecycle

OTHER_SIZE = "remove all targets before a stream of another size"


class TemplateHolder(Protocol):
    """What keeps the templates of a batch's targets."""

    def put_template(self, slot: int, template: Template) -> None:
        """See :meth:`spm_rt.backends.protocol.SlotContext.put_template`."""


Holder = TypeVar("Holder", bound=TemplateHolder)


@dataclasses.dataclass(slots=True)
class Target:
    """One target between two frames."""

    box: NDArray[np.float64]
    template: Template
    extent: Extent
    watch: SwitchWatch = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.put(self.box)

    def put(self, box: NDArray[np.float64]) -> None:
        """The target is here, as somebody says who knows."""
        self.box, self.watch = box, SwitchWatch(box)


@dataclasses.dataclass
class Batch(Generic[Holder]):
    """Targets that run through the graphs together.

    Attributes:
        context: what runs them; it holds their templates.
        size: number of slots, T.
        templates: whose template lies in each slot; None where none was put.
        ids: the targets of the next frame, by slot; slots behind them are empty.
    """

    context: Holder
    size: int
    templates: list[int | None]
    ids: list[int] = dataclasses.field(default_factory=list)


class TargetSlots(Lifecycle, Generic[Holder]):
    """Targets that come and go by number, each in a slot of one of a frame's batches: the common part of such trackers.

    Args:
        make_context: makes a context for a number of targets. Contexts are kept and used again.
        sizes: the batch sizes that there can be contexts for, ascending, 1 among them.
        settings: for all targets.
    """

    def __init__(self, make_context: Callable[[int], Holder], sizes: Sequence[int], settings: TrackerSettings) -> None:
        super().__init__(settings)
        self._make_context = make_context
        self._batch_sizes = tuple(sizes)
        self._targets: dict[int, Target] = {}
        self._pool: dict[int, list[Batch[Holder]]] = {}
        self._batches: list[Batch[Holder]] = []
        self._next_id = 0
        self._frame_size = (0, 0)

    def __len__(self) -> int:
        self._gate.check()
        return len(self._targets)

    @property
    def ids(self) -> tuple[int, ...]:
        """The targets, in the order in which they were added."""
        self._gate.check()
        return tuple(self._targets)

    def box(self, id: int) -> Box:
        """The last box of a target, ``x, y, width, height``."""
        self._gate.check()
        return xyxy_to_xywh(self._target(id).box)

    def corners(self, id: int) -> Corners:
        """The last box of a target as it is kept; see :attr:`spm_rt.Tracker.corners`."""
        self._gate.check()
        return as_corners(self._target(id).box)

    def remove(self, id: int) -> None:
        """Follow a target no longer.

        Raises:
            TargetError: there is no such target.
        """
        with self._gate:
            self._target(id)
            self._assign({other: target for other, target in self._targets.items() if other != id})

    def move_to(self, id: int, box: Sequence[float] | NDArray[np.floating]) -> None:
        """Put a target's box elsewhere, as :meth:`spm_rt.Tracker.move_to`; its template stays what it is."""
        with self._gate:
            target = self._target(id)
            target.put(check_box(box, self._size_of(id)))

    def restore(self, id: int, corners: Sequence[float] | NDArray[np.floating]) -> None:
        """Go on from the corners that a target with the same template had, as :meth:`spm_rt.Tracker.restore`."""
        with self._gate:
            self._target(id).put(check_corners(corners))

    def _release(self) -> None:
        del self._make_context, self._targets, self._pool, self._batches

    def _state(self) -> str:
        return f"{len(self._targets)} target(s)"

    def _size_of(self, id: int) -> tuple[int, int]:
        """Height and width of a target's frames."""
        return self._frame_size

    def _accept(self, target: Target, frame_size: tuple[int, int]) -> int:
        """Give a new target a number and a slot."""
        id = self._next_id
        self._assign({**self._targets, id: target})
        self._frame_size = frame_size
        self._next_id += 1
        return id

    def _target(self, id: int) -> Target:
        if id not in self._targets:
            known = ", ".join(map(str, self._targets)) or "none"
            raise TargetError(f"there is no target {id!r} (there are: {known})")
        return self._targets[id]

    def _assign(self, targets: dict[int, Target]) -> None:
        """Take these targets for those that are followed, each with a slot."""
        self._batches, self._targets = self._arrange(targets), targets

    def _arrange(self, targets: Mapping[int, Target]) -> list[Batch[Holder]]:
        """Give every target a slot, and move the templates of those that get another one."""
        batches = self._prepare(self._split(len(targets)))
        waiting = list(targets)
        for batch in batches:
            batch.ids, waiting = waiting[: batch.size], waiting[batch.size :]
            for slot, id in enumerate(batch.ids):
                if batch.templates[slot] != id:
                    batch.context.put_template(slot, targets[id].template)
                    batch.templates[slot] = id
        return batches

    def _split(self, count: int) -> list[int]:
        """Sizes of the batches that so many targets take."""
        return split(count, self._batch_sizes)

    def _prepare(self, sizes: Sequence[int]) -> list[Batch[Holder]]:
        """Batches of these sizes, kept for the next time."""
        batches = []
        for size in dict.fromkeys(sizes):
            pool = self._pool.setdefault(size, [])
            while len(pool) < sizes.count(size):
                pool.append(Batch(self._make_context(size), size, [None] * size))
            batches += pool[: sizes.count(size)]
        return batches

    def _prepare_for(self, capacity: int) -> None:
        """Make now whatever 1 to ``capacity`` targets need."""
        for count in range(1, capacity + 1):
            self._prepare(self._split(count))


def split(count: int, sizes: Sequence[int]) -> list[int]:
    """Sizes of the batches that ``count`` targets take, given the ascending ``sizes`` that there are."""
    largest = sizes[-1]
    full, rest = divmod(count, largest)
    return [largest] * full + [next(size for size in sizes if size >= rest)] * (rest > 0)
