"""The host build, once per session and in both orders of threads."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spm_rt import Bundle

from ..support.emulator.host_build import built_for_the_host
from ..support.once import MadeOnce

if TYPE_CHECKING:
    from spm_export.model.network import SPMTracker

    from ..support.emulator.engines import Engines
    from ..support.emulator.networks import ResidentMachine


@pytest.fixture(scope="session")
def built() -> ctypes.CDLL:
    return built_for_the_host()


@pytest.fixture(params=["forwards", "backwards"])
def library(request: pytest.FixtureRequest, built: ctypes.CDLL) -> ctypes.CDLL:
    """The host build. Within a phase of a block, threads run in either order: no result may depend on it."""
    built.spm_set_order(int(request.param == "backwards"))
    return built


@pytest.fixture
def machine_for(built: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Bundle], Engines]:
    """Makes this a machine with a GPU and TensorRT; a bundle's engines lie in ``tmp_path / "engines"``."""
    from ..support.emulator.engines import machine_with

    return lambda bundle: machine_with(bundle, built, monkeypatch, tmp_path / "engines")


@pytest.fixture
def machine(machine_for: Callable[[Bundle], Engines], bundle: Bundle) -> Engines:
    """A GPU with engines of the module's bundle."""
    return machine_for(bundle)


@pytest.fixture
def resident(built: ctypes.CDLL, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> ResidentMachine:
    from ..support.emulator.networks import ResidentMachine

    return ResidentMachine(built, bundle, monkeypatch)


@pytest.fixture(scope="session")
def half_bundle(made_once: MadeOnce, default_model: SPMTracker) -> Bundle:
    """A float16 bundle of the shipped weights, for one target and for two; not verified, to be quick."""
    from ..support.exports import ExportOptions, export_unverified

    options = ExportOptions(targets=(1, 2), precision="float16")
    return Bundle.open(made_once("half_bundle", lambda folder: export_unverified(default_model, folder, options)))
