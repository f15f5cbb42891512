"""Recognises layouts by what a folder holds, and reads all sequences below it."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import SourceError
from ..pictures import SUFFIXES
from .beside import annotation_folder, read_beside
from .folders import read_folder, truth_files
from .mot import read_mot
from .packed import read_packed
from .pairing import in_order
from .rows import read_lines
from .sequences import TEST, Sequences

DEPTH = 5
"""Folders below the given one in which sequences are looked for: ``LaSOT/zip/CATEGORY/CATEGORY/NAME``."""
LAYOUTS = (
    "groundtruth_rect.txt (OTB), groundtruth.txt (GOT-10k, LaSOT, VOT), anno beside frames or data_seq (TrackingNet, "
    "UAV123), gt/gt.txt (MOT), or tracks.json with frames.bin"
)


def find_sequences(folder: str | os.PathLike[str]) -> Sequences:
    """All sequences with ground truth in a folder, in the layouts of :mod:`spm_rt.media.datasets`, in natural order.

    Args:
        folder: of a data set, of one of its parts, or of one sequence.

    Returns:
        The sequences, and in ``left_out`` what is there besides them: pictures without boxes, targets without enough of
        them, test sequences whose boxes are not published, what ``list.txt`` does not name.

    Raises:
        SourceError: nothing usable is there, or boxes cannot be read or paired with pictures; the message names it.
    """
    root, found = Path(folder), Sequences()
    if not root.is_dir():
        raise SourceError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}")
    if root.name in ("", ".."):  # folders tell sequences their names: `.` has one as well
        root = Path(os.path.abspath(root))
    try:
        if (root / "tracks.json").is_file():
            read_packed(root, found)
        else:
            _read_below(root, root, found, set())
    except OSError as error:
        raise SourceError(f"{error.filename or root}: cannot be read ({error.strerror or error})") from error
    if not found:
        reasons = "; ".join(found.left_out[:5])
        raise SourceError(f"{root}: no clips in it; what is read has {LAYOUTS}" + (f" ({reasons})" if reasons else ""))
    return found


def _read_below(folder: Path, root: Path, found: Sequences, visited: set[str]) -> None:
    """Read a folder that is a sequence, or has boxes beside pictures; else look into the folders in it."""
    real = os.path.realpath(folder)
    if real in visited:  # a link to what has been read
        return
    visited.add(real)
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith((".", "__MACOSX"))]
    names = frozenset(entry.name for entry in entries)
    place = folder.relative_to(root).as_posix() if folder != root else folder.name
    if "gt" in names and (folder / "gt" / "gt.txt").is_file():
        read_mot(folder, place, found)
    elif truth_files(folder, names):
        read_folder(folder, names, place, found)
    elif (boxes := annotation_folder(folder)) is not None and read_beside(boxes, place, found):
        pass
    elif "seqinfo.ini" in names:
        found.left_out.append(f"{folder.name}: no gt/gt.txt, {TEST}")
    elif any(name.lower().endswith(SUFFIXES) for name in names):
        found.left_out.append(f"{place}: pictures without boxes")
    elif len(folder.relative_to(root).parts) < DEPTH:
        inner = in_order(Path(entry) for entry in entries if entry.is_dir())
        for path in _listed(folder, inner, found) if "list.txt" in names else inner:
            _read_below(path, root, found, visited)


def _listed(folder: Path, inner: list[Path], found: Sequences) -> list[Path]:
    """Those folders that ``list.txt`` names, if it names any: GOT-10k's and VOT's toolkits read no others."""
    listed = {line for _, line in read_lines(folder / "list.txt")}
    present = {path.name for path in inner}
    if listed.isdisjoint(present):
        return inner
    found.left_out += [f"{name}: in list.txt, but no such folder" for name in sorted(listed - present)]
    found.left_out += [f"{path.name}: not in list.txt" for path in inner if path.name not in listed]
    return [path for path in inner if path.name in listed]
