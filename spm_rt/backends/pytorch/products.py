"""A layer in the fastest of several ways that compute the same: which one that is, depends on card and library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...errors import BackendError

Tensor = Any
Key = tuple[str, tuple[int, ...]]
Ways = Mapping[str, Callable[[], Tensor]]
"""By name; the first is the plain one, which the others are compared with."""


class Fastest:
    """Chooses per layer and shape, where it is first needed, and keeps to that.

    Args:
        torch: the module.
        seconds: how long the GPU takes for some work, launched as captured; None: the plain way is taken always.

    Attributes:
        chosen: names of ways by layer and the input's shape.
        times: what each way that could be taken took, in seconds, likewise.
    """

    def __init__(self, torch: Any, seconds: Callable[[Callable[[], Tensor]], float] | None = None) -> None:
        self._torch, self.seconds = torch, seconds
        self.chosen: dict[Key, str] = {}
        self.times: dict[Key, dict[str, float]] = {}

    def __call__(self, layer: str, shape: tuple[int, ...], ways: Ways) -> Tensor:
        plain = next(iter(ways))
        if self.seconds is None or len(ways) == 1:
            return ways[plain]()
        key = layer, tuple(shape)
        if key not in self.chosen:
            times = self.times[key] = self._measured(ways, self.seconds)
            self.chosen[key] = min(times, key=lambda name: times[name]) if times else plain
        return ways[self.chosen[key]]()

    def _measured(self, ways: Ways, seconds: Callable[[Callable[[], Tensor]], float]) -> dict[str, float]:
        (plain, first), *others = ways.items()
        wanted = first()
        times: dict[str, float] = {}
        for name, way in [(plain, first), *others]:
            try:
                if name == plain or self._agrees(way(), wanted):
                    times[name] = seconds(way)
            except (RuntimeError, BackendError):  # the library has no such way for this card, type or shape
                continue
        return times

    def _agrees(self, found: Tensor, wanted: Tensor) -> bool:
        """Within some roundings of the largest value: another order of sums."""
        if found.shape != wanted.shape:
            return False
        bound = max(1e-4, 16 * self._torch.finfo(wanted.dtype).eps) * float(wanted.abs().max())
        return bool((found.float() - wanted.float()).abs().max() <= bound)


def without_groups(torch: Any, weight: Tensor, groups: int) -> Tensor:
    """A convolution's kernel for all input channels: zeros where another group's are."""
    outputs, inputs, *window = weight.shape
    dense = weight.new_zeros((outputs, inputs * groups, *window))
    for group in range(groups):
        rows = slice(group * outputs // groups, (group + 1) * outputs // groups)
        dense[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return dense
