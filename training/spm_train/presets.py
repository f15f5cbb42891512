"""Recipes by name: values of options, which those on the command line replace."""

from __future__ import annotations

from typing import Any

_SHARES = {
    "stills": 0.38,
    "stills2": 0.12,
    "DAVIS 2016 (training split)": 0.1795,
    "SalientClosedBoundary": 0.0449,
    "w-tracking": 0.0365,
    "DAVIS 2017 (training split)": 0.0328,
    "DTB70": 0.0309,
    "LaSOT": 0.0244,
    "SAM 2 demo gallery": 0.0244,
    "CDnet 2012 (baseline/highway)": 0.0227,
    "Basketball MoCap (crop of a 4K video)": 0.0189,
    "ManakinTracker": 0.0154,
    "Drone-detection-dataset": 0.0116,
    "PETS 2009 (S3-MF1, crop 400x320)": 0.0109,
    "SPbSTU table objects (student project)": 0.0109,
    "2D MOT 2015 (TUD-Campus)": 0.0109,
    "CDnet 2012 (baseline/office)": 0.0093,
    "Drone-detection-dataset (visible)": 0.0072,
    "Drone-detection-dataset (infrared)": 0.0047,
    "LSOTB-TIR": 0.0039,
}
_LIGHT: dict[str, Any] = {
    "batch": 16,
    "warmup": 100,
    "ema": 0.998,
    "template_side": 159,
    "search_side": 223,
    "shift": 48.0,
    "wide_aspect": 0.4,
    "background": 0.5,
    "paste": 0.4,
    "proposed": 8,
    "distractors": 3,
    "crossed": 5,
    "near": 8,
    "beside": 0.2,
    "save_every": 150,
    "validation_samples": 96,
    "weights": _SHARES,
}

PRESETS: dict[str, dict[str, Any]] = {
    # 512 seconds of one H200, 5,137 steps, from the weights that were shipped until then.
    "h200": {
        "minutes": 8.3,
        "batch": 128,
        "rate": 8e-4,
        "backbone_rate": 0.4,
        "shallow_rate": 0.1,
        "train_shallow": True,
        "warmup": 200,
        "decay": 0.5,
        "ema": 0.999,
        "seed": 11,
        "search_side": 207,
        "shift": 44.0,
        "whole_after": 0.45,
        "whole_shift": 64.0,
        "wide_aspect": 0.4,
        "background": 0.5,
        "paste": 0.4,
        "proposed": 10,
        "distractors": 3,
        "crossed": 6,
        "overlap": 1.0,
        # One validation at the end, and no state to go on from: they cost seconds of a GPU.
        "validate_every": 1_000_000,
        "save_every": 1_000_000,
        "validation_samples": 384,
        "weights": _SHARES,
    },
    # Two stages on one core of a CPU. Heads on a frozen backbone, from --init none --backbone lite0.npz: 3,273 steps.
    "light_heads": {
        **_LIGHT,
        "model": "light",
        "minutes": 76.4,
        "rate": 1e-3,
        "backbone_rate": 0.0,
        "decay": 0.35,
        "seed": 52,
        "precision": "bfloat16",
        "validate_every": 300,
    },
    # Then all but the layers up to stride 4, from --init light_heads' last.safetensors: 96 minutes.
    "light": {
        **_LIGHT,
        "minutes": 96.0,
        "rate": 5e-4,
        "backbone_rate": 0.25,
        "decay": 0.55,
        "seed": 53,
        "precision": "float32",
        "whole_after": 0.8,
        "validate_every": 500,
        "graded_from": 0.2,
        "graded_to": 0.9,
        "extent": 0.3,
    },
}
"""Name -> option -> value. Shares of data sets that are not there count for nothing."""
