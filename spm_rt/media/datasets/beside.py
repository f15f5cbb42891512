"""Sequences whose boxes lie in a folder beside those of the pictures: TrackingNet, UAV123, VisDrone and OTB's own."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ...errors import SourceError
from .folders import sequence_pictures
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


def read_beside(boxes_folder: Path, place: str, found: Sequences) -> bool:
    """Add the sequences of a folder with a file of boxes for each; whether there are pictures for any of them.

    Raises:
        SourceError: unreadable boxes, or numbers that do not match.
    """
    top = boxes_folder.parent if boxes_folder.name in ANNOTATIONS else boxes_folder.parent.parent
    inner = [f"data_seq/{boxes_folder.name}", "data_seq/UAV123", "data_seq", *PICTURES, ""]
    folders = {path.name.lower(): path for name in reversed(inner) for path in _folders(top / name)}
    without, used = [], set()
    for truth in _text_files(boxes_folder):
        pictures, spans = _pictures_of(truth.stem, folders)
        if pictures is None:
            without.append(f"{truth.stem}: {truth.name}, but no folder of pictures with this name")
        else:
            used.add(pictures)
            _read_sequence(truth, pictures, spans, place, found)
    if used:
        unused = [path for name in PICTURES for path in _folders(top / name) if path not in used]
        found.left_out += without
        found.left_out += [f"{path.name}: pictures without a file of boxes in {boxes_folder.name}" for path in unused]
    return bool(used)


def _read_sequence(truth: Path, pictures: Path, spans: list[Span], place: str, found: Sequences) -> None:
    """Add one sequence."""
    boxes, files = read_boxes(truth), sequence_pictures(pictures)
    if len(boxes) > 1:
        files = pair(files, len(boxes), truth, spans)
    found.add_pictures(truth.stem, f"{place}/{truth.stem}", files, boxes)


def _pictures_of(name: str, folders: dict[str, Path]) -> tuple[Path | None, list[Span]]:
    """The folder of a sequence's pictures, and the spans of it that the sequence may be.

    It has the sequence's name, is the folder that UAV123's sequence is a part of, or has the name without what marks
    a target (OTB's ``Jogging-1``) or the file (UAVDT's ``S0101_gt``).
    """
    part = uav123_part(name)
    if part and name.lower() not in folders and part[0] in folders:
        return folders[part[0]], part[1]
    spans = [OTB_SPANS[name.lower()]] if name.lower() in OTB_SPANS else []
    candidates = name, name.removesuffix("_gt"), re.sub(r"[-.][0-9]+$", "", name)
    return next((folders[key.lower()] for key in candidates if key.lower() in folders), None), spans


def _text_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = (path for path in folder.glob("*.txt") if not path.name.startswith("."))
    return in_order(files)


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return in_order(Path(entry) for entry in os.scandir(folder) if entry.is_dir())
