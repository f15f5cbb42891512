"""Computed against recorded, array by array: the worst error of each, and whether it is within what is allowed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spm_rt.terminal import format_table


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
        self.by_array: dict[str, Check] = {}

    @property
    def passed(self) -> bool:
        return bool(self.by_array) and not self.failed

    @property
    def failed(self) -> list[str]:
        """Names of the arrays that miss their tolerance."""
        return [name for name, check in self.by_array.items() if not check.passed]

    def close(
        self,
        name: str,
        computed: ArrayLike,
        recorded: ArrayLike,
        allowed: float | NDArray[np.float64],
        *,
        relative_to: float | NDArray[np.float64] | None = None,
    ) -> None:
        """Compare numbers.

        Args:
            name: the array.
            computed, recorded: of one shape; another shape is a failure of its own. Recorded NaNs are padding and must
                be NaN.
            allowed: largest error, one for all or one per value.
            relative_to: errors are divided by this first.
        """
        check = self.by_array.setdefault(name, Check(name, "absolute" if relative_to is None else "relative"))
        a, b = np.asarray(computed, np.float64), np.asarray(recorded, np.float64)
        check.values += b.size
        if a.shape != b.shape:
            self._shape_differs(check, b.size)
            return
        # Equal values (infinities too) have no error; a NaN on one side only must not vanish in a maximum.
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.where(same, 0.0, np.abs(a - b) / (1.0 if relative_to is None else relative_to))
        error = np.where(np.isnan(error), np.inf, error).reshape(-1)
        limit = np.broadcast_to(np.asarray(allowed, np.float64), b.shape).reshape(-1)
        check.failed += int((error > limit).sum())
        if len(error):
            worst = int(np.argmax(error / limit))
            if check.allowed == 0 or error[worst] / limit[worst] > check.worst / check.allowed:
                check.worst, check.allowed = float(error[worst]), float(limit[worst])

    def exact(self, name: str, computed: ArrayLike, recorded: ArrayLike) -> None:
        """Compare values that must be the same."""
        check = self.by_array.setdefault(name, Check(name, "exact"))
        a, b = np.asarray(computed), np.asarray(recorded)
        check.values += b.size
        if a.shape != b.shape:
            self._shape_differs(check, b.size)
            return
        different = int((a != b).sum())
        check.worst += different
        check.failed += different

    def table(self) -> str:
        """One line per array, for people."""
        rows = [
            [
                c.array,
                f"{c.worst:.0f} differ" if c.kind == "exact" else f"{c.worst:.1e}",
                "none" if c.kind == "exact" else f"{c.allowed:.0e} {c.kind}",
                str(c.values),
                "ok" if c.passed else "FAILED",
            ]
            for c in self.by_array.values()
        ]
        return format_table(["array", "worst", "allowed", "values", ""], rows)

    @staticmethod
    def _shape_differs(check: Check, size: int) -> None:
        check.worst, check.failed = float("inf"), check.failed + max(size, 1)
