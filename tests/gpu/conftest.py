"""The host build, once per session and in both orders of threads."""

from __future__ import annotations

import ctypes

import pytest

import spm_export.bundle as exporter
from spm_export.bundle import ExportOptions, Verification, export_bundle
from spm_export.model.network import SPMTracker
from spm_export.proof.compare import TrackCheck
from spm_rt import Bundle

from ..support.host_build import build


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return build(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(params=["forwards", "backwards"])
def library(request: pytest.FixtureRequest, built: ctypes.CDLL) -> ctypes.CDLL:
    """The host build. Within a phase of a block, threads run in either order: no result may depend on it."""
    built.spm_set_order(int(request.param == "backwards"))
    return built


@pytest.fixture(scope="session")
def half_bundle(tmp_path_factory: pytest.TempPathFactory, default_model: SPMTracker) -> Bundle:
    """A float16 bundle of the shipped weights, for one target and for two; not verified, to be quick."""
    passed = Verification([], TrackCheck("none", 0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0))
    folder = tmp_path_factory.mktemp("half") / "bundle"
    options = ExportOptions(targets=(1, 2), precision="float16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "_verify", lambda *_: passed)
        export_bundle(default_model, folder, options, [], (0.0, 0.0, 1.0, 1.0), "none")
    return Bundle.open(folder)
