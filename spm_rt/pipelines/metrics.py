"""What happens to streams, as metrics for Prometheus: counters, gauges and histograms by stream.

================================  ==================================================================================
metric                            what
================================  ==================================================================================
``spm_frames_read_total``         frames that came
``spm_frames_total``              by ``outcome``: ``processed``, ``skipped`` (a newer one came), ``failed``
``spm_frame_seconds``             histogram by ``stage``: ``decode`` (and the wait for it), ``crop``, ``search``, ...
``spm_frame_age_seconds``         histogram: from a frame's arrival to its result
``spm_newest_frame_age_seconds``  gauge: since the newest frame came; grows where a source is silent
``spm_targets``                   gauge: targets that are followed
``spm_targets_found``             gauge: those of them that were found in the last frame
``spm_target_score``              gauge: the lowest of their scores in the last frame
``spm_lost_total``                a target was found in a frame and not in the next
``spm_found_again_total``         the other way round
``spm_stream_up``                 gauge: 1 while a source gives frames, 0 between two tries and after its end
``spm_reconnects_total``          a source was opened again with success
================================  ==================================================================================

``stream`` is a label of all of them. Targets are none: their number has no bound.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..errors import SettingsError
from ..outputs.base import Tracked
from .streams.observer import Observer

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)
"""Upper ends of the histograms' buckets: fine around a frame's time at 25 to 100 frames per second."""


class StreamMetrics(Observer):
    """Metrics of a :class:`spm_rt.pipelines.streams.StreamTracker`, whose ``observer`` this is.

    Args:
        registry: a ``prometheus_client.CollectorRegistry``; by default one of its own.

    Attributes:
        registry: has the metrics.
    """

    def __init__(self, registry: Any = None) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = registry or CollectorRegistry()

        def make(kind: Any, name: str, text: str, *labels: str, **options: Any) -> Any:
            return kind(f"spm_{name}", text, ["stream", *labels], registry=self.registry, **options)

        self._read = make(Counter, "frames_read_total", "Frames that came.")
        self._frames = make(Counter, "frames_total", "Frames by what became of them.", "outcome")
        self._seconds = make(Histogram, "frame_seconds", "Time of each stage.", "stage", buckets=SECONDS)
        self._age = make(Histogram, "frame_age_seconds", "From a frame's arrival to its result.", buckets=SECONDS)
        self._newest = make(Gauge, "newest_frame_age_seconds", "Since the newest frame came.")
        self._targets = make(Gauge, "targets", "Targets that are followed.")
        self._found = make(Gauge, "targets_found", "Targets that were found in the last frame.")
        self._score = make(Gauge, "target_score", "Lowest score in the last frame.")
        self._lost = make(Counter, "lost_total", "Targets found in a frame and not in the next.")
        self._again = make(Counter, "found_again_total", "Targets not found in a frame and found in the next.")
        self._up = make(Gauge, "stream_up", "Whether the source gives frames.")
        self._reconnects = make(Counter, "reconnects_total", "The source was opened again.")
        self._last: dict[str, dict[str, bool]] = {}

    def started(self, stream: str, newest_age: Callable[[], float]) -> None:
        self._newest.labels(stream).set_function(newest_age)
        for outcome in ("processed", "skipped", "failed"):
            self._frames.labels(stream, outcome)
        for metric in (self._read, self._lost, self._again, self._up, self._reconnects, self._targets):
            metric.labels(stream)  # what is 0 is there, not missing

    def read(self, stream: str, seconds: float) -> None:
        self._read.labels(stream).inc()
        self._seconds.labels(stream, "decode").observe(seconds)

    def dropped(self, stream: str) -> None:
        self._frames.labels(stream, "skipped").inc()

    def connected(self, stream: str, up: bool, again: bool = False, reason: str = "") -> None:
        self._up.labels(stream).set(up)
        if again:
            self._reconnects.labels(stream).inc()

    def stage(self, stream: str, name: str, seconds: float) -> None:
        self._seconds.labels(stream, name).observe(seconds)

    def tracked(self, stream: str, age: float, targets: Mapping[str, Tracked]) -> None:
        self._frames.labels(stream, "processed").inc()
        self._age.labels(stream).observe(age)
        found = {name: one.result is None or one.result.found for name, one in targets.items()}
        before = self._last.get(stream, found)
        self._last[stream] = found
        self._targets.labels(stream).set(len(found))
        self._found.labels(stream).set(sum(found.values()))
        self._score.labels(stream).set(min(1.0 if one.result is None else one.result.score for one in targets.values()))
        self._lost.labels(stream).inc(sum(before.get(name, now) and not now for name, now in found.items()))
        self._again.labels(stream).inc(sum(now and not before.get(name, now) for name, now in found.items()))

    def failed(self, stream: str) -> None:
        self._frames.labels(stream, "failed").inc()
        self._targets.labels(stream).set(0)
        self._found.labels(stream).set(0)


@contextlib.contextmanager
def serve_metrics(metrics: StreamMetrics, port: int, address: str = "127.0.0.1") -> Iterator[str]:
    """Serve metrics over HTTP while the block lasts.

    Args:
        metrics: what is served.
        port: 0: any that is free.
        address: of the interface; by default this machine alone can ask.

    Yields:
        The address to scrape.

    Raises:
        SettingsError: the port cannot be had.
    """
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, addr=address, registry=metrics.registry)
    except OSError as error:
        raise SettingsError(f"metrics cannot be served on {address}:{port} ({error.strerror or error})") from error
    try:
        yield f"http://{address}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(1.0)
