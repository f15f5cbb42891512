"""Model specification and tracker settings: JSON and validation."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from spm_rt.errors import SettingsError
from spm_rt.models import MODELS
from spm_rt.settings import MODES, ModelSpec, TrackerSettings, from_json, to_json

KINDS = (ModelSpec, TrackerSettings)
CHANGED = (
    TrackerSettings(mode="series", num_candidates=5, num_near_candidates=0, window_influence=0.4, min_side=3),
    ModelSpec(anchor_ratios=(0.5, 1.0), fine_weights=(1, 2, 3, 4)),
    *MODELS.values(),
)


@pytest.mark.parametrize("settings", [ModelSpec(), TrackerSettings(), *CHANGED])
def test_settings_survive_json(settings: Any) -> None:
    assert from_json(type(settings), json.loads(json.dumps(to_json(settings)))) == settings


def test_fields_that_came_later_are_told_only_where_they_differ() -> None:
    assert not {"first_cell", "head", "deep_channels"} & to_json(ModelSpec()).keys()
    assert {"first_cell", "head", "deep_channels"} <= to_json(MODELS["light"]).keys()


@pytest.mark.parametrize("kind", KINDS)
def test_settings_are_frozen(kind: type[Any]) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind().mode = "series"


def test_spec_counts_its_anchors() -> None:
    assert (ModelSpec().anchors_per_cell, ModelSpec().anchor_count) == (5, 1805)


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
def test_the_middle_anchor_is_the_crops_centre_and_cells_fit(spec: ModelSpec) -> None:
    """What every model's numbers have to fulfil, so that a template in the middle is found in the middle."""
    assert spec.response_cells == spec.search_cells - spec.template_cells + 1
    assert spec.template_size + spec.stride * (spec.response_cells - 1) == spec.crop_size
    assert (spec.cells - spec.search_cells) % 2 == (spec.cells - spec.template_cells) % 2 == 0


SHARES = ("near_iou", "score_floor", "nms_threshold", "fine_score_weight", "window_influence", "size_rate")
NO_SHARES = (-0.01, 1.01, float("nan"), float("inf"), "0.5", None)
BAD: dict[type[Any], dict[str, tuple[Any, ...]]] = {
    TrackerSettings: {
        "mode": ("parallel", ""),
        "num_candidates": (0, 65, 2.5),
        "num_near_candidates": (2, -1),
        "rival_memory": (-1, 1001, 0.5, "3"),
        **dict.fromkeys((*SHARES, "update_threshold", "found_threshold"), NO_SHARES),
        "fine_box_weight": (-1.0, float("inf"), "3"),
        "min_side": (-1.0, float("nan")),
    },
    ModelSpec: {
        "backbone": ("resnet50", 3),
        "head": ("",),
        "first_cell": (-1.0, float("nan")),
        "deep_channels": (0, 96.5),
        "template_size": (0, 127.5),
        "crop_size": (-271,),
        "stride": (0,),
        "template_cells": ("6",),
        "search_cells": (0,),
        "response_cells": (-1,),
        "roi_cells": (1,),
        "anchor_ratios": ((), (1.0, -1.0), (1.0, float("nan"))),
        "anchor_scales": ((), (0.0,)),
        "fine_weights": ((1, 1, 1), (1, 1, 1, 0)),
        "context_amount": (0.4,),
        "coarse_scale_factor": ((0.001,), (0.001, float("inf"))),
        "pixel_mean_bgr": ((104.0, 117.0), (104.0, 117.0, float("nan"))),
    },
}


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [(kind, name, value) for kind, names in BAD.items() for name, values in names.items() for value in values],
)
def test_bad_values_are_named(kind: type[Any], name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is .*; it must be "):
        kind(**{name: value})


def test_every_mode_is_accepted() -> None:
    assert [TrackerSettings(mode=mode).mode for mode in MODES] == list(MODES)


def test_a_single_candidate_may_have_no_reserved_one() -> None:
    assert TrackerSettings(num_candidates=1).num_near_candidates == 1


def test_every_wrong_entry_is_named_in_one_error() -> None:
    values = to_json(TrackerSettings())
    del values["mode"]
    values |= {"speed": 3, "size_rate": "fast", "num_candidates": 2.5}
    with pytest.raises(SettingsError) as caught:
        from_json(TrackerSettings, values)
    for part in ("TrackerSettings", "unknown 'speed'", "missing mode", "size_rate: 'fast'", "num_candidates: 2.5"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (TrackerSettings, "mode", 3),
        *((TrackerSettings, "size_rate", value) for value in (True, None, float("nan"))),
        (TrackerSettings, "num_candidates", float("inf")),
        (TrackerSettings, "window_influence", 3.0),
        *((ModelSpec, "anchor_ratios", value) for value in (0.5, ["1"], {"a": 1})),
        (ModelSpec, "crop_size", "271"),
        (ModelSpec, "backbone", None),
    ],
)
def test_entries_that_are_mistyped_or_out_of_range_are_named(kind: type[Any], name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=name):
        from_json(kind, to_json(kind()) | {name: value})


@pytest.mark.parametrize("content", [None, [], "text", 3])
def test_something_else_than_an_object_is_refused(content: object) -> None:
    with pytest.raises(SettingsError, match="an object was expected"):
        from_json(TrackerSettings, content)


def test_whole_numbers_may_be_written_as_floats() -> None:
    assert from_json(TrackerSettings, to_json(TrackerSettings()) | {"num_candidates": 5.0}).num_candidates == 5


def test_settings_of_bundles_written_before_a_field_have_its_default() -> None:
    written = to_json(TrackerSettings(extent_correction=0.5))
    del written["extent_correction"]
    assert from_json(TrackerSettings, written) == TrackerSettings()
