"""What goes in and out of the three graphs: names, shapes and types (docs/reference/graphs.md has the table)."""

from __future__ import annotations

from ..precision import PRECISIONS, parse_precision
from ..settings import ModelSpec

HANDED_ON = ("head_kernel", "target_half", "shallow", "deep")
"""What one graph hands to the next and the host never sees: of the bundle's precision, but float32
in int8 bundles, whose layers round what they read themselves. All else is float32."""

TEMPLATE_NAMES = ("head_kernel", "head_bias", "target_half")
"""What the template graph gives, and search and relation take."""

FLOAT32_WEIGHTS = (
    "pixel_mean",
    "roi_scale",
    "roi_shift",
    "anchor_centers",
    "anchor_sizes",
    "search_classify.bias",
    "search_regress.bias",
    "head_bias.classify",
    "head_bias.regress",
)
"""Weights that stay float32 in bundles of any precision; all others are stored in the bundle's."""


def contract(spec: ModelSpec, targets: int) -> dict[str, dict[str, dict[str, tuple[int | str, ...]]]]:
    """Names and shapes of every graph's inputs and outputs: ``{stage: {"inputs" | "outputs": {name: shape}}}``."""
    t, size, n = targets, spec.crop_size, spec.anchor_count
    cells = size // spec.stride + 1
    crop = (t, 3, size, size)
    head = {
        "head_kernel": (t, 6 * spec.anchors_per_cell, 256, spec.template_cells, spec.template_cells),
        "head_bias": (t, 6 * spec.anchors_per_cell),
    }
    features = {"shallow": (t, 256, cells, cells), "deep": (t, 384, cells, cells)}
    target_half = {"target_half": (t, 256, spec.roi_cells, spec.roi_cells)}
    return {
        "template": {"inputs": {"crop": crop, "box": (t, 4)}, "outputs": {**head, **target_half}},
        "search": {"inputs": {"crop": crop, **head}, "outputs": {"scores": (t, n), "boxes": (t, n, 4), **features}},
        "relation": {
            "inputs": {**features, **target_half, "proposals": (t, "K", 4)},
            "outputs": {"scores": (t, "K"), "boxes": (t, "K", 4)},
        },
    }


def stage_shapes(spec: ModelSpec, targets: int, stage: str, count: int = 0) -> dict[str, tuple[int, ...]]:
    """Shapes of all inputs and outputs of a stage by name, for ``count`` proposals per target."""
    both = {name: shape for side in contract(spec, targets)[stage].values() for name, shape in side.items()}
    return {name: tuple(count if size == "K" else int(size) for size in shape) for name, shape in both.items()}


def tensor_type(name: str, precision: str) -> str:
    """The type of an input or output, ``float32``, ``float16`` or ``bfloat16``, in a bundle of that precision."""
    return PRECISIONS[parse_precision(precision)].hands_on if name in HANDED_ON else "float32"
