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
    "head_scale",
    "head_shift",
)
"""Weights that stay float32 in bundles of any precision; all others are stored in the bundle's."""


def contract(spec: ModelSpec, targets: int) -> dict[str, dict[str, dict[str, tuple[int | str, ...]]]]:
    """Names and shapes of every graph's inputs and outputs: ``{stage: {"inputs" | "outputs": {name: shape}}}``."""
    t, size, n, cells = targets, spec.crop_size, spec.anchor_count, spec.cells
    crop = (t, 3, size, size)
    if spec.head == "convolution":  # one kernel per output
        outputs = 6 * spec.anchors_per_cell
        kernel: tuple[int, ...] = (t, outputs, spec.top_channels, spec.template_cells, spec.template_cells)
    else:  # one per cell of the template
        outputs = spec.template_cells**2
        kernel = (t, outputs, spec.top_channels)
    head = {"head_kernel": kernel, "head_bias": (t, outputs)}
    features = {"shallow": (t, spec.shallow_channels, cells, cells), "deep": (t, spec.deep_channels, cells, cells)}
    target_half = {"target_half": (t, spec.relation_channels, spec.roi_cells, spec.roi_cells)}
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
