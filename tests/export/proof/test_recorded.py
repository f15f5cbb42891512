"""The PyTorch reference and the exported graphs against the recorded values of the release."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from spm_export.model.backend import reference_tracker
from spm_export.model.network import SPMTracker
from spm_rt import Bundle, Tracker
from spm_rt.backends import MODULES, load_backend
from spm_rt.bundle import VARIANTS
from spm_rt.frame.geometry import xywh_to_xyxy, xyxy_to_xywh

from ...support.networks import GraphNetwork, RuntimeNetwork, TorchNetwork
from ...support.recorded import SETS, TOLERANCES, Network, Recorded, failures, measure_rows, read_set, run_freely

CHIEF = ("torch", "portable", "fast_expanded")
"""Compared with all sets; the other forms of the graphs with two small ones."""
ROWS = [(n, s) for n in ("torch", *VARIANTS) for s in SETS if n in CHIEF or s in ("noise", "border_small")]
RUNTIME = ("torch", "onnxruntime", "openvino")
EVERYWHERE = {name for name in TOLERANCES if not name.startswith("track")}
HIDDEN = {"init_conv5_samples", "kbox_samples", "template_feat", "roi_feat_first"}
"""What some graphs do not compute in this form, or only inside a node."""


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest, synthetic_model: SPMTracker, synthetic_bundle: Path) -> Network:
    if request.param == "torch":
        return TorchNetwork(synthetic_model)
    bundle = Bundle.open(synthetic_bundle)
    if request.param in MODULES:
        pytest.importorskip(request.param)
        return RuntimeNetwork(load_backend(bundle, request.param))
    return GraphNetwork(bundle, request.param)


@pytest.mark.parametrize("name", SETS)
def test_frames_are_the_recorded_ones(name: str) -> None:
    recorded = read_set(name)
    found = [hashlib.sha256(frame.tobytes()).hexdigest() for frame in recorded.frames]
    assert found == list(recorded.arrays["frame_sha256"])


@pytest.mark.parametrize(("network", "name"), ROWS, indirect=["network"])
def test_rows_agree_stage_by_stage(network: Network, name: str) -> None:
    worst = measure_rows(network, read_set(name))
    assert failures(worst) == {}
    missing = EVERYWHERE - worst.keys()
    assert missing <= HIDDEN
    assert not missing or not isinstance(network, TorchNetwork)


@pytest.mark.parametrize("network", RUNTIME, indirect=True)
def test_window_influence_changes_the_choice_as_recorded(network: Network) -> None:
    worst = measure_rows(network, read_set("config"))
    assert failures(worst) == {}
    assert {"final_scores", "chosen", "box_out"} <= worst.keys()


@pytest.mark.parametrize("network", RUNTIME, indirect=True)
@pytest.mark.parametrize("name", [*SETS, "config"])
def test_free_run_takes_the_recorded_decisions(network: Network, name: str) -> None:
    assert failures(run_freely(network, read_set(name))) == {}


@pytest.mark.parametrize("name", [*SETS, "config"])
def test_exported_tracker_follows_the_recorded_track(name: str, synthetic_bundle: Path) -> None:
    recorded = read_set(name)
    compare_track(Tracker.load(synthetic_bundle, "onnxruntime", settings=recorded.settings), recorded)


@pytest.mark.parametrize("name", ["noise", "border_small"])
def test_reference_tracker_follows_the_recorded_track(name: str, synthetic_model: SPMTracker) -> None:
    recorded = read_set(name)
    compare_track(reference_tracker(synthetic_model, recorded.settings), recorded)


def compare_track(tracker: Tracker, recorded: Recorded) -> None:
    tracker.init(recorded.frames[0], xyxy_to_xywh(recorded.arrays["init_box"]))
    track = [xywh_to_xyxy(tracker.box)] + [xywh_to_xyxy(tracker.update(frame).box) for frame in recorded.frames[1:]]
    np.testing.assert_allclose(np.array(track), recorded.arrays["track"], rtol=0, atol=TOLERANCES["track"])
