"""Which sources there are, what they are called, and whose box is whose."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from ...files import shown
from ...media.sources import source_name
from ...results import Box
from ..targets import NamedBox, target_names

_NAMED = re.compile(r"([\w.-]{1,64})=(.+)", re.S)


class NamedSource(NamedTuple):
    """A source as it is opened, what it is called, and the boxes in its first frame by target."""

    name: str
    source: str
    boxes: dict[str, Box]


def named_sources(given: Sequence[str], boxes: Sequence[NamedBox]) -> list[NamedSource]:
    """Every source with its boxes.

    Args:
        given: sources as they are typed: ``door.mp4``, or ``door=rtsp://127.0.0.1/door``.
        boxes: in the sources' order, one each; or named ``SOURCE/TARGET``, or ``SOURCE``.

    Raises:
        ValueError: two sources have one name, a box belongs to none of them, or a source has no box; the message says
            which, and what to give.
    """
    names: dict[str, str] = {}
    for text in given:
        found = None if os.path.exists(text) else _NAMED.fullmatch(text)
        name, source = (found[1], found[2]) if found else (source_name(text), text)
        if name in names:
            raise ValueError(f"two sources are called {shown(name)}; name them: a={shown(source)} b=...")
        names[name] = source
    owners = [_owner(box.name, names) for box in boxes]
    if len(boxes) == len(names) and not any(owners):
        owners = list(names)
    taken: dict[str, list[NamedBox]] = {name: [] for name in names}
    for owner, box in zip(owners, boxes, strict=True):
        if owner is None:
            raise ValueError(
                f"whose box is {box.name or ','.join(f'{value:g}' for value in box.box)}? Give one box for each "
                f"source, in their order; or name them, as in --box {next(iter(names))}/target=193,158,57,72"
            )
        rest = box.name.removeprefix(owner).removeprefix("/") if _owner(box.name, names) else box.name
        taken[owner].append(NamedBox(rest, box.box))
    without = [name for name, its in taken.items() if not its]
    if without:
        raise ValueError(f"{shown(without[0])} has no box; give --box {without[0]}/target=X,Y,W,H")
    return [
        NamedSource(name, source, dict(zip(target_names([b.name for b in its]), (b.box for b in its), strict=True)))
        for (name, source), its in zip(names.items(), taken.values(), strict=True)
    ]


def _owner(name: str, sources: dict[str, str]) -> str | None:
    """The source whose name a box's name is or begins with, the longest one."""
    fitting = [source for source in sources if name == source or name.startswith(f"{source}/")]
    return max(fitting, key=len, default=None)
