"""Grids that lose little: channels balanced against each other, and ranges with the least error.

One grid serves all channels of a layer's input. What its rounding costs is what it does to the layer's output: so an
error of an input channel counts by the weights that it meets, and a range is cut off where that pays.

Where one channel reaches fifty times as far as the others, it takes their digits away. So a layer's input is divided by
a factor per channel, and its weights are multiplied by the same factor ("cross-layer equalisation"): exact, until both
are rounded. The more of the difference the factors take over, the less the input loses, and the more the weights do.
How much they take is decided by the expected error of the output. Layers are balanced where the division costs next to
nothing (``balanced`` of :class:`spm_export.graphs.quantizable.Quantizable`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..graphs.int8 import OUTPUT_LEVELS, Floats, Grid, Quantization, best_grid, squared_error
from ..graphs.quantizable import ALEXNET, WEIGHT_LIMIT, Quantizable
from .following import Sample, Samples
from .rounding import rounded_weight

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of a channel's range, on a logarithmic scale, that its factor may take over."""
LEAST_RANGE = 1e-3
"""Of the widest channel's: channels with less are treated as if they had so much."""

Weights = Mapping[str, Floats]
"""Of the layers that can be quantised, by name: ``[O, C, ...]``."""


def make_plan(samples: Samples, weights: Weights, model: Quantizable = ALEXNET) -> Quantization:
    """Grids for all layers, and factors for those that can be balanced."""
    grids, factors = {}, {}
    for layer, weight in weights.items():
        seen, outputs = samples[f"{layer}.input"], samples[f"{layer}.output"]
        balanced = layer in model.balanced
        tried = _candidates(seen, weight) if balanced else [np.ones(len(seen[0].low), np.float32)]
        found = [(_input_grid(seen, weight, one, model.input_levels), one) for one in tried]
        errors = [expected_error(seen, weight, grid, factor, model.weight_limit) for grid, factor in found]
        grid, factor = found[int(np.argmin(errors))]
        grids[f"{layer}.input"] = grid
        grids[f"{layer}.output"] = best_grid(_with_ends(outputs), OUTPUT_LEVELS)
        if balanced:
            factors[layer] = factor
    return Quantization(frozenset(weights), grids, factors, model)


def expected_error(seen: list[Sample], weight: Floats, grid: Grid, factors: Floats, limit: int = WEIGHT_LIMIT) -> float:
    """Sum over a layer's outputs of the mean square by which rounding its input and its weight changes them.

    The errors of different inputs of one output are taken as independent of each other.

    Args:
        seen: of the layer's input.
        weight: ``[O, C / groups, ...]``.
        grid: of the divided input.
        factors: of the input channels, ``[C]``.
        limit: the highest code of a weight.
    """
    rows = _rows(seen)
    lost = squared_error(grid.rounded(rows / factors) * factors, rows, _energies(weight, len(factors)))
    changed = _energies(rounded_weight(weight, factors, limit) - weight, len(factors))
    return lost + float(np.square(rows).mean(axis=0) @ changed)


def _candidates(seen: list[Sample], weight: Floats) -> list[Floats]:
    """Factors ``[C]`` that take over more and more of the channels' ranges, with an eye on those of the weights."""
    ends = np.abs([(sample.low, sample.high) for sample in seen]).max(axis=(0, 1))
    widths = np.sqrt(_by_channel(np.abs(weight), len(ends)).max(axis=(1, 3)).ravel())
    logs = np.log(_floored(ends)) - np.log(_floored(widths))
    return [np.exp(share * (logs - logs.mean())).astype(np.float32) for share in SHARES]


def _input_grid(seen: list[Sample], weight: Floats, factors: Floats, levels: int) -> Grid:
    """The grid of an input divided by these factors whose rounding changes the layer's output least."""
    return best_grid(_rows(seen) / factors, levels, importance=_energies(weight, len(factors)) * np.square(factors))


def _rows(seen: list[Sample]) -> Floats:
    return np.concatenate([sample.rows for sample in seen])


def _with_ends(seen: list[Sample]) -> Floats:
    """All samples in one row, with the largest and the least value of each frame."""
    ends = [end for sample in seen for end in (sample.low.min(), sample.high.max())]
    return np.append(_rows(seen), np.array(ends, np.float32))


def _floored(ranges: Floats) -> Floats:
    return np.clip(ranges, max(LEAST_RANGE * float(ranges.max()), 1e-30), None)


def _by_channel(weight: Floats, channels: int) -> Floats:
    """A weight ``[O, C / groups, ...]`` as ``[groups, O / groups, C / groups, taps]``."""
    groups = channels // weight.shape[1]
    return weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)


def _energies(weight: Floats, channels: int) -> Floats:
    """Sums of the squares of a weight by input channel, ``[C]``."""
    return np.asarray(np.square(_by_channel(weight, channels)).sum(axis=(1, 3)).ravel())
