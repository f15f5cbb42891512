"""The release's yaml configurations, in both of their layouts, as our settings."""

from __future__ import annotations

import ast
import dataclasses
import os
from pathlib import Path
from typing import Any

import yaml

from spm_rt.errors import SettingsError
from spm_rt.settings import ModelSpec, TrackerSettings

# Keys that choose among networks: only the value that is implemented is accepted.
_FIXED: dict[str, object] = {
    "TRACKER_TYPE": "spm_tracker",
    "USE_PIL_LIB": False,
    "MODEL.BACKBONE": "alexnet",
    "MODEL.FEAT_NAME": "conv5",
    "MODEL.CM_HEAD_CHANNELS": 256,
    "MODEL.FM_FEAT_NAME_LIST": ["conv4", "conv2"],
    "MODEL.FM_ROI_FEAT_BN": True,
    "MODEL.FM_POOL_CONVS": [256],
    "MODEL.FM_HIDDEN_LAYER_CHANNEL": 256,
    "MODEL.FM_NUM_LINEAR_LAYERS": 2,
    "MODEL.FM_NUM_CLASSES": 2,
    "MODEL.FM_ROI_POOL_SIZE": [6, 6],
    "MODEL.Z_CONTEXT_AMOUNT": 0.5,
    "INFERENCE.Z_SIZE": 127,
    "INFERENCE.X_SIZE": 271,
    "INFERENCE.ENABLE_FM_BBOX_REFINE": True,
}
# Keys without a meaning here: names, places of files, drawing.
_IGNORED = {"NAME", "MODEL.CM_WEIGHTS_FILE", "MODEL.FM_WEIGHTS_FILE", "INFERENCE.DEBUG_VIS_ON"}

_FIELDS = {
    "INFERENCE.FM_SCORE_INFLUENCE": "fine_score_weight",
    "INFERENCE.FM_BBOX_INFLUENCE": "fine_box_weight",
    "INFERENCE.WINDOWS_INFLUENCE": "window_influence",
    "INFERENCE.LR": "size_rate",
    "INFERENCE.MAX_SCORE_THRESHOLD": "update_threshold",
    "INFERENCE.FOUND_THRESHOLD": "found_threshold",
    "INFERENCE.RIVAL_MEMORY": "rival_memory",
    "INFERENCE.EXTENT_CORRECTION": "extent_correction",
    "INFERENCE.SCORE_THRESH_FACTOR": "score_floor",
    "INFERENCE.NUM_CANDIDATES": "num_candidates",
    "INFERENCE.NUM_NEAR_CANDIDATES": "num_near_candidates",
    "INFERENCE.NMS_THRESHOLD": "nms_threshold",
    "MODEL.ANCHOR_RATIOS": "anchor_ratios",
    "MODEL.ANCHOR_SCALES": "anchor_scales",
    "MODEL.FM_BBOX_VAR_INV": "fine_weights",
}
"""Key -> field of :class:`ModelSpec` (of the section MODEL) or :class:`TrackerSettings`. Some are ours."""
_SCALES = ("MODEL.CM_CLS_SCALE_FACTOR", "MODEL.CM_BBOX_SCALE_FACTOR")
# In the older layout these keys of CM keep their name under MODEL; all others get the prefix CM_.
_UNPREFIXED = {"BACKBONE", "FEAT_NAME", "ANCHOR_RATIOS", "ANCHOR_SCALES", "Z_CONTEXT_AMOUNT"}


def load_config(path: str | os.PathLike[str]) -> tuple[ModelSpec, TrackerSettings]:
    """Read a configuration of the release (``alexnet_c42_otb.yaml`` and its like).

    Values that a file leaves out are the release's defaults, except that ``MAX_SCORE_THRESHOLD`` is 0.1 there when no
    file sets it.

    Raises:
        SettingsError: unreadable, not such a file, unknown keys, or a network that is not implemented.
    """
    file = Path(path)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise SettingsError(f"{file}: not a readable yaml file ({error})") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{file}: not a configuration of an SPM-Tracker")
    return _interpret(_flatten(content, file), file)


def _flatten(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """Dotted keys of the newer layout, whichever the file has."""
    flat: dict[str, Any] = {}
    nested = content.get("SPM_TRACKER")
    top = {k: v for k, v in content.items() if k != "SPM_TRACKER"}
    if isinstance(nested, dict):
        for section, values in nested.items():
            if section in ("CM", "FM") and isinstance(values, dict):
                for key, value in values.items():
                    plain = section == "CM" and key in _UNPREFIXED
                    flat[f"MODEL.{key}" if plain else f"MODEL.{section}_{key}"] = value
            else:
                top[section] = values
    elif nested is not None:
        raise SettingsError(f"{file}: SPM_TRACKER must be a section")
    for section, values in top.items():
        if section in ("MODEL", "INFERENCE") and isinstance(values, dict):
            flat.update({f"{section}.{key}": value for key, value in values.items()})
        else:
            flat[str(section)] = values
    return {key: _literal(value) for key, value in flat.items()}


def _literal(value: Any) -> Any:
    """Strings that are Python literals count as what they say, as in the release."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _interpret(flat: dict[str, Any], file: Path) -> tuple[ModelSpec, TrackerSettings]:
    wrong: list[str] = []
    spec: dict[str, Any] = {}
    settings: dict[str, Any] = {"update_threshold": 0.1}
    scales = list(ModelSpec().coarse_scale_factor)
    for key, value in flat.items():
        if key in _FIXED:
            wanted = _FIXED[key]
            if (list(value) if isinstance(value, tuple) else value) != wanted:
                wrong.append(f"{key} is {value!r}; only {wanted!r} is implemented")
        elif key in _SCALES or key in _FIELDS:
            try:
                if key in _SCALES:
                    scales[_SCALES.index(key)] = float(value)
                elif key.startswith("MODEL."):
                    spec[_FIELDS[key]] = tuple(float(number) for number in value)
                else:
                    whole = isinstance(getattr(TrackerSettings(), _FIELDS[key]), int)
                    settings[_FIELDS[key]] = _whole(value) if whole else float(value)
            except (TypeError, ValueError, OverflowError):
                wrong.append(f"{key} is {value!r}")
        elif key not in _IGNORED:
            wrong.append(f"unknown key {key}")
    if wrong:
        raise SettingsError(f"{file}: " + "; ".join(wrong))
    try:
        model = ModelSpec(**spec, coarse_scale_factor=(scales[0], scales[1]))
        made = TrackerSettings(**settings)
    except SettingsError as error:
        raise SettingsError(f"{file}: {error}") from error
    return model, dataclasses.replace(made, found_threshold=max(made.found_threshold, made.update_threshold))


def _whole(value: Any) -> int:
    if value != int(value):
        raise ValueError
    return int(value)
