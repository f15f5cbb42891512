"""From load to close: who may enter a tracker, and what becomes of one that is closed, copied, pickled or forked."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Any, NoReturn, TypeVar

from ..backends.protocol import Backend
from ..errors import ClosedError, CopyError, ProcessError, SettingsError, ThreadError
from ..machine import leave_to_parent, release_memory
from ..settings import TrackerSettings, check_settings

Self = TypeVar("Self", bound="Lifecycle")


class Gate:
    """One process, and in it one thread at a time, until it is closed: a tracker's buffers and state are its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self.closed = False

    @property
    def elsewhere(self) -> bool:
        """Whether this is a child that was forked after the tracker was made."""
        return os.getpid() != self._process

    def check(self) -> None:
        """Whether the tracker can be used at all.

        Raises:
            ProcessError, ClosedError: it was made before this process was forked; it is closed.
        """
        if self.elsewhere:
            raise ProcessError(
                f"this tracker was made in process {self._process}, and this is a child forked from it, where the "
                "inference library's threads do not exist: load a tracker in the child, or start children by spawn "
                "(multiprocessing.get_context('spawn'))"
            )
        if self.closed:
            raise ClosedError("this tracker is closed; load another one")

    def __enter__(self) -> None:
        self.check()
        if not self._lock.acquire(blocking=False):
            raise ThreadError("this tracker is in use by another thread; make one tracker per thread (sibling())")
        if self.closed:  # between the two lines above
            self._lock.release()
            self.check()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class NotCopied:
    """Neither copied nor pickled: a copy would share the buffers of the original."""

    def __reduce_ex__(self, protocol: Any) -> NoReturn:  # what copy, deepcopy and pickle ask
        name = type(self).__name__
        raise CopyError(
            f"a {name} cannot be copied or pickled: it has buffers and an inference library of its own. sibling() of a "
            f"tracker gives another one that shares its graphs; in another process, load it there (load(bundle))"
        )


class Lifecycle(NotCopied):
    """What all trackers have in common: settings, ``with``, ``close``."""

    _settings_are_fixed = False

    def __init__(self, settings: TrackerSettings) -> None:
        self._gate = Gate()
        self._settings = check_settings(settings)
        leave_to_parent(self)

    @property
    def settings(self) -> TrackerSettings:
        """How the tracker decides. Others can be given between two frames, except to resident trackers.

        Raises:
            SettingsError: what is given are no settings, or they cannot be changed any more.
        """
        return self._settings

    @settings.setter
    def settings(self, settings: TrackerSettings) -> None:
        if self._settings_are_fixed:
            raise SettingsError(
                f"the settings of a {type(self).__name__} are part of what it runs on the GPU: load another one with "
                "settings=..."
            )
        with self._gate:
            self._settings = check_settings(settings)

    def close(self) -> None:
        """Give graphs and buffers back; the tracker cannot be used any more. Closing it again does nothing.

        The memory of compiled graphs is freed when the last tracker that shares them (``sibling``) is closed. In a
        forked child nothing happens: what was loaded belongs to the parent.

        Raises:
            ThreadError: another thread is using the tracker.
        """
        if self._gate.closed or self._gate.elsewhere:
            return
        with self._gate:
            self._gate.closed = True
            self._release()
        release_memory()

    def _release(self) -> None:
        """Drop all that holds memory."""
        raise NotImplementedError

    def __enter__(self: Self) -> Self:
        self._gate.check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'closed' if self._gate.closed else self._state()}>"

    def _state(self) -> str:
        """What it works on and where it stands, in a few words."""
        raise NotImplementedError


class OnBackend:
    """A tracker's compiled graphs."""

    _gate: Gate
    _backend: Backend

    @property
    def backend(self) -> Backend:
        """The compiled graphs.

        Raises:
            ClosedError, ProcessError: the tracker is closed, or belongs to the parent of this process.
        """
        self._gate.check()
        return self._backend
