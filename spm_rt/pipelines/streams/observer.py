"""What happens to streams, for who counts it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...outputs.base import Tracked


class Observer:
    """Is told what happens to streams; this one does nothing with it.

    ``read``, ``dropped`` and ``connected`` are called from the threads that read, the others from the one that tracks.
    """

    def started(self, stream: str, newest_age: Callable[[], float]) -> None:
        """A stream was added; ``newest_age`` gives the seconds since its newest frame came, 0 before the first."""

    def read(self, stream: str, seconds: float) -> None:
        """A frame came; reading, decoding and waiting for it took so long."""

    def dropped(self, stream: str) -> None:
        """A frame was replaced by a newer one before it was tracked on."""

    def connected(self, stream: str, up: bool, again: bool = False, reason: str = "") -> None:
        """A source gave its first frame since it was opened (``again``: not for the first time); or it is no longer
        ``up``, for a reason unless it has come to its end.
        """

    def stage(self, stream: str, name: str, seconds: float) -> None:
        """A stage of tracking took so long, for all streams whose frames went through it together."""

    def tracked(self, stream: str, age: float, targets: Mapping[str, Tracked]) -> None:
        """A frame's results are there, ``age`` seconds after it came."""

    def failed(self, stream: str) -> None:
        """A frame could not be tracked on."""


class Observers(Observer):
    """Tells several others, one after the other.

    Args:
        observers: these.
    """

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def started(self, stream: str, newest_age: Callable[[], float]) -> None:
        for one in self._observers:
            one.started(stream, newest_age)

    def read(self, stream: str, seconds: float) -> None:
        for one in self._observers:
            one.read(stream, seconds)

    def dropped(self, stream: str) -> None:
        for one in self._observers:
            one.dropped(stream)

    def connected(self, stream: str, up: bool, again: bool = False, reason: str = "") -> None:
        for one in self._observers:
            one.connected(stream, up, again, reason)

    def stage(self, stream: str, name: str, seconds: float) -> None:
        for one in self._observers:
            one.stage(stream, name, seconds)

    def tracked(self, stream: str, age: float, targets: Mapping[str, Tracked]) -> None:
        for one in self._observers:
            one.tracked(stream, age, targets)

    def failed(self, stream: str) -> None:
        for one in self._observers:
            one.failed(stream)
