"""Found against wanted, array by array: the worst error of each, and whether it is within what is allowed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclasses.dataclass
class Check:
    """All comparisons of one array so far.

    Attributes:
        array: its name.
        kind: ``absolute``, ``relative`` or ``exact`` (then ``worst`` counts the values that differ).
        worst: the error that comes closest to, or exceeds most, what is allowed for it.
        allowed: what is allowed for that one.
        values: numbers compared.
        failed: numbers out of tolerance.
    """

    array: str
    kind: str
    worst: float = 0.0
    allowed: float = 0.0
    values: int = 0
    failed: int = 0

    @property
    def passed(self) -> bool:
        return self.failed == 0

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "passed": self.passed}


class Checks:
    """Checks by array name, in the order in which they first appeared."""

    def __init__(self) -> None:
        self.found: dict[str, Check] = {}

    @property
    def passed(self) -> bool:
        return bool(self.found) and all(check.passed for check in self.found.values())

    def close(
        self,
        name: str,
        found: ArrayLike,
        wanted: ArrayLike,
        allowed: float | NDArray[np.float64],
        *,
        relative_to: float | NDArray[np.float64] | None = None,
    ) -> None:
        """Compare numbers.

        Args:
            name: the array.
            found, wanted: of one shape; another shape is a failure of its own. Wanted NaNs are padding and must be NaN.
            allowed: largest error, one for all or one per value.
            relative_to: errors are divided by this first.
        """
        check = self.found.setdefault(name, Check(name, "absolute" if relative_to is None else "relative"))
        a, b = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
        check.values += b.size
        if a.shape != b.shape:
            self._shape_differs(check, b.size)
            return
        # Equal values (infinities too) have no error; a NaN on one side only must not vanish in a maximum.
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            error = np.where(same, 0.0, np.abs(a - b) / (1.0 if relative_to is None else relative_to))
        error = np.where(np.isnan(error), np.inf, error).reshape(-1)
        limit = np.broadcast_to(np.asarray(allowed, np.float64), b.shape).reshape(-1)
        check.failed += int((error > limit).sum())
        if len(error):
            at = int(np.argmax(error / limit))
            if check.allowed == 0 or error[at] / limit[at] > check.worst / check.allowed:
                check.worst, check.allowed = float(error[at]), float(limit[at])

    def exact(self, name: str, found: ArrayLike, wanted: ArrayLike) -> None:
        """Compare values that must be the same."""
        check = self.found.setdefault(name, Check(name, "exact"))
        a, b = np.asarray(found), np.asarray(wanted)
        check.values += b.size
        if a.shape != b.shape:
            self._shape_differs(check, b.size)
            return
        different = int((a != b).sum())
        check.worst += different
        check.failed += different

    @staticmethod
    def _shape_differs(check: Check, size: int) -> None:
        check.worst, check.failed = float("inf"), check.failed + max(size, 1)
