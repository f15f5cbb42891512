"""Fields of frozen data classes, checked where they are made: each gets its plain type, or an error that names it."""

from __future__ import annotations

import math
import numbers
import reprlib
from collections.abc import Sequence

from .errors import SettingsError

MOST = 1_000_000
"""The largest number that any setting can be."""


def as_number(value: object) -> float | None:
    """A finite number as a float; None for what is none, and for what a float cannot hold."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if math.isfinite(number) else None


def set_whole(settings: object, name: str, least: int, most: int) -> None:
    value = getattr(settings, name)
    sound = isinstance(value, numbers.Integral) and not isinstance(value, bool) and least <= int(value) <= most
    require(sound, name, value, f"a whole number from {least} to {most}")
    object.__setattr__(settings, name, int(value))


def set_share(settings: object, name: str, most: int = 1) -> None:
    value = getattr(settings, name)
    number = as_number(value)
    require(number is not None and 0 <= number <= most, name, value, f"a number from 0 to {most}")
    object.__setattr__(settings, name, number)


def set_numbers(settings: object, name: str, count: int | None, words: str, *, positive: bool = False) -> None:
    values = getattr(settings, name)
    sound = isinstance(values, Sequence) and not isinstance(values, (str, bytes)) and 0 < len(values) <= 64
    numbered = [as_number(value) for value in values] if sound else []
    sound = sound and len(values) == (count or len(values))
    sound = sound and all(n is not None and abs(n) <= MOST and (n > 0 or not positive) for n in numbered)
    require(sound, name, values, words)
    object.__setattr__(settings, name, tuple(numbered))


def require(condition: bool, name: str, value: object, wanted: str) -> None:
    if not condition:
        raise SettingsError(f"{name} is {shortened(value)}; it must be {wanted}")


def shortened(value: object) -> str:
    """A value for a message: on one line, and never long."""
    try:
        return " ".join(reprlib.repr(value).split())
    except Exception:  # whoever wrote its __repr__; numbers of more digits than Python turns into text
        return f"a {type(value).__name__} that cannot be shown"
