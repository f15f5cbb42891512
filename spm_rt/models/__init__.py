"""The models that there are, by name."""

from __future__ import annotations

from ..settings import ModelSpec

LIGHT = ModelSpec(
    backbone="efficientnet_lite0",
    crop_size=255,
    search_cells=22,
    response_cells=17,
    pixel_mean_bgr=(127.0, 127.0, 127.0),
    first_cell=6.0,
    coarsest_stride=16,
    shallow_channels=64,
    deep_channels=96,
    top_channels=96,
    head="pixelwise",
    head_channels=96,
    relation_channels=64,
    hidden_channels=128,
)
"""The light model: a sixth of the arithmetic, for CPUs."""
MODELS = {"alexnet": ModelSpec(), "light": LIGHT}
"""The models by their short names."""
CROPS = {"light": 223}
"""Sides of the crops, in pixels, that shipped weights are exported for where these are not the model's own: chosen on
held-out tracks of the training data (MODEL_CARD_LIGHT.md)."""
