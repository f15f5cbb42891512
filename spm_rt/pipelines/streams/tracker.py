"""Targets in several sources at once, followed by one tracker."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from ...backends.protocol import Backend
from ...errors import ClosedError, SettingsError, SpmError
from ...fields import shortened
from ...outputs.base import Tracked
from ...results import Box
from ...trackers.batch import BatchTracker, cheapest
from .observer import Observer
from .reader import Arrived, StreamOptions, StreamReader
from .stream import Stream, StreamReport, StreamResult

PATIENCE = 0.1
"""Seconds after which a wait for frames looks at time-outs and at :meth:`StreamTracker.stop`."""


Taken = Sequence[tuple[str, Arrived]]
"""Frames and their streams' names."""


class StreamTracker:
    """Follows targets in several sources; a context manager.

    ::

        with StreamTracker.load("spm_alexnet") as streams:
            streams.add("door", "rtsp://127.0.0.1:8554/door", {"parcel": (193, 158, 57, 72)})
            streams.add("yard", "yard.mp4", {"cat": (20, 30, 64, 48), "dog": (90, 40, 60, 60)})
            for result in streams:
                print(result.stream, result.frame.time, result.targets)

    Each source is read in a thread of its own. Of live sources the newest frame is tracked on, and those that it
    replaces are counted; files lose none, and wait. A live source that ends or hangs is opened again, and its targets
    go on from where they were; what is wrong with one stream ends that stream only, and its report says it.

    Frames of different streams run through the graphs together where that is faster on this machine, which is measured
    before the first frame; else one after the other, with the bits of :class:`~spm_rt.Tracker`.

    Args:
        tracker: without targets; follows those of all streams.
        measure: whether batch sizes are timed. Otherwise all targets that have a frame run through the graphs together.
        observer: is told what happens.
    """

    def __init__(self, tracker: BatchTracker, *, measure: bool = True, observer: Observer | None = None) -> None:
        self._tracker, self._measure = tracker, measure
        self._observer = observer or Observer()
        self._changed = threading.Condition()
        self._streams: dict[str, Stream] = {}
        self._order: list[str] = []
        self._most = 0
        self._stopped = self._closed = False

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str],
        backend: str = "auto",
        device: str = "cpu",
        *,
        per_call: int | None = None,
        observer: Observer | None = None,
        **options: Any,
    ) -> StreamTracker:
        """A tracker on a bundle's graphs.

        Args:
            bundle, backend, device: as for :meth:`spm_rt.MultiTracker.load`.
            per_call: largest batch size; 1: one target after the other. None: as a measurement says.
            observer: is told what happens.
            options: further ones of :meth:`spm_rt.MultiTracker.load`.

        Raises:
            BundleError, BackendError, SettingsError: what cannot be used.
        """
        tracker = BatchTracker.load(bundle, backend, device, per_call=per_call, **options)
        return cls(tracker, measure=per_call is None, observer=observer)

    @property
    def backend(self) -> Backend:
        """The compiled graphs."""
        return self._tracker.backend

    @property
    def tracker(self) -> BatchTracker:
        """What follows the targets of all streams."""
        return self._tracker

    def add(
        self,
        name: str,
        source: str | os.PathLike[str],
        boxes: Mapping[str, Sequence[float]],
        options: StreamOptions | None = None,
    ) -> None:
        """Another stream, before the first frame is asked for.

        Args:
            name: of the stream, in results, reports and metrics.
            source: what :func:`spm_rt.media.sources.open_source` opens.
            boxes: the targets in its first frame by their names, ``x, y, width, height``.
            options: how it is read.

        Raises:
            SettingsError: there is a stream of that name, no box, or frames were asked for already.
        """
        if name in self._streams:
            raise SettingsError(f"there are two streams called {name!r}")
        if not boxes:
            raise SettingsError(f"stream {name!r} has no box to begin with")
        if self._order:
            raise SettingsError(f"stream {name!r} comes too late: others are being read")
        reader = StreamReader(name, source, options or StreamOptions(), self._changed, self._observer)
        self._streams[name] = Stream(reader, {target: _box(box) for target, box in boxes.items()})

    def __iter__(self) -> Iterator[StreamResult]:
        """Results as they come, until all streams have ended, or :meth:`stop` or :meth:`close` was called."""
        if self._closed:
            raise ClosedError("these streams are closed")
        if not self._order:
            self._order = list(self._streams)
            self._prepare()
            for name, stream in self._streams.items():
                self._observer.started(name, stream.newest_age)
                stream.reader.start()
        while taken := self._take():
            yield from self._track(taken)

    def report(self) -> dict[str, StreamReport]:
        """What became of each stream, so far or in the end."""
        with self._changed:
            return {name: stream.report() for name, stream in self._streams.items()}

    def end(self, name: str) -> None:
        """Stop reading one stream; its targets are followed no longer.

        Raises:
            SettingsError: there is no such stream.
        """
        if name not in self._streams:
            raise SettingsError(f"there is no stream called {name!r}")
        self._close(self._streams[name])

    def stop(self) -> None:
        """End the iteration soon; for other threads and for handlers of signals."""
        self._stopped = True

    def close(self) -> None:
        """Stop reading and give the tracker's memory back. A thread that hangs in a library is left behind."""
        if self._closed:
            return
        self._stopped = self._closed = True
        until = time.monotonic() + 1.0
        for stream in self._streams.values():
            stream.reader.close(until)
        self._tracker.close()

    def __enter__(self) -> StreamTracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self) -> None:
        """Time batch sizes, and see how many targets run together."""
        total = sum(len(stream.boxes) for stream in self._streams.values())
        if self._measure:
            self._tracker.measure(total)
        self._most = max(cheapest(total, self._tracker.seconds), default=1) if self._measure else total

    def _take(self) -> Taken:
        """A frame of each of the next streams in turn, for as many targets as run together; empty at the end."""
        while not self._stopped:
            with self._changed:
                for stream in self._streams.values():
                    stream.reader.check_time()
                ready = [name for name in self._order if self._streams[name].reader.waiting]
                if ready:
                    chosen = self._choose(ready)
                    self._order = [name for name in self._order if name not in chosen] + chosen
                    return [(name, self._streams[name].reader.take()) for name in chosen]
                if all(stream.reader.ended for stream in self._streams.values()):
                    break
                self._changed.wait(PATIENCE)
        return []

    def _choose(self, ready: Sequence[str]) -> list[str]:
        """Streams whose targets fit into one call; at least one."""
        chosen: list[str] = []
        count = 0
        for name in ready:
            count += len(self._streams[name].boxes)
            if chosen and count > self._most:
                break
            chosen.append(name)
        return chosen

    def _track(self, taken: Taken) -> Iterator[StreamResult]:
        going_on = []
        for name, arrived in taken:
            stream = self._streams[name]
            if stream.ids:
                going_on.append((name, arrived))
                continue
            try:
                targets = self._begin(stream, arrived)
            except SpmError as error:
                self._fail(stream, error)
            else:
                yield self._result(name, arrived, targets)
        yield from self._update(going_on)

    def _begin(self, stream: Stream, arrived: Arrived) -> dict[str, Tracked]:
        tracked = {}
        for target, box in stream.boxes.items():
            id = stream.ids[target] = self._tracker.add(arrived.frame.picture, box)
            tracked[target] = Tracked(box, None, self._tracker.corners(id))
        return tracked

    def _update(self, taken: Taken) -> list[StreamResult]:
        """All together; where a frame cannot be used, one stream after the other, so that only its own fails."""
        if not taken:
            return []
        frames = {id: arrived.frame.picture for name, arrived in taken for id in self._streams[name].ids.values()}
        try:
            found = self._tracker.update_each(frames, clock=self._clock([name for name, _ in taken]))
        except SpmError as error:
            if len(taken) > 1:
                return [result for one in taken for result in self._update([one])]
            self._fail(self._streams[taken[0][0]], error)
            return []
        results = []
        for name, arrived in taken:
            ids = self._streams[name].ids
            targets = {t: Tracked(found[id].box, found[id], self._tracker.corners(id)) for t, id in ids.items()}
            results.append(self._result(name, arrived, targets))
        return results

    def _clock(self, names: Sequence[str]) -> Callable[[str], None]:
        """Tells the observer how long each stage took."""
        last = time.perf_counter()

        def clock(stage: str) -> None:
            nonlocal last
            last, begun = time.perf_counter(), last
            for name in names:
                self._observer.stage(name, stage, last - begun)

        return clock

    def _fail(self, stream: Stream, error: SpmError) -> None:
        """End a stream whose frame cannot be tracked on."""
        stream.failed += 1
        self._observer.failed(stream.reader.name)
        self._close(stream)
        with self._changed:
            stream.reader.error = error

    def _close(self, stream: Stream) -> None:
        stream.reader.close(time.monotonic())
        self._observer.connected(stream.reader.name, False)
        for id in stream.ids.values():
            self._tracker.remove(id)
        stream.ids = {}

    def _result(self, name: str, arrived: Arrived, targets: dict[str, Tracked]) -> StreamResult:
        age = time.monotonic() - arrived.at
        self._streams[name].tracked += 1
        self._observer.tracked(name, age, targets)
        return StreamResult(name, arrived.frame, targets, age)


def _box(box: Sequence[float]) -> Box:
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        x, y, width, height = (float(value) for value in box)
        return x, y, width, height
    raise SettingsError(f"a box is four numbers x, y, width, height, not {shortened(box)}")
