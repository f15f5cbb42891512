"""The PyTorch reference and the exported graphs against the recorded values of the release."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from spm_bench.recorded.checks import Checks
from spm_bench.recorded.inner_values import GraphInnerValues, ReferenceInnerValues
from spm_bench.recorded.reading import RecordedSet
from spm_bench.recorded.score import Score
from spm_export.model.network import SPMTracker
from spm_rt import Bundle, Tracker
from spm_rt.backends import BACKENDS, load_backend
from spm_rt.backends.protocol import Backend
from spm_rt.bundle import FORMS

from ...support.recorded import SETS, SPEC, read_set

CHIEF = ("torch", "portable", "fast_expanded")
"""Compared with all sets; the other forms of the graphs with two small ones."""
STEPS = [(n, s) for n in ("torch", *FORMS) for s in SETS if n in CHIEF or s in ("noise", "border_small")]
RUNTIME = ("torch", "onnxruntime", "openvino")
EVERYWHERE = {
    *("init_x_box", "init_scale", "init_roi", "init_crop", "init_crop_fast", "init_conv2", "init_conv4", "init_conv5"),
    *("kcls", "kbox", "template_feat", "x_box", "scale", "crop", "crop_fast", "crop_mean", "conv2", "conv4", "conv5"),
    *("logits", "deltas", "cm_scores", "cm_boxes", "near_count", "near_iou", "num_prop", "prop_index", "prop_image"),
    *("prop_crop", "prop_score", "roi_feat_first", "fm_logits", "fm_deltas", "fm_scores", "fm_boxes", "win_scores"),
    *("pred_scores", "final_scores", "fused_image", "fused_crop", "chosen", "best_score", "updated", "box_out"),
}
HIDDEN = {"init_conv5", "kbox", "template_feat", "roi_feat_first"}
"""What some graphs do not compute in this form, or only inside a node."""


@pytest.fixture(scope="module")
def backend_of(synthetic_model: SPMTracker, synthetic_bundle: Path) -> Callable[[str], Backend]:
    """A backend by name: the reference, a form of the bundle's graphs, or one of the runtime's."""

    @functools.cache
    def load(name: str) -> Backend:
        if name == "torch":
            return ReferenceInnerValues(synthetic_model)
        bundle = Bundle.open(synthetic_bundle)
        if name not in BACKENDS:
            return GraphInnerValues(bundle, name)
        pytest.importorskip(name)
        return load_backend(bundle, name)

    return load


@pytest.mark.parametrize("name", SETS)
def test_frames_are_the_recorded_ones(name: str) -> None:
    score = Score(read_set(name), SPEC)
    score.frames()
    assert score.checks.passed


@pytest.mark.parametrize(("backend", "name"), STEPS)
def test_steps_agree_stage_by_stage(backend: str, name: str, backend_of: Callable[[str], Backend]) -> None:
    checks = steps_of(backend_of(backend), read_set(name))
    assert checks.failed == []
    missing = EVERYWHERE - checks.by_array.keys()
    assert missing <= HIDDEN
    assert not missing or backend != "torch"


@pytest.mark.parametrize("backend", RUNTIME)
def test_window_influence_changes_the_choice_as_recorded(backend: str, backend_of: Callable[[str], Backend]) -> None:
    checks = steps_of(backend_of(backend), read_set("config"))
    assert checks.failed == []
    assert {"final_scores", "chosen", "box_out"} <= checks.by_array.keys()


@pytest.mark.parametrize("backend", RUNTIME)
@pytest.mark.parametrize("name", [*SETS, "config"])
def test_free_run_takes_the_recorded_decisions(name: str, backend: str, backend_of: Callable[[str], Backend]) -> None:
    score = Score(read_set(name), SPEC)
    score.free_run(backend_of(backend).context())
    assert score.checks.failed == []
    assert set(score.checks.by_array) == {"track", "track_chosen", "track_updated", "track_prop_index"}


@pytest.mark.parametrize(
    ("backend", "name"),
    [*(("onnxruntime", name) for name in (*SETS, "config")), ("torch", "noise"), ("torch", "border_small")],
)
def test_tracker_follows_the_recorded_track(backend: str, name: str, backend_of: Callable[[str], Backend]) -> None:
    score = Score(read_set(name), SPEC)
    score.track(Tracker(backend_of(backend), SPEC, score.recorded.settings))
    assert score.checks.passed


def steps_of(backend: Backend, recorded: RecordedSet) -> Checks:
    score = Score(recorded, SPEC)
    score.steps(backend.context())
    return score.checks
