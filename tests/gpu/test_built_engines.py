"""What ``spm-export --engine`` builds with each of its options is what the TensorRT backend loads.

Both halves over their stand-ins: tests/support/fakes/tensorrt_builder.py and tests/support/emulator/engines.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_engines import Gpu
from spm_engines import plugin as roi_plugin
from spm_engines.build import build_engines
from spm_engines.toolchain import BuildOptions
from spm_export.proof.bounds import tolerance
from spm_rt import BackendError, Bundle, Tracker, TrackerSettings
from spm_rt.backends.tensorrt.backend import TF32_ALLOWED, TensorRtBackend

from ..support.emulator.engines import VERSION, Engines
from ..support.fakes import tensorrt_builder as fake_builder
from ..support.follow import Frames, results_on

Export = Callable[..., None]
CARD = Gpu("Emulated GPU", (9, 0), "580.1")


@pytest.fixture
def machine(machine: Engines, tmp_path: Path) -> Engines:
    """A GPU without an engine."""
    for path in (tmp_path / "engines").iterdir():
        path.unlink()
    return machine


@pytest.fixture
def export(machine: Engines, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Export:
    """As ``spm-export BUNDLE --engine tensorrt`` with options."""

    def run(version: str = VERSION, **options: Any) -> None:
        with monkeypatch.context() as patch:
            fake_builder.install(patch, CARD, version, bundle)
            patch.setattr(roi_plugin, "register_plugin", lambda library, capability: roi_plugin.Plugin("aot", "e" * 64))
            built = build_engines(bundle, BuildOptions("tensorrt", **options))
        assert {one.state for one in built} == {"built"}

    return run


@pytest.mark.parametrize(
    ("options", "loads", "asked", "count"),
    [
        ({}, VERSION, 9, 9),
        ({"tf32": True}, VERSION, 9, 9),
        ({"proposals": 16}, VERSION, 9, 16),
        ({"proposals": 16}, VERSION, 12, 16),
        ({"proposals": 3}, VERSION, 3, 3),
        ({"workspace": 1 << 28}, VERSION, 9, 9),
        ({"version_compatible": True}, "11.5.0.1", 9, 9),
        ({"hardware_compatible": True}, VERSION, 9, 9),
        ({"plugin": True}, VERSION, 9, 9),
        ({"version": "10.3.0.26"}, "10.3.0.26", 9, 9),
        ({"version": "10.3.0.26", "version_compatible": True}, "10.8.0.43", 9, 9),
    ],
)
def test_what_is_built_is_loaded(
    options: dict[str, Any], loads: str, asked: int, count: int, machine: Engines, export: Export, bundle: Bundle
) -> None:
    """``loads``: the version of TensorRT at run time; ``asked``: proposals of the settings; ``count``: the engine's."""
    export(**options)
    machine.__version__ = loads
    backend = TensorRtBackend(Bundle.of(bundle, TrackerSettings(num_candidates=asked)))
    assert backend.count == count
    assert ("TF32 in template, search, relation" in backend.description) == options.get("tf32", False)


def test_engines_for_more_proposals_track_as_onnx_runtime_does(export: Export, bundle: Bundle, clip: Frames) -> None:
    """Twelve proposals by an engine for sixteen."""
    export(proposals=16)
    settings = TrackerSettings(num_candidates=12)
    trackers = [Tracker.load(bundle, *where, settings=settings) for where in (("tensorrt", "cuda"), ("onnxruntime",))]
    results = (results_on(tracker, clip[:4], candidates=True) for tracker in trackers)
    for got, wanted in zip(*results, strict=True):
        np.testing.assert_allclose(got.box, wanted.box, atol=0.01)
        assert len(got.candidates or ()) == len(wanted.candidates or ())


def test_an_exact_engine_is_preferred_to_one_with_tf32(export: Export, bundle: Bundle) -> None:
    export(tf32=True)
    export()
    assert "TF32" not in TensorRtBackend(bundle).description


def test_tf32_may_be_as_far_off_as_float16_and_no_farther(machine: Engines, export: Export, bundle: Bundle) -> None:
    export(tf32=True)
    assert {name: tolerance(*name.split("."), "float16")[1] for name in TF32_ALLOWED} == TF32_ALLOWED
    machine.off["relation"] = 0.005
    TensorRtBackend(bundle)
    machine.off["relation"] = 0.01
    with pytest.raises(BackendError, match=r"relation\.scores by 0\.01\d* \(0\.00781 allowed\)"):
        TensorRtBackend(bundle)


def test_engines_for_too_few_proposals_are_named_with_what_to_do(export: Export, bundle: Bundle) -> None:
    export(proposals=5)
    with pytest.raises(BackendError, match=r"--proposals 9\n.*proposals is 5 instead of 9"):
        TensorRtBackend(bundle)
