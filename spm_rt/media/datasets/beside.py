"""Sequences whose boxes lie in a folder beside those of the pictures: TrackingNet, UAV123, VisDrone and OTB's own."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ...errors import SourceError
from ..pictures import picture_files
from .folders import TEST
from .pairing import OTB_SPANS, Span, in_order, pair, uav123_part
from .rows import read_boxes
from .sequences import Sequences

ANNOTATIONS = ("anno", "annotations")
PICTURES = ("frames", "sequences")


def annotation_folder(folder: Path) -> Path | None:
    """The folder with a file of boxes for each sequence: this one, its ``anno``, or the only one in that.

    Raises:
        SourceError: there are several in ``anno``.
    """
    if folder.name in ANNOTATIONS or folder.parent.name in ANNOTATIONS:
        return folder if _text_files(folder) else None
    for name in ANNOTATIONS:
        inner = [path for path in _folders(folder / name) if _text_files(path)]
        if _text_files(folder / name):
            return folder / name
        if len(inner) > 1:
            raise SourceError(
                f"{folder}: several sets of boxes for the same pictures; give one, {' or '.join(map(str, inner))}"
            )
        if inner:
            return inner[0]
    return None


def read_beside(boxes_folder: Path, place: str, found: Sequences) -> None:
    """Add the sequences of a folder with a file of boxes for each.

    Raises:
        SourceError: unreadable boxes, or numbers that do not match.
    """
    top = boxes_folder.parent if boxes_folder.name in ANNOTATIONS else boxes_folder.parent.parent
    inner = [f"data_seq/{boxes_folder.name}", "data_seq/UAV123", "data_seq", *PICTURES, ""]
    roots = [top / name for name in inner if (top / name).is_dir()]
    used = set()
    for truth in _text_files(boxes_folder):
        name = truth.stem
        pictures, spans = _pictures_of(name, roots)
        if pictures is None:
            found.left_out.append(f"{name}: {truth.name}, but no folder of pictures with this name")
            continue
        used.add(pictures)
        boxes = read_boxes(truth)
        files = picture_files(pictures)
        if len(boxes) == 0:
            found.left_out.append(f"{name}: {truth.name} is empty")
        elif len(boxes) == 1 < len(files):
            found.left_out.append(f"{name}: 1 box for {len(files)} pictures, {TEST}")
        else:
            found.add_pictures(name, f"{place}/{name}", pair(files, len(boxes), truth, spans), boxes)
    for folder in (folder for name in PICTURES for folder in _folders(top / name) if folder not in used):
        found.left_out.append(f"{folder.name}: pictures without a file of boxes in {boxes_folder.name}")


def _pictures_of(name: str, roots: list[Path]) -> tuple[Path | None, list[Span]]:
    """The folder of a sequence's pictures, and the spans of it that the sequence may be.

    It has the sequence's name, is the folder that UAV123's sequence is a part of, or has the name without what marks
    a target (OTB's ``Jogging-1``) or the file (UAVDT's ``S0101_gt``).
    """
    part = uav123_part(name)
    spans = [OTB_SPANS[name.lower()]] if name.lower() in OTB_SPANS else []
    shorter = {name.removesuffix("_gt"), re.sub(r"[-.][0-9]+$", "", name)} - {name}
    for candidate in (name, *([part[0]] if part else []), *sorted(shorter)):
        for root in roots:
            if (root / candidate).is_dir() and (root / candidate) not in roots:
                return root / candidate, part[1] if part and candidate == part[0] else spans
    return None, []


def _text_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = (path for path in folder.glob("*.txt") if not path.name.startswith("."))
    return in_order(files)


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return in_order(Path(entry) for entry in os.scandir(folder) if entry.is_dir())
