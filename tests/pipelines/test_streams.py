"""Several sources at once: what is read, left out, opened again and given up."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from spm_rt.errors import ClosedError, SettingsError
from spm_rt.pipelines.streams import StreamOptions, StreamResult, StreamTracker

from ..support.fakes.backend import bright_tracker, moving_disc
from ..support.media.films import COUNT, number_of
from ..support.media.servers import serve

DISC = (60.0, 40.0, 40.0, 40.0)
QUICK = {"first_wait": 0.02, "longest_wait": 0.04}


def numbers(results: list[StreamResult], stream: str) -> list[int]:
    return [number_of(result.frame.picture) for result in results if result.stream == stream]


def test_files_lose_no_frame_and_are_tracked_as_each_alone(streams: StreamTracker, discs: Path, film: Path) -> None:
    streams.add("discs", discs, {"left": DISC, "right": (70, 45, 40, 40)}, StreamOptions(opening={"rate": 10}))
    for name in ("a", "b", "c"):
        streams.add(name, film, {"target": (10, 10, 30, 30)})
    results = list(streams)
    for name in ("a", "b", "c"):
        assert numbers(results, name) == list(range(COUNT))
        times = [result.frame.time for result in results if result.stream == name]
        assert times == pytest.approx([k / 24 for k in range(COUNT)], abs=0.001)
    alone = bright_tracker()
    frames = moving_disc()
    alone.init(frames[0], DISC)
    wanted = [DISC, *(alone.update(frame).box for frame in frames[1:])]
    assert [result.targets["left"].box for result in results if result.stream == "discs"] == wanted
    report = streams.report()
    assert (report["a"].read, report["a"].dropped, report["a"].tracked) == (COUNT, 0, COUNT)
    assert not any(entry.live or entry.error or entry.reconnects for entry in report.values())


def test_of_a_live_source_the_newest_frame_is_tracked_on_and_others_are_counted(
    streams: StreamTracker, film: Path
) -> None:
    streams.add("live", film, {"target": (10, 10, 30, 30)}, StreamOptions(live=True, attempts=1))
    results = []
    for result in streams:
        results.append(result)
        if len(results) == 1:
            deadline = time.monotonic() + 20  # until all others are read, which needs nobody to take them
            while streams.report()["live"].read < COUNT and time.monotonic() < deadline:
                time.sleep(0.01)
        if result.frame.index >= COUNT - 1:
            streams.stop()
    report = streams.report()["live"]
    assert numbers(results, "live")[-1] == COUNT - 1
    assert report.dropped >= COUNT - 3
    assert 0 <= report.read - report.dropped - report.tracked <= 1


def test_a_source_that_hangs_slows_nobody_and_closing_does_not_wait_for_it(
    streams: StreamTracker, discs: Path, film: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it waits for somebody who writes
    with serve(film.read_bytes(), sent=0, hangs=True) as address:
        streams.add("silent", f"{address}/film.ts", {"t": DISC}, StreamOptions(timeout=30))
        streams.add("pipe", tmp_path / "pipe", {"t": DISC}, StreamOptions(timeout=30))
        streams.add("discs", discs, {"t": DISC})
        began = time.monotonic()
        iterator = iter(streams)
        assert [next(iterator).stream for _ in range(8)] == ["discs"] * 8
        assert time.monotonic() - began < 3
        streams.close()
        assert list(iterator) == []
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("sent", [None, 9_000])
def test_a_live_source_that_ends_or_stops_is_opened_again_and_its_target_goes_on(
    streams: StreamTracker, film: Path, sent: int | None
) -> None:
    with serve(film.read_bytes(), sent=sent, hangs=sent is not None) as address:
        options = StreamOptions(timeout=0.6, **QUICK)
        streams.add("camera", f"{address}/film.ts", {"target": (10, 10, 30, 30)}, options)
        results = []
        for result in streams:
            results.append(result)
            if streams.report()["camera"].reconnects >= 2:
                streams.stop()
    indices, times = zip(*[(r.frame.index, r.frame.time) for r in results], strict=True)
    assert list(indices) == sorted(set(indices))
    assert list(times) == sorted(set(times))
    report = streams.report()["camera"]
    assert (report.live, report.reconnects >= 2, report.error) == (True, True, None)
    assert [result.targets["target"].result is None for result in results] == [True] + [False] * (len(results) - 1)


def test_a_library_that_hangs_is_left_behind_and_the_source_opened_again(
    streams: StreamTracker, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spm_rt.pipelines.streams import reader

    opened, real, done = [], reader.open_source, threading.Event()

    def hang_at_first(*arguments: Any, **options: Any) -> Any:
        opened.append(arguments)
        if len(opened) == 1:
            done.wait(60)
        return real(*arguments, **options)

    monkeypatch.setattr(reader, "open_source", hang_at_first)
    options = StreamOptions(live=True, timeout=0.2, **QUICK)
    streams.add("camera", film, {"target": (10, 10, 30, 30)}, options)
    first = next(iter(streams))
    done.set()
    assert (number_of(first.frame.picture) < COUNT, len(opened)) == (True, 2)


def test_what_is_wrong_with_one_stream_ends_that_stream_only(
    streams: StreamTracker, discs: Path, film: Path, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for k, size in enumerate([(120, 160), (120, 160), (60, 80)]):
        cv2.imwrite(str(mixed / f"{k}.png"), np.full((*size, 3), 90, np.uint8))
    streams.add("discs", discs, {"t": DISC})
    streams.add("missing", tmp_path / "none.mp4", {"t": DISC})
    streams.add("outside", film, {"in": (10, 10, 30, 30), "out": (900, 900, 20, 20)})
    streams.add("mixed", mixed, {"t": DISC})
    streams.add("nobody", "http://127.0.0.1:9/x.ts", {"t": DISC}, StreamOptions(attempts=2, **QUICK))
    results = list(streams)
    count = {name: sum(result.stream == name for result in results) for name in streams.report()}
    assert count == {"discs": 8, "missing": 0, "outside": 0, "mixed": 2, "nobody": 0}
    said = {name: str(entry.error) for name, entry in streams.report().items()}
    assert said["discs"] == "None"
    assert "no such file" in said["missing"]
    assert "wholly outside the frame" in said["outside"]
    assert "80 x 60, those before it are 160 x 120" in said["mixed"]
    assert "http://127.0.0.1:9/x.ts: cannot be opened" in said["nobody"]
    assert streams.report()["outside"].failed == 1
    assert len(streams.tracker) == 2  # of the streams that came to their end


def test_what_makes_no_sense_is_refused(streams: StreamTracker, discs: Path) -> None:
    streams.add("a", discs, {"t": DISC})
    for name, boxes in [("a", {"t": DISC}), ("b", {}), ("b", {"t": (1, 2, 3)})]:
        with pytest.raises(SettingsError):
            streams.add(name, discs, boxes)  # type: ignore[arg-type]
    for options in ({"timeout": 0}, {"first_wait": float("inf")}, {"attempts": 0}):
        with pytest.raises(SettingsError, match=next(iter(options))):
            StreamOptions(**options)  # type: ignore[arg-type]
    next(iter(streams))
    with pytest.raises(SettingsError, match="too late"):
        streams.add("b", discs, {"t": DISC})
    streams.close()
    with pytest.raises(ClosedError):
        next(iter(streams))
