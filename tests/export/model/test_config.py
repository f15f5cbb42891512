"""The release's yaml configurations, both layouts."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from spm_export.model.checkpoint import default_weights, load_model
from spm_export.model.config import load_config
from spm_rt import ModelSpec, SettingsError, TrackerSettings
from spm_rt.models import MODELS

INFERENCE = """INFERENCE:
  Z_SIZE: 127
  X_SIZE: 271
  FM_SCORE_INFLUENCE: 0.5
  FM_BBOX_INFLUENCE: 3.0
  WINDOWS_INFLUENCE: {window}
  LR: 0.5
  MAX_SCORE_THRESHOLD: 0.2
  SCORE_THRESH_FACTOR: 0.1
  NUM_CANDIDATES: 9
  NUM_NEAR_CANDIDATES: 1
  NMS_THRESHOLD: 0.5
"""
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
""" + INFERENCE.format(window=0.5)
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
""" + textwrap.indent(INFERENCE.format(window=0.4), "  ")


def load(folder: Path, text: str) -> tuple[ModelSpec, TrackerSettings]:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(folder, text)
    return str(caught.value)


RATIOS = ["'[0.33, 0.5, 1, 2, 3]'", "(0.33, 0.5, 1, 2, 3)", "[0.33, 0.5, 1, 2, 3]"]
"""Text that is a literal counts as what it says."""


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (NEWER, TrackerSettings()),
        (OLDER, TrackerSettings(window_influence=0.4)),
        *((f"MODEL:\n  ANCHOR_RATIOS: {ratios}\n", TrackerSettings(update_threshold=0.1)) for ratios in RATIOS),
    ],
)
def test_both_layouts_give_the_defaults(text: str, settings: TrackerSettings, tmp_path: Path) -> None:
    assert load(tmp_path, text) == (ModelSpec(), settings)


@pytest.mark.parametrize(
    ("line", "name", "wanted"),
    [
        ("INFERENCE: {FM_SCORE_INFLUENCE: 0.25}", "fine_score_weight", 0.25),
        ("INFERENCE: {FM_BBOX_INFLUENCE: 2}", "fine_box_weight", 2.0),
        ("INFERENCE: {WINDOWS_INFLUENCE: 0.3}", "window_influence", 0.3),
        ("INFERENCE: {LR: 0.7}", "size_rate", 0.7),
        ("INFERENCE: {LR: 0.5}", "update_threshold", 0.1),  # the release's, where no file sets it
        ("INFERENCE: {MAX_SCORE_THRESHOLD: 0.15}", "update_threshold", 0.15),
        ("INFERENCE: {MAX_SCORE_THRESHOLD: 0.6}", "found_threshold", 0.6),  # never below the update threshold
        ("INFERENCE: {SCORE_THRESH_FACTOR: 0.2}", "score_floor", 0.2),
        ("INFERENCE: {NUM_CANDIDATES: 5}", "num_candidates", 5),
        ("INFERENCE: {NUM_NEAR_CANDIDATES: 0}", "num_near_candidates", 0),
        ("INFERENCE: {NMS_THRESHOLD: 0.6}", "nms_threshold", 0.6),
        ("MODEL: {ANCHOR_RATIOS: [0.5, 1]}", "anchor_ratios", (0.5, 1.0)),
        ("MODEL: {ANCHOR_SCALES: '(4, 8)'}", "anchor_scales", (4.0, 8.0)),
        ("MODEL: {FM_BBOX_VAR_INV: [1, 2, 3, 4]}", "fine_weights", (1.0, 2.0, 3.0, 4.0)),
        ("MODEL: {CM_CLS_SCALE_FACTOR: 0.01}", "coarse_scale_factor", (0.01, 0.001)),
        ("MODEL: {CM_BBOX_SCALE_FACTOR: 0.02}", "coarse_scale_factor", (0.001, 0.02)),
    ],
)
def test_every_key_reaches_its_setting(line: str, name: str, wanted: object, tmp_path: Path) -> None:
    spec, settings = load(tmp_path, line)
    assert {**vars(spec), **vars(settings)}[name] == wanted


@pytest.mark.parametrize(
    "key_and_value",
    [
        "USE_PIL_LIB True",
        "MODEL.BACKBONE resnet50",
        "MODEL.FEAT_NAME conv4",
        "MODEL.FM_FEAT_NAME_LIST [conv2, conv4]",
        "MODEL.FM_ROI_FEAT_BN False",
        "MODEL.FM_POOL_CONVS [256, 256]",
        "MODEL.FM_ROI_POOL_SIZE [7, 7]",
        "MODEL.FM_NUM_LINEAR_LAYERS 3",
        "MODEL.CM_HEAD_CHANNELS 128",
        "MODEL.Z_CONTEXT_AMOUNT 0.3",
        "INFERENCE.X_SIZE 255",
        "INFERENCE.Z_SIZE 255",
        "INFERENCE.ENABLE_FM_BBOX_REFINE False",
    ],
)
def test_networks_that_are_not_implemented_are_named(key_and_value: str, tmp_path: Path) -> None:
    key, value = key_and_value.split(" ", 1)
    message = refused(tmp_path, f"{key.replace('.', ': {')}: {value}{'}' * key.count('.')}\n")
    assert re.search(rf"{key} is .*; only .* is implemented", message)


def test_everything_wrong_is_named_in_one_error(tmp_path: Path) -> None:
    text = "SPEED: 3\nMODEL:\n  COLOUR: red\n  BACKBONE: vgg\nINFERENCE:\n  LR: fast\n  TURBO: 1\n"
    network = "MODEL.BACKBONE is 'vgg'; only 'alexnet' is implemented"
    wrong = f"unknown key MODEL.COLOUR; {network}; INFERENCE.LR is 'fast'; unknown key INFERENCE.TURBO"
    assert refused(tmp_path, text).endswith(f"config.yaml: unknown key SPEED; {wrong}")
    older = refused(tmp_path, "SPM_TRACKER:\n  CM:\n    SPEED: 1\n  FM:\n    SPEED: 2\n  SPEED: 3\n")
    assert older.endswith("unknown key MODEL.CM_SPEED; unknown key MODEL.FM_SPEED; unknown key SPEED")


@pytest.mark.parametrize(
    "text",
    [
        # Values that make no sense.
        *(f"INFERENCE: {{LR: {value}}}" for value in ("7", "", "fast")),
        *(f"INFERENCE: {{NUM_CANDIDATES: {value}}}" for value in ("0", "many", ".inf", "4.5")),
        "INFERENCE: {NMS_THRESHOLD: .nan}",
        "INFERENCE: [1]",
        "MODEL: 3",
        *(f"MODEL: {{ANCHOR_RATIOS: {value}}}" for value in ("[]", "3", "[1, .nan]")),
        "MODEL: {FM_BBOX_VAR_INV: [1, 2]}",
        *(f"MODEL: {{CM_CLS_SCALE_FACTOR: {value}}}" for value in ("much", "[1]")),
        "MODEL: {CM_BBOX_SCALE_FACTOR: .inf}",
        # Foreign files.
        *("", "just words", "- a\n- b", "42", "a: [1, 2", "a: b: c", "\x00"),
        *("SPM_TRACKER: 3", "!!python/object/apply:os.getcwd []", "TRACK: " + "[" * 3000),
    ],
)
def test_values_that_make_no_sense_and_foreign_files_are_refused(text: str, tmp_path: Path) -> None:
    assert "config.yaml" in refused(tmp_path, text + "\n")


def test_files_that_are_missing_or_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(SettingsError, match=r"binary\.yaml: not a readable yaml file"):
        load_config(path)
    with pytest.raises(SettingsError, match=r"nothing\.yaml"):
        load_config(tmp_path / "nothing.yaml")


def test_settings_that_the_release_does_not_have_are_read_too(tmp_path: Path) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text(NEWER + "  FOUND_THRESHOLD: 0.35\n  EXTENT_CORRECTION: 0.7\n  RIVAL_MEMORY: 20\n")
    settings = load_config(file)[1]
    assert (settings.found_threshold, settings.extent_correction, settings.rival_memory) == (0.35, 0.7, 20)


@pytest.mark.parametrize("name", MODELS)
def test_the_default_weights_of_each_model_have_a_configuration(name: str) -> None:
    file = default_weights(MODELS[name])
    assert file.name == f"spm_{name}.safetensors"
    assert load_model((), MODELS[name]).spec == MODELS[name] == load_model([file]).spec
    spec, settings = load_config(file.with_suffix(".yaml"))
    assert spec == ModelSpec()  # it says nothing of the network: the checkpoint does
    assert settings.extent_correction > 0
