"""Sequences with several targets, in the layout of the MOT Challenge."""

from __future__ import annotations

import configparser
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import SourceError
from ..pictures import picture_files
from .pairing import picture_number
from .rows import read_lines, read_numbers
from .sequences import Sequences

PEDESTRIAN = 1
FRAME, TARGET, FLAG, CLASS = 0, 1, 6, 7
WITH_CLASS = 9
"""Columns of MOT16 and later: frame, target, x, y, w, h, flag, class, visibility. MOT15 has ten, without a class."""


def read_mot(folder: Path, place: str, found: Sequences) -> None:
    """Add a sequence for each pedestrian to be considered, from its first picture to its last.

    As in the Challenge's own evaluation, boxes whose flag is 0 and those of other classes than pedestrian are left out.

    Raises:
        SourceError: unreadable rows, a picture that is not there, or two boxes of one target in one picture.
    """
    truth = folder / "gt" / "gt.txt"
    files = picture_files(folder / _picture_folder(folder))
    by_number = {picture_number(file): file for file in files}
    rows = _read_rows(truth)
    considered = rows[:, FLAG] != 0
    if rows.shape[1] == WITH_CLASS:
        considered &= rows[:, CLASS] == PEDESTRIAN
    targets = np.unique(rows[considered, TARGET]).astype(int)
    others = len(np.unique(rows[:, TARGET])) - len(targets)
    if others:
        total = len(targets) + others
        found.left_out.append(f"{folder.name}: {others} of {total} targets: no pedestrians, or not to be considered")
    for target in targets:
        chosen = rows[considered & (rows[:, TARGET] == target)]
        first, last = int(chosen[:, FRAME].min()), int(chosen[:, FRAME].max())
        if missing := [number for number in range(first, last + 1) if number not in by_number]:
            raise SourceError(
                f"{truth}: target {target} is in frames {first} to {last}, but there is no picture {missing[0]} "
                f"among the {len(files)}"
            )
        boxes = np.full((last - first + 1, 4), np.nan)
        boxes[chosen[:, FRAME].astype(int) - first] = chosen[:, 2:6]
        pictures = [by_number[number] for number in range(first, last + 1)]
        found.add_pictures(f"{folder.name}/{target}", f"{place}/{target}", pictures, boxes)


def _picture_folder(folder: Path) -> str:
    """The name in ``seqinfo.ini``, else ``img1``."""
    about = configparser.ConfigParser(interpolation=None)
    try:
        about.read_string("\n".join(line for _, line in read_lines(folder / "seqinfo.ini")))
        return about.get("Sequence", "imDir", fallback="img1")
    except (SourceError, configparser.Error):
        return "img1"


def _read_rows(truth: Path) -> NDArray[np.float64]:
    """Rows of numbers, all of one length of at least seven, with whole numbers for frame and target."""
    rows: list[list[float]] = []
    for number, line in read_lines(truth):
        values = read_numbers(line) or []
        whole = all(np.isfinite(v) and v == int(v) for v in values[: TARGET + 1])
        if len(values) <= FLAG or not whole or (rows and len(values) != len(rows[0])):
            raise SourceError(f"{truth}, line {number}: {line[:60]!r} is not frame, target, x, y, w, h, flag, ...")
        rows.append(values)
    if not rows:
        raise SourceError(f"{truth}: no boxes in it")
    table = np.array(rows)
    _, counts = np.unique(table[:, [FRAME, TARGET]], axis=0, return_counts=True)
    if (counts > 1).any():
        raise SourceError(f"{truth}: {int((counts > 1).sum())} times two boxes of one target in one frame")
    return table
