"""What tests let a backend's context do: take a template, search, relate proposals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
TEMPLATE_BOX = np.array([[90, 85, 180, 170]], np.float32)


def noise(shape: tuple[int, ...], seed: int) -> Floats:
    """A picture of noise, 0 to 255."""
    return np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)


def take_template(context: Any, seed: int = 1) -> None:
    """The template of a picture of noise, in a context for one target."""
    context.crop[:] = noise(context.crop.shape, seed)
    context.set_template(TEMPLATE_BOX)


def searched(context: Any, seed: int = 1) -> list[Floats]:
    """Copies of the scores and boxes that a context for one target gives for noise, with a template of other noise."""
    take_template(context, seed)
    context.crop[:] = noise(context.crop.shape, seed + 1)
    return [array.copy() for array in context.search()]


def some_proposals(targets: int, count: int, seed: int = 9) -> Floats:
    """Boxes ``[targets, count, 4]`` all over the crop and beyond, of all sizes."""
    rng = np.random.default_rng(seed)
    center, size = rng.uniform(0, 271, (targets, count, 2)), rng.uniform(5, 200, (targets, count, 2))
    return np.concatenate([center - size / 2, center + size / 2], axis=-1).astype(np.float32)
