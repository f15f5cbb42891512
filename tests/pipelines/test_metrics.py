"""Metrics, scraped as Prometheus does it."""

from __future__ import annotations

import socket
import time
import urllib.request
from pathlib import Path

import pytest

from spm_rt import TrackResult
from spm_rt.errors import SettingsError
from spm_rt.outputs import Tracked
from spm_rt.pipelines.metrics import StreamMetrics, serve_metrics
from spm_rt.pipelines.streams import StreamOptions

from ..support.fakes.backend import bright_streams
from ..support.media.films import COUNT
from ..support.media.servers import serve

pytest.importorskip("prometheus_client", reason="the extra metrics is not installed")
BOX = (10.0, 10.0, 30.0, 30.0)


def scrape(address: str) -> dict[tuple[str, str, str], float]:
    """Every value by name, stream, and outcome or stage."""
    from prometheus_client.parser import text_string_to_metric_families

    with urllib.request.urlopen(address, timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    values = {}
    for sample in (sample for family in families for sample in family.samples if "le" not in sample.labels):
        what = sample.labels.get("outcome") or sample.labels.get("stage") or ""
        values[sample.name, sample.labels["stream"], what] = sample.value
    return values


def test_what_is_scraped_is_what_happened(film: Path) -> None:
    metrics = StreamMetrics()
    with (
        serve(film.read_bytes()) as server,
        serve_metrics(metrics, 0) as address,
        bright_streams(metrics) as streams,
    ):
        again = StreamOptions(first_wait=0.02, longest_wait=0.02)
        streams.add("file", film, {"a": BOX, "b": (40, 20, 30, 30)})
        streams.add("camera", f"{server}/film.ts", {"a": BOX}, again)
        streams.add("outside", film, {"a": (900, 900, 20, 20)})
        for _ in streams:
            if streams.report()["camera"].reconnects and streams.report()["file"].tracked == COUNT:
                streams.stop()
        streams.close()
        values, report = scrape(address), streams.report()
        assert address.startswith("http://127.0.0.1:")
    assert values["spm_frames_total", "file", "processed"] == COUNT
    assert values["spm_frames_total", "file", "skipped"] == 0
    assert values["spm_frames_total", "camera", "processed"] == report["camera"].tracked
    assert values["spm_frames_total", "camera", "skipped"] == report["camera"].dropped
    assert values["spm_frames_read_total", "camera", ""] == report["camera"].read
    assert values["spm_frames_total", "outside", "failed"] == 1
    assert values["spm_reconnects_total", "camera", ""] == report["camera"].reconnects > 0
    assert (values["spm_targets", "file", ""], values["spm_targets", "camera", ""]) == (2, 1)
    assert values["spm_frame_age_seconds_count", "file", ""] == COUNT
    for stage in ("crop", "search", "proposals", "relation", "fusion"):
        assert values["spm_frame_seconds_count", "file", stage] == COUNT - 1
    assert values["spm_frame_seconds_count", "file", "decode"] == COUNT
    assert 0 < values["spm_newest_frame_age_seconds", "file", ""] < 60


def result(found: bool) -> TrackResult:
    return TrackResult(BOX, 0.9 if found else 0.1, found, 0.5, 0.5, state="tracked" if found else "lost")


def test_targets_that_are_lost_and_found_again_are_counted() -> None:
    metrics = StreamMetrics()
    metrics.started("door", lambda: 0.5)
    for found in (None, True, False, False, True, False):
        one = None if found is None else result(found)
        metrics.tracked("door", 0.01, {"a": Tracked(BOX, one), "b": Tracked(BOX, result(True))})

    def value(name: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"stream": "door"})

    assert (value("spm_lost_total"), value("spm_found_again_total")) == (2, 1)
    assert (value("spm_targets"), value("spm_targets_found"), value("spm_target_score")) == (2, 1, 0.1)
    assert value("spm_newest_frame_age_seconds") == 0.5


def test_a_port_that_is_taken_is_named_and_one_that_was_served_is_free_again() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(SettingsError, match=str(taken.getsockname()[1])),
        serve_metrics(StreamMetrics(), taken.getsockname()[1]),
    ):
        pass
    with serve_metrics(StreamMetrics(), 0) as address:
        port = int(address.split(":")[2].split("/")[0])
    time.sleep(0.01)
    with serve_metrics(StreamMetrics(), port) as again:
        assert again == address
