"""Which picture of a folder belongs to which row of its ground truth, where there are more pictures than rows.

The numbers are facts of the data sets' own configurations: OTB's ``MakeSequenceConfigVer10.m`` and the settings of
its later sequences, and UAV123's ``configSeqs.m``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import SourceError
from ..pictures import natural_order

Span = tuple[int, int]
"""Numbers of the first and the last picture with a box, as in the pictures' file names."""

OTB_SPANS: dict[str, Span] = {
    "blurcar1": (247, 988),
    "blurcar3": (3, 359),
    "blurcar4": (18, 397),
    "david": (300, 770),
    "diving": (1, 215),
    "football1": (1, 74),
    "freeman3": (1, 460),
    "freeman4": (1, 283),
}
"""Sequences of OTB (in small letters) in which not every picture has a box."""

_UAV123_PARTS: dict[str, tuple[Span, ...]] = {
    "bird1": ((1, 253), (775, 1477), (1573, 2437)),
    "car1": ((1, 751), (751, 1627), (1627, 2629)),
    "car6": ((1, 487), (487, 1807), (1807, 2953), (2953, 3925), (3925, 4861)),
    "car8": ((1, 1357), (1357, 2575)),
    "car16": ((1, 415), (415, 1993)),
    "group1": ((1, 1333), (1333, 2515), (2515, 3925), (3925, 4873)),
    "group2": ((1, 907), (907, 1771), (1771, 2683)),
    "group3": ((1, 1567), (1567, 2827), (2827, 4369), (4369, 5527)),
    "person2": ((1, 1189), (1189, 2623)),
    "person4": ((1, 1501), (1501, 2743)),
    "person5": ((1, 877), (877, 2101)),
    "person7": ((1, 1249), (1249, 2065)),
    "person8": ((1, 1075), (1075, 1525)),
    "person12": ((1, 601), (601, 1621)),
    "person14": ((1, 847), (847, 1813), (1813, 2923)),
    "person17": ((1, 1501), (1501, 2347)),
    "person19": ((1, 1243), (1243, 2791), (2791, 4357)),
    "truck4": ((1, 577), (577, 1261)),
    "uav1": ((1, 1555), (1555, 2377), (2473, 3469)),
}
"""Folders of UAV123 that hold several sequences: part k of NAME is the sequence ``NAME_k``."""


def uav123_part(name: str) -> tuple[str, list[Span]] | None:
    """The folder of a sequence of UAV123 that is a part of it, and the pictures that are the part's.

    There are two spans: UAV123 has 30 pictures a second, UAV123@10fps every third of them, numbered anew.
    """
    folder, _, number = name.rpartition("_")
    parts = _UAV123_PARTS.get(folder, ())
    if not number.isdigit() or not 1 <= int(number) <= len(parts):
        return None
    first, last = parts[int(number) - 1]
    return folder, [(first, last), ((first - 1) // 3 + 1, (last - 1) // 3 + 1)]


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Files or folders in the natural order of their names."""
    return sorted(paths, key=natural_order)


def picture_number(path: Path) -> int | None:
    """The last number in a picture's file name."""
    numbers = re.findall(r"[0-9]+", path.stem)
    return int(numbers[-1]) if numbers else None


def pair(files: Sequence[Path], rows: int, truth: Path, spans: Iterable[Span] = (), advice: str = "") -> list[Path]:
    """The pictures of ``rows`` boxes: all of them if there are as many, else those of the span that fits.

    Raises:
        SourceError: neither; with both numbers, and ``advice``.
    """
    if rows == len(files):
        return list(files)
    for first, last in spans:
        chosen = [file for file in files if first <= (picture_number(file) or 0) <= last]
        if rows == len(chosen) == last - first + 1:
            return chosen
    fitting = ", ".join(f"{last - first + 1} for pictures {first} to {last}" for first, last in spans)
    raise SourceError(
        f"{truth}: {rows} boxes for {len(files)} pictures, and nothing says which of them"
        + (f" (expected: {fitting})" if fitting else "")
        + advice
    )
