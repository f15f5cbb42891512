"""The ONNX Runtime backend."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from spm_rt import BackendError, Bundle, BundleError, Tracker, TrackerSettings
from spm_rt.backends import load_backend
from spm_rt.backends.onnxruntime.backend import usable_cores
from spm_rt.results import Box

from ...support.follow import Frames, results_on


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_must_be_one_or_more(threads: int, bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=f"threads is {threads}; it must be a whole number, 1 or more"):
        load_backend(bundle, "onnxruntime", threads=threads)


def test_threads_are_as_asked_for(bundle: Bundle) -> None:
    assert load_backend(bundle, "onnxruntime", threads=1).description.endswith("1 threads")
    assert f"{usable_cores()} threads" in load_backend(bundle, "onnxruntime").description


@pytest.mark.parametrize(("version", "waiting"), [("1.24.1", "spin for 0 us"), ("1.26.0", "spin for 20 us")])
def test_how_threads_wait_changes_no_bit(
    version: str, waiting: str, bundle: Bundle, clip: Frames, clip_box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Tracker.load(bundle, "onnxruntime", threads=1)
    monkeypatch.setattr("onnxruntime.__version__", version)
    several = Tracker.load(bundle, "onnxruntime", threads=2)
    assert several.backend.description.endswith(f"2 threads that {waiting}")
    assert results_on(several, clip[:4], clip_box) == results_on(alone, clip[:4], clip_box)


# Devices.


def test_a_provider_that_this_build_lacks_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendError, match=r"no CUDAExecutionProvider \(it has CPUExecutionProvider"):
        load_backend(bundle, "onnxruntime", device="cuda")


def test_a_provider_that_silently_fell_back_is_an_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def __init__(self, path: str, options: object, providers: list[Any]) -> None:
            ((name, options_of_it),) = providers
            assert name == "CUDAExecutionProvider"
            assert options_of_it["device_id"] == "1"

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    with pytest.raises(BackendError, match="silently fell back from CUDAExecutionProvider to CPUExecutionProvider"):
        load_backend(bundle, "onnxruntime", device="cuda:1")


def test_a_providers_full_name_is_a_device(bundle: Bundle) -> None:
    assert "CPUExecutionProvider" in load_backend(bundle, "onnxruntime", device="CPUExecutionProvider").description


# Loading.


def test_a_graph_that_the_library_cannot_load_is_named(
    default_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPM_RT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "bundle"
    shutil.copytree(default_bundle, folder)
    opened = Bundle.open(folder)
    for path in folder.glob("*.onnx"):
        path.write_bytes(b"no graph")
    with pytest.raises(BackendError, match=r"template.*\.onnx: onnxruntime .* cannot load it"):
        load_backend(opened, "onnxruntime")


def test_numbers_of_targets_without_graphs_are_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no graphs for 5 targets"):
        load_backend(bundle, "onnxruntime", targets=5)


def test_a_damaged_bundle_is_refused_before_anything_is_loaded(default_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(default_bundle, folder)
    (folder / "verification.json").write_text("{}")
    with pytest.raises(BundleError, match=r"verification\.json"):
        Tracker.load(folder)


# Tracking.


def test_the_shipped_weights_find_the_target(default_bundle: Path, clip: Frames) -> None:
    results = results_on(Tracker.load(default_bundle), clip[:12])
    assert all(result.found for result in results)
    assert all(result.score > 0.5 for result in results)


def test_results_are_the_same_every_time(default_bundle: Path, clip: Frames) -> None:
    first = Tracker.load(default_bundle, "onnxruntime")
    runs = [results_on(tracker, clip[:6], candidates=True) for tracker in (first, first, first.sibling())]
    assert runs[0] == runs[1] == runs[2]


def test_a_template_stays_while_others_come_and_go(default_bundle: Path, clip: Frames, clip_box: Box) -> None:
    tracker = Tracker.load(default_bundle, "onnxruntime")
    wanted = results_on(tracker, clip[:6], candidates=True)
    tracker.init(clip[0], clip_box)
    other = tracker.sibling()
    other.init(clip[50], (300, 100, 90, 60))
    found = []
    for frame in clip[1:6]:
        other.update(clip[60])
        found.append(tracker.update(frame, candidates=True))
    assert found == wanted


@pytest.mark.parametrize("mode", ["series", "coarse"])
def test_modes_choose_differently_but_among_the_same_proposals(mode: str, default_bundle: Path, clip: Frames) -> None:
    trackers = [
        Tracker.load(default_bundle, "onnxruntime", settings=TrackerSettings(mode=m)) for m in ("series-parallel", mode)
    ]
    a, b = (results_on(tracker, [clip[0], clip[3]], candidates=True)[0] for tracker in trackers)
    assert sorted(c.coarse_score for c in a.candidates) == sorted(c.coarse_score for c in b.candidates)
    assert a.score != b.score


def test_settings_come_from_the_bundle_unless_given(default_bundle: Path) -> None:
    assert Tracker.load(default_bundle).settings == TrackerSettings()
    given = TrackerSettings(window_influence=0.1)
    assert Tracker.load(default_bundle, settings=given).settings == given
