"""Weights that make up for each other's rounding, and biases for what is left of it on average.

Rounding each weight to the nearest code is best where inputs have nothing to do with each other. Those of a convolution
do: neighbouring cells are nearly alike, and behind an activation all are positive, so small errors of one sign add up
to a shift of the whole output. Here the weights of an output are rounded one after the other, and those that are still
to come are moved by what makes the output's expected error least ("optimal brain quantisation"); the mean error that
remains is taken off the bias.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spm_rt.models.lite0 import same_padding

from ..graphs.int8 import WEIGHT_SHARES, Floats, RoundedWeight, to_codes

PLACES_PER_FRAME = 128
"""Of a layer's output, at random, whose inputs are counted."""

Doubles = NDArray[np.float64]


@dataclasses.dataclass
class Moments:
    """Sums over places of what a convolution reads there, by group: ``n`` values each, as its weight has them."""

    count: int
    sums: Doubles
    """``[groups, n]``"""
    products: Doubles
    """``[groups, n, n]``"""

    @classmethod
    def of(cls, module: nn.Conv2d, inputs: Tensor, rng: np.random.Generator) -> Moments:
        """What a convolution with "same" padding reads at random places of ``[1, C, H, W]``."""
        (kernel, _), (stride, _) = module.kernel_size, module.stride
        rows, columns = (same_padding(side, kernel, stride) for side in inputs.shape[2:])
        windows = nn.functional.pad(inputs, (*columns, *rows)).unfold(2, kernel, stride).unfold(3, kernel, stride)
        y, x = (torch.from_numpy(rng.integers(side, size=PLACES_PER_FRAME)) for side in windows.shape[2:4])
        seen = windows[0][:, y, x].movedim(1, -1).reshape(module.groups, -1, PLACES_PER_FRAME).double()
        return cls(PLACES_PER_FRAME, seen.sum(2).numpy(), (seen @ seen.transpose(1, 2)).numpy())

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count + other.count, self.sums + other.sums, self.products + other.products)

    @property
    def mean(self) -> Doubles:
        return self.sums / self.count

    def covariance(self, noise: float) -> Doubles:
        """The inputs' covariance ``[groups, n, n]`` with rounding noise of this variance.

        The fewer places were seen, the less it says of how inputs go together.
        """
        mean, n = self.mean, self.sums.shape[1]
        found: Doubles = self.products / self.count - mean[:, :, None] * mean[:, None]
        own = np.eye(n) * found
        # A value that is always the same must not make it singular.
        found += (own - found) * (n / (n + self.count)) + np.eye(n) * (noise + 1e-9 * own.max() + 1e-12)
        return found


def compensated(weight: Floats, seen: Moments, step: float, limit: int, least: Floats) -> RoundedWeight:
    """A layer's weight rounded so that its output changes least.

    Args:
        weight: ``[O, C / groups, k, k]``.
        seen: what the layer reads.
        step: of its input's grid.
        limit: the highest code of a weight.
        least: the least scale of each output, ``[O]``.
    """
    groups = len(seen.sums)
    rows = weight.reshape(groups, len(weight) // groups, -1).astype(np.float64)
    covariance = seen.covariance(step**2 / 12)
    largest = np.abs(rows).max(axis=2)
    largest[largest == 0] = 1
    best, scales, errors = np.zeros_like(rows), largest / limit, np.full(rows.shape[:2], np.inf)
    for share in WEIGHT_SHARES:
        tried = np.maximum(share * largest / limit, least.reshape(largest.shape)).astype(np.float32).astype(np.float64)
        codes = _one_by_one(rows, covariance, tried, limit)
        lost = codes * tried[..., None] - rows
        error = ((lost @ covariance) * lost).sum(axis=2)
        better = error < errors
        best[better], scales[better], errors[better] = codes[better], tried[better], error[better]
    shift = ((rows - best * scales[..., None]) * seen.mean[:, None]).sum(axis=2)
    return RoundedWeight(
        best.reshape(weight.shape).astype(np.int8),
        scales.reshape(-1).astype(np.float32),
        shift.reshape(-1).astype(np.float32),
    )


def _one_by_one(rows: Doubles, covariance: Doubles, scales: Doubles, limit: int) -> Doubles:
    """Codes ``[groups, O / groups, n]``, those first whose inputs vary most.

    What a weight loses is spread over those still to come by the covariance's inverse, whose Cholesky factor has it for
    all steps at once.
    """
    order = np.argsort(-np.diagonal(covariance, axis1=1, axis2=2), axis=1)
    back = np.argsort(order, axis=1)
    left = np.take_along_axis(rows, order[:, None], axis=2)
    sorted_ = np.take_along_axis(np.take_along_axis(covariance, order[:, :, None], axis=1), order[:, None], axis=2)
    factor = np.linalg.cholesky(np.linalg.inv(sorted_)).transpose(0, 2, 1)
    codes = np.zeros_like(left)
    for i in range(left.shape[2]):
        codes[:, :, i] = to_codes(left[:, :, i], scales, limit)
        lost = (left[:, :, i] - codes[:, :, i] * scales) / factor[:, i, i, None]
        left[:, :, i:] -= lost[..., None] * factor[:, i, None, i:]
    return np.take_along_axis(codes, back[:, None], axis=2)
