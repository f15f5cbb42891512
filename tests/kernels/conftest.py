"""The host build, once per session and in both orders of threads."""

from __future__ import annotations

import ctypes

import pytest

from .host import build


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return build(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(params=["forwards", "backwards"])
def library(request: pytest.FixtureRequest, built: ctypes.CDLL) -> ctypes.CDLL:
    """The host build. Within a phase of a block, threads run in either order: no result may depend on it."""
    built.spm_set_order(int(request.param == "backwards"))
    return built
