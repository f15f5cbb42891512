"""Sequences that are folders with pictures and boxes in them: OTB, Temple-Color, GOT-10k, LaSOT, TNL2K and VOT."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import SourceError
from ..pictures import picture_files
from .pairing import OTB_SPANS, Span, in_order, pair
from .rows import read_boxes, read_lines, read_marks, read_numbers
from .sequences import Sequences

VOT_CHANNELS = ("color", "ir")
ABSENT = {"absence.label": True, "cover.label": False, "full_occlusion.txt": True, "out_of_view.txt": True}
"""File with a number for each picture -> whether a positive one (else 0) marks a target that is not to be seen."""


def truth_files(folder: Path, names: frozenset[str]) -> list[Path]:
    """The files with boxes among the ``names`` of a folder's entries, one for each target, in natural order."""
    otb = [name for name in names if re.fullmatch(r"groundtruth_rect([._-]?[0-9]+)?\.txt", name)]
    vot = [name for name in names if _is_vot(names) and re.fullmatch(r"groundtruth_.+\.txt", name)]
    others = [name for name in ("groundtruth.txt", f"{folder.name}_gt.txt") if name in names]
    return in_order(folder / name for name in otb or vot or others[:1])


def _is_vot(names: frozenset[str]) -> bool:
    return not names.isdisjoint({*VOT_CHANNELS, "sequence"})


def read_folder(folder: Path, names: frozenset[str], place: str, found: Sequences) -> None:
    """Add what a folder with :func:`truth_files` holds: a sequence for each target.

    Raises:
        SourceError: no pictures, unreadable boxes, or numbers that do not match.
    """
    files = sequence_pictures(folder)
    for truth, target in _targets(truth_files(folder, names)):
        name = "/".join([folder.name, *target])
        boxes, chosen = read_target(folder, names, truth, files)
        found.add_pictures(name, "/".join([place, *target]), chosen, boxes)


def sequence_pictures(folder: Path) -> list[Path]:
    """A sequence's pictures in natural order: the folder's own, or those of ``img``, ``imgs``, ``color`` or ``ir``."""
    inner = ("img", "imgs", *VOT_CHANNELS)
    return picture_files(folder, (*inner, *(f"{folder.name}/{name}" for name in inner), folder.name))


def read_target(
    folder: Path, names: frozenset[str], truth: Path, files: list[Path]
) -> tuple[NDArray[np.float64], list[Path]]:
    """The boxes ``[rows, 4]`` of a file, and the pictures that they belong to, or that one of them belongs to.

    Raises:
        SourceError: unreadable boxes or marks, or numbers that do not match.
    """
    boxes = read_boxes(truth, regions=not truth.name.startswith("groundtruth_rect"))
    if len(boxes) <= 1:
        return boxes, files
    if len(boxes) < len(files) and _is_vot(names):
        return boxes, files  # VOT's toolkit takes the rows that are missing at the end for frames without a region
    spans = [*_written_spans(folder, names), *([OTB_SPANS[key]] if (key := folder.name.lower()) in OTB_SPANS else [])]
    advice = "; write the numbers of the first and the last of them into frames.txt, as FIRST,LAST"
    chosen = pair(files, len(boxes), truth, spans, advice if len(boxes) < len(files) else "")
    for file, present in ABSENT.items():
        if file in names:
            marks = read_marks(folder / file, len(boxes))
            boxes[marks > 0 if present else marks == 0] = np.nan
    return boxes, chosen


def _targets(files: list[Path]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Each file with the name of its target: what follows in ``groundtruth_rect.1.txt``, if there are several files."""
    for path in files:
        label = path.stem.removeprefix("groundtruth").removeprefix("_rect").strip("._-")
        yield path, (label,) if label and len(files) > 1 else ()


def _written_spans(folder: Path, names: frozenset[str]) -> list[Span]:
    """What ``frames.txt`` or ``NAME_frames.txt`` says: the numbers of the first and the last picture with a box."""
    spans = []
    for name in sorted(names & {"frames.txt", f"{folder.name}_frames.txt"}):
        values = [value for _, line in read_lines(folder / name) for value in read_numbers(line) or [np.nan]]
        if len(values) != 2 or not all(np.isfinite(v) and v == int(v) for v in values):
            raise SourceError(f"{folder / name}: the numbers of the first and the last picture are needed, as 1,100")
        spans.append((int(values[0]), int(values[1])))
    return spans
