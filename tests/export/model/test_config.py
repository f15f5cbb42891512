"""The release's yaml configurations, both layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from spm_export.model.config import load_config
from spm_rt import ModelSpec, SettingsError, TrackerSettings

NEWER = """
NAME: OTB
TRACKER_TYPE: spm_tracker
USE_PIL_LIB: False
MODEL:
  BACKBONE: alexnet
  FEAT_NAME: conv5
  CM_WEIGHTS_FILE: cm_stage.pt
  FM_WEIGHTS_FILE: fm_stage.pt
  ANCHOR_RATIOS: [0.33, 0.5, 1, 2, 3]
  ANCHOR_SCALES: [8]
  Z_CONTEXT_AMOUNT: 0.5
  CM_CLS_SCALE_FACTOR: 0.001
  CM_BBOX_SCALE_FACTOR: 0.001
  FM_FEAT_NAME_LIST: ['conv4', 'conv2']
  FM_ROI_FEAT_BN: True
  FM_ROI_POOL_SIZE: (6, 6)
  FM_POOL_CONVS: [256]
  FM_HIDDEN_LAYER_CHANNEL: 256
  FM_NUM_LINEAR_LAYERS: 2
  FM_BBOX_VAR_INV: [5, 5, 10, 10]
INFERENCE:
  Z_SIZE: 127
  X_SIZE: 271
  FM_SCORE_INFLUENCE: 0.5
  FM_BBOX_INFLUENCE: 3.0
  WINDOWS_INFLUENCE: 0.5
  LR: 0.5
  MAX_SCORE_THRESHOLD: 0.2
  SCORE_THRESH_FACTOR: 0.1
  NUM_CANDIDATES: 9
  NUM_NEAR_CANDIDATES: 1
  NMS_THRESHOLD: 0.5
"""
OLDER = """
SPM_TRACKER:
  NAME: LaSOT
  USE_PIL_LIB: False
  CM:
    BACKBONE: alexnet
    FEAT_NAME: conv5
    WEIGHTS_FILE: rpn_epoch_49_params.pt
    ANCHOR_RATIOS: [0.33, 0.5, 1, 2, 3]
    ANCHOR_SCALES: [8]
    Z_CONTEXT_AMOUNT: 0.5
    CLS_SCALE_FACTOR: 0.001
    BBOX_SCALE_FACTOR: 0.001
  FM:
    WEIGHTS_FILE: rcnn_epoch_49_params.pt
    FEAT_NAME_LIST: "['conv4', 'conv2']"
    ROI_FEAT_BN: True
    ROI_POOL_SIZE: (6, 6)
    POOL_CONVS: (256,)
    HIDDEN_LAYER_CHANNEL: 256
    NUM_LINEAR_LAYERS: 2
    BBOX_VAR_INV: (5., 5., 10., 10.)
  INFERENCE:
    Z_SIZE: 127
    X_SIZE: 271
    FM_SCORE_INFLUENCE: 0.5
    FM_BBOX_INFLUENCE: 3.0
    WINDOWS_INFLUENCE: 0.4
    LR: 0.5
    MAX_SCORE_THRESHOLD: 0.2
    SCORE_THRESH_FACTOR: 0.1
    NUM_CANDIDATES: 9
    NUM_NEAR_CANDIDATES: 1
    NMS_THRESHOLD: 0.5
"""


def load(folder: Path, text: str) -> tuple[ModelSpec, TrackerSettings]:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(folder, text)
    return str(caught.value)


def test_the_newer_layout_gives_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, NEWER) == (ModelSpec(), TrackerSettings())


def test_the_older_layout_gives_the_defaults_with_its_window(tmp_path: Path) -> None:
    assert load(tmp_path, OLDER) == (ModelSpec(), TrackerSettings(window_influence=0.4))


@pytest.mark.parametrize(
    ("key", "value", "name", "wanted"),
    [
        ("FM_SCORE_INFLUENCE", 0.25, "fine_score_weight", 0.25),
        ("FM_BBOX_INFLUENCE", 2, "fine_box_weight", 2.0),
        ("WINDOWS_INFLUENCE", 0.3, "window_influence", 0.3),
        ("LR", 0.7, "size_rate", 0.7),
        ("MAX_SCORE_THRESHOLD", 0.15, "update_threshold", 0.15),
        ("SCORE_THRESH_FACTOR", 0.2, "score_floor", 0.2),
        ("NUM_CANDIDATES", 5, "num_candidates", 5),
        ("NUM_NEAR_CANDIDATES", 0, "num_near_candidates", 0),
        ("NMS_THRESHOLD", 0.6, "nms_threshold", 0.6),
    ],
)
def test_every_key_reaches_its_setting(key: str, value: object, name: str, wanted: object, tmp_path: Path) -> None:
    _, settings = load(tmp_path, f"INFERENCE:\n  {key}: {value}\n")
    assert getattr(settings, name) == wanted


@pytest.mark.parametrize(
    ("key", "text", "name", "wanted"),
    [
        ("ANCHOR_RATIOS", "[0.5, 1]", "anchor_ratios", (0.5, 1.0)),
        ("ANCHOR_SCALES", "(4, 8)", "anchor_scales", (4.0, 8.0)),
        ("FM_BBOX_VAR_INV", "[1, 2, 3, 4]", "fine_weights", (1.0, 2.0, 3.0, 4.0)),
        ("CM_CLS_SCALE_FACTOR", "0.01", "coarse_scale_factor", (0.01, 0.001)),
        ("CM_BBOX_SCALE_FACTOR", "0.02", "coarse_scale_factor", (0.001, 0.02)),
    ],
)
def test_every_key_reaches_its_place_in_the_model(
    key: str, text: str, name: str, wanted: object, tmp_path: Path
) -> None:
    spec, _ = load(tmp_path, f"MODEL:\n  {key}: {text}\n")
    assert getattr(spec, name) == wanted


def test_the_threshold_that_no_file_sets_is_the_releases(tmp_path: Path) -> None:
    _, settings = load(tmp_path, "INFERENCE:\n  LR: 0.5\n")
    assert settings.update_threshold == 0.1


def test_found_is_never_below_the_update_threshold(tmp_path: Path) -> None:
    _, settings = load(tmp_path, "INFERENCE:\n  MAX_SCORE_THRESHOLD: 0.6\n")
    assert settings.found_threshold == 0.6


@pytest.mark.parametrize("text", ["'[0.33, 0.5, 1, 2, 3]'", "(0.33, 0.5, 1, 2, 3)", "[0.33, 0.5, 1, 2, 3]"])
def test_text_that_is_a_literal_counts_as_what_it_says(text: str, tmp_path: Path) -> None:
    assert load(tmp_path, f"MODEL:\n  ANCHOR_RATIOS: {text}\n")[0] == ModelSpec()


def test_the_other_input_path_is_refused(tmp_path: Path) -> None:
    assert "USE_PIL_LIB is True; only False is implemented" in refused(tmp_path, "USE_PIL_LIB: True\n")


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("MODEL", "BACKBONE: resnet50"),
        ("MODEL", "FEAT_NAME: conv4"),
        ("MODEL", "FM_FEAT_NAME_LIST: [conv2, conv4]"),
        ("MODEL", "FM_ROI_FEAT_BN: False"),
        ("MODEL", "FM_POOL_CONVS: [256, 256]"),
        ("MODEL", "FM_ROI_POOL_SIZE: [7, 7]"),
        ("MODEL", "FM_NUM_LINEAR_LAYERS: 3"),
        ("MODEL", "CM_HEAD_CHANNELS: 128"),
        ("MODEL", "Z_CONTEXT_AMOUNT: 0.3"),
        ("INFERENCE", "X_SIZE: 255"),
        ("INFERENCE", "Z_SIZE: 255"),
        ("INFERENCE", "ENABLE_FM_BBOX_REFINE: False"),
    ],
)
def test_networks_that_are_not_implemented_are_named(section: str, line: str, tmp_path: Path) -> None:
    message = refused(tmp_path, f"{section}:\n  {line}\n")
    assert f"{section}.{line.split(':')[0]} is " in message
    assert "is implemented" in message


def test_everything_wrong_is_named_in_one_error(tmp_path: Path) -> None:
    text = "SPEED: 3\nMODEL:\n  COLOUR: red\n  BACKBONE: vgg\nINFERENCE:\n  LR: fast\n  TURBO: 1\n"
    message = refused(tmp_path, text)
    for part in (
        "config.yaml",
        "unknown key SPEED",
        "unknown key MODEL.COLOUR",
        "MODEL.BACKBONE is 'vgg'",
        "INFERENCE.LR is 'fast'",
        "unknown key INFERENCE.TURBO",
    ):
        assert part in message


def test_unknown_keys_of_the_older_layout_are_named(tmp_path: Path) -> None:
    message = refused(tmp_path, "SPM_TRACKER:\n  CM:\n    SPEED: 1\n  FM:\n    SPEED: 2\n  SPEED: 3\n")
    for key in ("MODEL.CM_SPEED", "MODEL.FM_SPEED", "SPEED"):
        assert f"unknown key {key}" in message


@pytest.mark.parametrize(
    "line",
    [
        "INFERENCE: {LR: 7}",
        "INFERENCE: {LR: }",
        "INFERENCE: {LR: fast}",
        "INFERENCE: {NUM_CANDIDATES: 0}",
        "INFERENCE: {NUM_CANDIDATES: many}",
        "INFERENCE: {NUM_CANDIDATES: .inf}",
        "INFERENCE: {NUM_CANDIDATES: 4.5}",
        "INFERENCE: {NMS_THRESHOLD: .nan}",
        "INFERENCE: [1]",
        "MODEL: 3",
        "MODEL: {ANCHOR_RATIOS: []}",
        "MODEL: {ANCHOR_RATIOS: 3}",
        "MODEL: {ANCHOR_RATIOS: [1, .nan]}",
        "MODEL: {FM_BBOX_VAR_INV: [1, 2]}",
        "MODEL: {CM_CLS_SCALE_FACTOR: much}",
        "MODEL: {CM_CLS_SCALE_FACTOR: [1]}",
        "MODEL: {CM_BBOX_SCALE_FACTOR: .inf}",
    ],
)
def test_values_that_make_no_sense_are_refused(line: str, tmp_path: Path) -> None:
    assert "config.yaml" in refused(tmp_path, line + "\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just words",
        "- a\n- b\n",
        "42",
        "a: [1, 2",
        "a: b: c",
        "SPM_TRACKER: 3\n",
        "!!python/object/apply:os.getcwd []",
        "\x00",
    ],
)
def test_foreign_files_are_refused(text: str, tmp_path: Path) -> None:
    assert "config.yaml" in refused(tmp_path, text)


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(SettingsError, match=r"binary\.yaml: not a readable yaml file"):
        load_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nothing\.yaml"):
        load_config(tmp_path / "nothing.yaml")
