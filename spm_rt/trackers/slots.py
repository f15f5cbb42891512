"""Which target lies in which place of which call, for trackers that follow several with one call of each graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..backends.protocol import Template
from ..errors import TargetError
from ..frame.geometry import xyxy_to_xywh
from ..results import Box
from .checks import Gate, check_box

OTHER_SIZE = "remove all targets before a stream of another size"


class Places(Protocol):
    """What keeps the templates of a call's targets."""

    def put_template(self, slot: int, template: Template) -> None:
        """See :meth:`spm_rt.backends.protocol.SlotContext.put_template`."""


Kind = TypeVar("Kind", bound=Places)


@dataclasses.dataclass(slots=True)
class Target:
    """One target between two frames."""

    box: NDArray[np.float64]
    template: Template


@dataclasses.dataclass
class Call(Generic[Kind]):
    """One call of the graphs: places for T targets, and whose template lies in each."""

    context: Kind
    targets: int
    templates: list[int | None]
    ids: list[int] = dataclasses.field(default_factory=list)
    """The targets of the next frame, by slot; slots behind them are not looked at."""


class Seats(Generic[Kind]):
    """Targets that come and go by number, each in a slot of one of a frame's calls: the common part of such trackers.

    Args:
        places: makes places for a number of targets. They are kept and used again.
        sizes: the numbers of targets that there can be places for, ascending, 1 among them.
    """

    def __init__(self, places: Callable[[int], Kind], sizes: Sequence[int]) -> None:
        self._places = places
        self._sizes = tuple(sizes)
        self._targets: dict[int, Target] = {}
        self._pool: dict[int, list[Call[Kind]]] = {}
        self._calls: list[Call[Kind]] = []
        self._next_id = 0
        self._frame_size = (0, 0)
        self._gate = Gate()

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def ids(self) -> tuple[int, ...]:
        """The targets, in the order in which they were added."""
        return tuple(self._targets)

    def box(self, id: int) -> Box:
        """The last box of a target, ``x, y, width, height``."""
        return xyxy_to_xywh(self._target(id).box)

    def remove(self, id: int) -> None:
        """Follow a target no longer.

        Raises:
            TargetError: there is no such target.
        """
        with self._gate:
            self._target(id)
            self._seat({other: target for other, target in self._targets.items() if other != id})

    def move_to(self, id: int, box: Sequence[float] | NDArray[np.floating]) -> None:
        """Put a target's box elsewhere, as :meth:`spm_rt.Tracker.move_to`; its template stays what it is."""
        with self._gate:
            target = self._target(id)
            target.box = check_box(box, self._frame_size)

    def _accept(self, target: Target, frame_size: tuple[int, int]) -> int:
        """Give a new target a number and a slot."""
        id = self._next_id
        self._seat({**self._targets, id: target})
        self._frame_size = frame_size
        self._next_id += 1
        return id

    def _target(self, id: int) -> Target:
        if id not in self._targets:
            there = ", ".join(map(str, self._targets)) or "none"
            raise TargetError(f"there is no target {id!r} (there are: {there})")
        return self._targets[id]

    def _seat(self, targets: dict[int, Target]) -> None:
        """Give every target a slot, and move the templates of those that lie elsewhere."""
        calls = self._prepare(split(len(targets), self._sizes))
        waiting = list(targets)
        for call in calls:
            call.ids, waiting = waiting[: call.targets], waiting[call.targets :]
            for slot, id in enumerate(call.ids):
                if call.templates[slot] != id:
                    call.context.put_template(slot, targets[id].template)
                    call.templates[slot] = id
        self._calls, self._targets = calls, targets

    def _prepare(self, sizes: Sequence[int]) -> list[Call[Kind]]:
        """Places for calls of so many targets each, kept for the next time."""
        calls = []
        for size in dict.fromkeys(sizes):
            pool = self._pool.setdefault(size, [])
            while len(pool) < sizes.count(size):
                pool.append(Call(self._places(size), size, [None] * size))
            calls += pool[: sizes.count(size)]
        return calls

    def _prepare_for(self, capacity: int) -> None:
        """Make now whatever 1 to ``capacity`` targets need."""
        for count in range(1, capacity + 1):
            self._prepare(split(count, self._sizes))


def split(count: int, sizes: Sequence[int]) -> list[int]:
    """Numbers of targets of the calls that ``count`` targets take, given the ascending ``sizes`` that there are."""
    largest = sizes[-1]
    full, rest = divmod(count, largest)
    return [largest] * full + [next(size for size in sizes if size >= rest)] * (rest > 0)
