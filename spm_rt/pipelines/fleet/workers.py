"""Who does the work: this process, or Ray's, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from ...errors import BackendError, SpmError, in_words
from ...terminal import Stopped, stop_signals
from .manifest import Work
from .video import track_video

Outcome = tuple[Work, dict[str, Any] | SpmError]
RETRIES = 5
"""How often a video is begun again whose worker or machine died."""


def here(works: Sequence[Work], settings: Mapping[str, Any]) -> Iterator[Outcome]:
    """One video after the other, in this process."""
    for work in works:
        try:
            yield work, track_video(work, settings)
        except SpmError as error:
            yield work, error


@contextlib.contextmanager
def ray_started(workers: int, address: str | None) -> Iterator[None]:
    """Ray, on this machine alone or as a client of a cluster, while the block lasts.

    Raises:
        BackendError: the cluster cannot be reached.
        KeyboardInterrupt: a signal asked the command to end.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    given: dict[str, Any] = {"address": address}
    if address is None:
        given = {"address": "local", "num_cpus": workers, "include_dashboard": False}
        # On every system, this binds to 127.0.0.1. Ray reads it when it is imported; by default, it makes the outside
        # address even of a `_node_ip_address` of 127.0.0.1, and its servers listen on all addresses.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # 30 are few where others use the cores
    import ray

    with _stopped_through_ray() as stop:
        try:
            try:
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **given)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise BackendError(f"Ray cannot be started ({in_words(error)})") from error
            except SystemExit as error:  # from Ray's own handler of SIGTERM
                raise Stopped(signal.SIGTERM) from error
            with stop_signals(stop):  # Ray has put its own handler in the place of ours
                yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _stopped_through_ray() -> Iterator[Callable[[int, FrameType | None], None]]:
    """Handles signals that ask the command to end, also those that come while Ray waits.

    Ray makes a plain KeyboardInterrupt, that of Ctrl-C, of whatever a handler raises there: the signal is remembered.
    """
    numbers: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        numbers.append(number)
        raise Stopped(number)

    try:
        with stop_signals(stop):
            yield stop
    except KeyboardInterrupt as error:
        if numbers and not isinstance(error, Stopped):
            raise Stopped(numbers[0]) from error
        raise


def on_ray(
    works: Sequence[Work], settings: Mapping[str, Any], workers: int, track: Callable[..., Any] = track_video
) -> Iterator[Outcome]:
    """Videos as tasks of Ray, as they are done. One whose worker dies is begun again, from its first frame.

    Tasks, not calls of an actor: Ray runs an actor's calls in another order once it was restarted.

    Args:
        works: what is to be done.
        settings: see :func:`~spm_rt.pipelines.fleet.video.track_video`.
        workers: videos at the same time.
        track: does one.
    """
    import ray

    remote = ray.remote(num_cpus=1, max_retries=RETRIES)(track)
    waiting = list(reversed(works))
    running: dict[Any, Work] = {}
    while waiting or running:
        while waiting and len(running) < 2 * workers:  # a worker that is done has the next one at hand
            work = waiting.pop()
            running[remote.remote(work, dict(settings))] = work
        done, _ = ray.wait(list(running), timeout=0.2)
        for reference in done:
            work = running.pop(reference)
            try:
                yield work, ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, SpmError):
                    raise
                yield work, error.cause
            except ray.exceptions.RayError as error:
                yield work, BackendError(f"its worker died {RETRIES + 1} times ({in_words(error)})")
