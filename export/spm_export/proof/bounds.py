"""How near to the reference is near enough, by precision: of every tensor, and of boxes on a clip."""

from __future__ import annotations

TOLERANCES = {
    "head_kernel": ("relative", 1e-4),
    "head_bias": ("absolute", 1e-3),
    "target_half": ("relative", 1e-4),
    "shallow": ("relative", 1e-4),
    "deep": ("relative", 1e-4),
    "search.scores": ("absolute", 1e-4),
    "search.boxes": ("absolute", 0.02),
    "relation.scores": ("absolute", 1e-4),
    "relation.boxes": ("absolute", 0.02),
}
"""Worst error allowed per tensor of a float32 export: absolute, or relative to the tensor's largest magnitude."""

INT8_TOLERANCES = {
    "shallow": ("relative", 0.25),
    "deep": ("relative", 0.25),
    "search.scores": ("absolute", 0.25),
    "search.boxes": ("absolute", 20.0),
    "relation.scores": ("absolute", 0.25),
    "relation.boxes": ("absolute", 8.0),
}
"""The same for the int8 graphs, on crops from the clip: wide, to catch what is wrong and not what is rounded."""

_STEPS = {
    **{"head_kernel": 32, "head_bias": 8, "target_half": 8, "shallow": 8, "deep": 8},
    **{"search.scores": 16, "search.boxes": 2048, "relation.scores": 16, "relation.boxes": 512},
}
TYPED_TOLERANCES = {
    precision: {name: (TOLERANCES[name][0], steps * step) for name, steps in _STEPS.items()}
    for precision, step in (("float16", 2.0**-11), ("bfloat16", 2.0**-8))
}
"""The same for typed exports, in steps of the type: half the distance of its neighbours, relative to the number.

A value passes through some ten roundings on its way; the head's kernel is made of products whose terms cancel; box
coordinates are numbers up to a few hundred, and more where an anchor far from the target guesses wildly.
"""

TRACK_BOUNDS = {
    "float32": (0.999, 0.99, 0.99),
    "float16": (0.995, 0.99, 0.95),
    "bfloat16": (0.98, 0.95, 0.9),
    "int8": (0.97, 0.9, 0.95),
}
"""On the clip, both started from the same box in each frame, by precision: mean overlap allowed, the overlap that
counts as close, and the share of frames that must be close.

A share and not every frame, since where two proposals score alike a rounding may choose the other one.
"""


def tolerance(stage: str, name: str, precision: str = "float32") -> tuple[str, float]:
    """How an output's error is measured, and how large it may be."""
    allowed = {"float32": TOLERANCES, "int8": INT8_TOLERANCES, **TYPED_TOLERANCES}[precision]
    return allowed.get(f"{stage}.{name}") or allowed[name]
