"""Where a bundle may be written: nothing that is not ours by content is replaced, and this is known before the work."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spm_rt.bundle import FORMAT, MANIFEST
from spm_rt.errors import ExportError
from spm_rt.files import read_sealed

CLUTTER = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""What file managers write into any folder that is looked at."""


def check_place(target: Path) -> None:
    """Refuse a place where a bundle cannot be written without losing something.

    Args:
        target: the bundle's folder: not there yet, empty, or an older bundle and nothing else.

    Raises:
        ExportError: it is none of that; the message names what is in the way.
    """
    with _named(target):
        if target.is_symlink():
            raise ExportError(f"{target} is a link; name the folder that it leads to, or choose another --out")
        place = Path(os.path.realpath(target))
        if not place.parent.is_dir():
            raise ExportError(f"{place.parent}: no such folder")
        if place.exists():
            _check_folder(target, place)
        if not os.access(place.parent, os.W_OK | os.X_OK):
            raise ExportError(f"{place.parent}: cannot be written to")


def _check_folder(target: Path, place: Path) -> None:
    if not place.is_dir():
        raise ExportError(f"{target} is a file; a bundle is a folder, choose another --out")
    home = Path(os.path.realpath(Path.home()))
    for what, folder in (("the current folder", Path.cwd()), ("your home folder", home)):
        if place == folder or place in folder.parents:
            raise ExportError(f"{target} is {what} or holds it; give a folder of its own, such as {target}/spm_alexnet")
    if os.path.ismount(place):
        raise ExportError(f"{target} is a mount point; give a folder in it, such as {target}/spm_alexnet")
    inside = {path.name for path in place.iterdir()} - CLUTTER
    ours = bundle_files(place)
    if inside and not ours:
        raise ExportError(
            f"{target} is no bundle, or one whose {MANIFEST} was altered, and it is not empty ({_listed(inside)}); it "
            "is left alone, choose another --out"
        )
    if foreign := inside - ours:
        raise ExportError(
            f"{target} holds files that are not of the bundle there ({_listed(foreign)}); move them, or choose another "
            "--out"
        )


def bundle_files(folder: Path) -> set[str]:
    """The names of a bundle's files, as its sealed manifest has them; none if the folder is no bundle of ours."""
    manifest: dict[str, Any] = read_sealed(folder / MANIFEST) or {}
    files = manifest.get("files")
    if manifest.get("format") != FORMAT or not isinstance(files, dict):
        return set()
    return {MANIFEST, *(name for name in files if Path(name).name == name)}


def put_in_place(staging: Path, target: Path) -> None:
    """Give a finished bundle its name; an older one, and nothing else, is removed once the new one stands.

    Args:
        staging: the finished folder, a temporary one beside ``target``; what is left of it afterwards may be removed.
        target: what :func:`check_place` has agreed to.

    Raises:
        ExportError: somebody put something there in the meantime.
        OSError: it cannot be renamed; the older bundle stands.
    """
    check_place(target)
    if not target.exists():
        staging.rename(target)
    elif _exchange(staging, target):
        try:
            _check_folder(target, staging)
        except ExportError:  # written there between the check and the exchange
            _exchange(staging, target)
            raise
    else:
        _rename_both(staging, target)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders' names in one step, so that there is a bundle at any moment; False where that is unknown."""
    import ctypes

    exchange = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, flag = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return exchange is not None and exchange(here, os.fsencode(one), here, os.fsencode(other), flag) == 0


def _rename_both(staging: Path, target: Path) -> None:
    """In two steps: whoever kills the process between them finds the older bundle under a name that can be seen."""
    numbers = itertools.count(1)
    older = next(path for n in numbers if not (path := target.with_name(f"{target.name}.older{n}")).exists())
    target.rename(older)
    try:
        staging.rename(target)
    except BaseException:
        older.rename(target)
        raise
    for name in bundle_files(older) | CLUTTER:
        (older / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody has just put a file there: it stays
        older.rmdir()


def _listed(names: set[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


@contextlib.contextmanager
def _named(target: Path) -> Iterator[None]:
    """Errors of the system about a place, in our words."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ExportError(f"{target}: cannot be written ({getattr(error, 'strerror', None) or error})") from error
