"""``backend="auto"``: what is measured, what is remembered, and when the order decides instead."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spm_rt import BackendError, Bundle
from spm_rt.backends import BACKENDS, ON_CPU, auto, available, chosen_because, load_backend
from spm_rt.backends.auto import choose, pick
from spm_rt.backends.registry import BackendEntry

from ...support.fakes.backend import BrightBackend, BrightContext

NAMES = ("first", "second")
PACKAGES = {"first": "numpy", "second": "pytest"}


class PacedBackend(BrightBackend):
    """Takes its time."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__()
        self.name = name
        self.seconds = seconds

    def context(self) -> BrightContext:
        context = super().context()
        search = context.search
        context.search = lambda: (time.sleep(self.seconds), search())[1]  # type: ignore[method-assign]
        return context


@pytest.fixture(autouse=True)
def measuring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure, and remember it here."""
    monkeypatch.delenv(auto.VARIABLE)
    monkeypatch.setenv("SPM_RT_CACHE", str(tmp_path / "cache"))
    entries = {name: BackendEntry(name, name, package, package, "") for name, package in PACKAGES.items()}
    monkeypatch.setattr(auto, "BACKENDS", {**BACKENDS, **entries})


def paced(seconds: dict[str, float], loads: list[str] | None = None) -> Callable[[str], Any]:
    """Loads fakes; a time below zero cannot be loaded."""

    def load(name: str) -> PacedBackend:
        if loads is not None:
            loads.append(name)
        if seconds[name] < 0:
            raise BackendError(f"{name} cannot be loaded")
        return PacedBackend(name, seconds[name])

    return load


def chosen(bundle: Bundle, load: Callable[[str], Any], **how: Any) -> tuple[str, str]:
    backend, reason = choose(bundle, NAMES, how, load)
    return backend.name, reason


@pytest.mark.parametrize(("seconds", "wanted"), [((0.001, 0.05), "first"), ((0.05, 0.001), "second")])
def test_the_faster_one_is_taken(seconds: tuple[float, float], wanted: str, bundle: Bundle) -> None:
    name, reason = chosen(bundle, paced(dict(zip(NAMES, seconds, strict=True))))
    assert name == wanted
    assert "measured just now" in reason
    assert "first" in reason
    assert "second" in reason


def test_what_was_measured_is_remembered(bundle: Bundle) -> None:
    assert chosen(bundle, paced({"first": 0.05, "second": 0.001}))[0] == "second"
    loads: list[str] = []
    # The times are the old ones, whatever they would be today, and only the chosen one is loaded.
    name, reason = chosen(bundle, paced({"first": 0.001, "second": 0.05}, loads))
    assert (name, loads) == ("second", ["second"])
    assert "measured on this machine before" in reason


def test_other_circumstances_are_measured_anew(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_first, slow_second = paced({"first": 0.05, "second": 0.001}), paced({"first": 0.001, "second": 0.05})
    assert chosen(bundle, slow_first, threads=1)[0] == "second"
    assert chosen(bundle, slow_second, threads=2)[0] == "first"
    assert chosen(bundle, slow_second, threads=1)[0] == "second"
    monkeypatch.setattr(auto, "processor", lambda: "another")
    assert chosen(bundle, slow_second, threads=1)[0] == "first"
    monkeypatch.setattr(importlib.metadata, "version", lambda library: "a later one")
    assert chosen(bundle, slow_first, threads=1)[0] == "second"


def test_noise_does_not_decide() -> None:
    assert pick(NAMES, {"first": 0.0300, "second": 0.0290}) == "first"
    assert pick(NAMES, {"first": 0.0300, "second": 0.0280}) == "second"


def test_one_that_cannot_be_loaded_is_passed_over(bundle: Bundle) -> None:
    assert chosen(bundle, paced({"first": -1, "second": 0.05}))[0] == "second"
    assert chosen(bundle, paced({"first": 0.05, "second": -1}), threads=1)[0] == "first"
    with pytest.raises(BackendError, match="first cannot be loaded"):
        chosen(bundle, paced({"first": -1, "second": -1}), threads=2)


BOTH = {"first": 0.05, "second": 0.001}
ONE_FAILS = {"first": 0.05, "second": -1}


def test_a_failure_is_told_and_not_remembered(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    name, reason = chosen(bundle, paced(ONE_FAILS))
    assert (name, "second cannot be used (second cannot be loaded)" in reason) == ("first", True)
    assert "auto leaves second out: second cannot be loaded" in caplog.messages
    # A copy of the same bundle that can be loaded, or the library mended.
    assert chosen(bundle, paced(BOTH))[0] == "second"
    assert "before" in chosen(bundle, paced(BOTH))[1]


@pytest.mark.parametrize("fixed", [False, True], ids=["measured before", "fixed order"])
def test_where_the_chosen_one_fails_the_other_is_taken(
    fixed: bool, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen(bundle, paced(BOTH))
    if fixed:
        monkeypatch.setenv(auto.VARIABLE, "fixed")
    failing = NAMES[0] if fixed else NAMES[1]
    name, reason = chosen(bundle, paced({**BOTH, failing: -1}))
    assert (name, f"{failing} cannot be used" in reason) == (({*NAMES} - {failing}).pop(), True)


def test_times_that_are_no_numbers_are_measured_anew(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier versions kept failures as endless times."""
    monkeypatch.setattr(auto.json, "dumps", lambda *_, **__: '{"first": 0.05, "second": Infinity}')
    chosen(bundle, paced(BOTH))
    monkeypatch.undo()
    monkeypatch.setattr(auto, "BACKENDS", {**BACKENDS, **{n: BackendEntry(n, n, n, n, "") for n in NAMES}})
    assert auto._remembered({}, NAMES) is None


def test_the_order_decides_where_it_is_told_to(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(auto.VARIABLE, "fixed")
    loads: list[str] = []
    name, reason = chosen(bundle, paced({"first": 0.05, "second": 0.001}, loads))
    assert (name, loads) == ("first", ["first"])
    assert "SPM_RT_AUTO" in reason


@pytest.mark.parametrize("place", ["off", "file"])
def test_the_order_decides_where_nothing_can_be_remembered(
    place: str, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SPM_RT_CACHE", "off" if place == "off" else str(tmp_path / "file"))
    loads: list[str] = []
    assert chosen(bundle, paced({"first": 0.05, "second": 0.001}, loads))[0] == "first"
    assert loads == ["first"]


def test_a_single_one_is_not_measured(bundle: Bundle) -> None:
    backend, reason = choose(bundle, ("first",), {}, paced({"first": 0.001}))
    assert backend.name == "first"
    assert reason == "the only one installed"


def test_real_backends_are_measured_and_say_so(bundle: Bundle) -> None:
    names = [name for name in available() if name in ON_CPU]
    if len(names) < 2:
        pytest.skip("one inference library is installed")
    first = load_backend(bundle)
    assert all(name in chosen_because(first) for name in names)
    again = load_backend(bundle)
    assert again.name == first.name
    assert "before" in chosen_because(again)
    assert chosen_because(load_backend(bundle, first.name)) == ""


def test_on_other_devices_nothing_is_measured(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "choose", lambda *_: pytest.fail("was asked"))
    with pytest.raises(BackendError):
        load_backend(bundle, device="abacus")


def test_libraries_that_are_not_installed_do_not_compete(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "openvino" else find(name))
    backend = load_backend(bundle)
    assert (backend.name, chosen_because(backend)) == ("onnxruntime", "the only one installed")
