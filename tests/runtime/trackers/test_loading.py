"""What is given to ``load`` is checked at once, whatever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_rt import BackendError, BundleError, MultiTracker, SettingsError, Tracker, TrackerSettings
from spm_rt.resident import ResidentMultiTracker, ResidentTracker
from spm_rt.settings import ModelSpec

from ...support.fakes.bundle import hollow_bundle

LOADS = (Tracker.load, MultiTracker.load, ResidentTracker.load, ResidentMultiTracker.load)
SETTINGS = [{"mode": "coarse"}, "coarse", 9, TrackerSettings, ModelSpec(), [TrackerSettings()], np.zeros((3, 3))]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.__self__.__name__)
def test_settings_of_another_type_are_refused_before_a_bundle_is_read(load: Any, settings: Any, tmp_path: Path) -> None:
    for bundle in (tmp_path / "none", hollow_bundle(tmp_path)):
        with pytest.raises(SettingsError, match=r"must be TrackerSettings \(dataclasses\.replace") as caught:
            load(bundle, settings=settings)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("threads", [0, -1, 1.0, "2", True, 10**9, 10**400, [1]])
def test_threads_are_a_number_of_threads(threads: Any, tmp_path: Path) -> None:
    for load in (Tracker.load, MultiTracker.load):
        with pytest.raises(BackendError, match=r"threads is .*; it must be a whole number"):
            load(hollow_bundle(tmp_path), threads=threads)


@pytest.mark.parametrize("names", [{"backend": None}, {"backend": ["openvino"]}, {"device": 0}, {"device": None}])
def test_backend_and_device_are_names(names: Any, tmp_path: Path) -> None:
    for load in (Tracker.load, MultiTracker.load):
        with pytest.raises(BackendError, match="backend and device are names"):
            load(hollow_bundle(tmp_path), **names)


@pytest.mark.parametrize("precision", [32, "", "float", ["float32"], b"float32"])
def test_precisions_that_nobody_offers_are_refused(precision: Any, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="is unknown; there are: float32"):
        Tracker.load(hollow_bundle(tmp_path), precision=precision)


@pytest.mark.parametrize("name", ["capacity", "per_call"])
@pytest.mark.parametrize("value", ["4", 4.0, -1, 10**400, True])
def test_numbers_of_targets_are_whole_numbers(name: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"{name} is .*; it must be a whole number"):
        MultiTracker.load(hollow_bundle(tmp_path), **{name: value})


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.__self__.__name__)
def test_what_is_no_bundle_is_refused(load: Any) -> None:
    with pytest.raises(BundleError, match="a bundle is the path"):
        load(None)


WRONG: list[dict[str, Any]] = [
    *({"mode": mode} for mode in (None, ["coarse"], "Coarse", b"coarse", 1)),
    *({"num_candidates": n} for n in (0, 65, 9.0, True, "9", 10**400, None)),
    *({"num_near_candidates": n} for n in (True, 2, 1.0, None)),
    *({"size_rate": share} for share in (True, "0.5", float("nan"), 1.01, 10**400, None, [0.5], np.zeros(2), 1j)),
    *({"min_side": side} for side in (-1, float("inf"), 1e7, 10**400, "10")),
]


@pytest.mark.parametrize("values", WRONG, ids=str)
def test_settings_that_make_no_sense_are_refused_when_they_are_made(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(SettingsError, match=f"^{name} is .*; it must be ") as caught:
        TrackerSettings(**values)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), 0, np.int64(1)])
def test_numbers_of_other_libraries_are_taken_as_pythons_own(number: Any) -> None:
    settings = TrackerSettings(size_rate=number, num_candidates=np.int64(7))
    assert (type(settings.size_rate), settings.size_rate) == (float, float(number))
    assert (type(settings.num_candidates), settings.num_candidates) == (int, 7)
