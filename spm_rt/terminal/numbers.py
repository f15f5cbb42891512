"""Numbers as options: whatever makes no sense is refused while the arguments are read."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

MOST = 2**31 - 1


def whole_number(least: int = 1, most: int = MOST) -> Callable[[str], int]:
    """A type for argparse: whole numbers from ``least`` to ``most``."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            limits = f"of {least} or more" if most == MOST else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {limits}")
        return number

    return parse


def real_number(
    least: float = 0.0, most: float = math.inf, *, above: bool = False, below: bool = False
) -> Callable[[str], float]:
    """A type for argparse: finite numbers from ``least`` to ``most``.

    Args:
        least: the lowest.
        most: the highest.
        above: ``least`` itself is refused.
        below: ``most`` itself is refused.
    """

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        fits = least <= number <= most and not (above and number == least) and not (below and number == most)
        if not (fits and math.isfinite(number)):
            low = f"above {least:g}" if above else f"of {least:g} or more" if least > -math.inf else ""
            high = (f"below {most:g}" if below else f"{most:g} at most") if most < math.inf else ""
            limits = " and ".join(part for part in (low, high) if part) or "that is finite"
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {limits}")
        return number

    return parse


positive_int = whole_number(1)
"""1 or more."""
