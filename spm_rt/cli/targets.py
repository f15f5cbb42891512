"""The targets' first boxes and names, as they are typed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

from ..results import Box
from ..terminal import parse_box


class NamedBox(NamedTuple):
    """One ``--box``: the name is empty where none was given."""

    name: str
    box: Box


def parse_named_box(text: str) -> NamedBox:
    """``193,158,57,72`` or ``rabbit=193,158,57,72``, for argparse; see :func:`spm_rt.terminal.parse_box`."""
    try:
        return NamedBox("", parse_box(text))
    except argparse.ArgumentTypeError:
        name, separator, box = text.partition("=")
        if not separator:
            raise
    name = name.strip()
    if not is_name(name):
        raise argparse.ArgumentTypeError(f"{text!r}: a name has 1 to 64 characters, as in rabbit=193,158,57,72")
    return NamedBox(name, parse_box(box))


def is_name(name: object) -> bool:
    """Whether a target can be called so: one line of up to 64 characters that any file can take."""
    return isinstance(name, str) and 0 < len(name) <= 64 and name.isprintable()


def target_names(given: Sequence[str]) -> list[str]:
    """A name for each target: ``target`` for one without a name, ``target1``, ``target2``, ... for several.

    Raises:
        ValueError: two have one name; the message says which.
    """
    numbered = "target" if len(given) == 1 else "target{}"
    names = [name or numbered.format(k + 1) for k, name in enumerate(given)]
    double = next((name for k, name in enumerate(names) if name in names[:k]), None)
    if double is not None:
        raise ValueError(f"two targets are called {double!r}")
    return names


def corners_hint(box: Box, size: tuple[int, int]) -> str:
    """Advice where the numbers look like two corners taken for x, y, width and height; else nothing.

    Args:
        box: ``x, y, width, height``.
        size: of the frame: height, width.
    """
    x, y, width, height = box
    inside = 0 <= x < width <= size[1] and 0 <= y < height <= size[0]
    if not inside or (x + width <= size[1] and y + height <= size[0]):
        return ""
    return (
        f"a box of {width:g} x {height:g} pixels at {x:g}, {y:g} leaves the frame of {size[1]} x {size[0]}; "
        f"if these are two corners, give --box {x:g},{y:g}-{width:g},{height:g}"
    )
