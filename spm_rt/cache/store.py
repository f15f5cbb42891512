"""What libraries make of a bundle's graphs, kept for the next process: the user's cache folder.

``$SPM_RT_CACHE`` names another folder, or is ``off``. An entry is a folder of files and ``entry.json``, which says what
it was made of and made for, and has size and sha256 of each file. An entry appears whole or not at all, is used only if
every byte is what ``entry.json`` says, and can be deleted at any time: everything in it can be made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ..files import file_digest, read_sealed, seal_manifest

VARIABLE = "SPM_RT_CACHE"
ENTRY = "entry.json"
LIMIT_BYTES = 3 << 30
"""The entries used least recently go when all of a kind take more than this."""

Facts = Mapping[str, str]


def cache_folder() -> Path | None:
    """Where entries are kept (the folder may not exist yet); None if there shall be none."""
    given = os.environ.get(VARIABLE, "")
    if given.lower() in ("off", "0", "none"):
        return None
    if given:
        return Path(given)
    try:
        return user_folder()
    except RuntimeError:  # no home
        return None


def user_folder() -> Path:
    """This package's own folder in the system's cache (``$XDG_CACHE_HOME``, ``~/.cache``, ``%LOCALAPPDATA%``).

    Raises:
        RuntimeError: the user has no home.
    """
    base = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "spm_rt"


def find_entry(kind: str, facts: Facts) -> Path | None:
    """The folder of the entry with these facts, verified; None if there is none. A damaged one is removed."""
    folder = _place(kind, facts)
    if folder is None or not folder.is_dir():
        return None
    content = read_sealed(folder / ENTRY)
    try:
        files = dict(content["files"]) if content and content["facts"] == dict(facts) else {}
        sound = bool(files) and all(
            (folder / name).stat().st_size == size and file_digest(folder / name) == digest
            for name, (size, digest) in files.items()
        )
    except (OSError, TypeError, ValueError, KeyError):
        sound = False
    if not sound:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    with contextlib.suppress(OSError):
        os.utime(folder)
    return folder


def make_entry(kind: str, facts: Facts, write: Callable[[Path], None]) -> Path | None:
    """A new entry with the files that ``write`` puts into the folder it is given; None where nothing can be kept.

    Errors of ``write`` other than OSError go to the caller, and leave nothing behind.
    """
    folder = _place(kind, facts)
    if folder is None:
        return None
    staging = ""
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        staging = tempfile.mkdtemp(prefix=".new.", dir=folder.parent)
        write(Path(staging))
        files = {path.name: (path.stat().st_size, file_digest(path)) for path in sorted(Path(staging).iterdir())}
        Path(staging, ENTRY).write_bytes(seal_manifest({"facts": dict(facts), "files": files}))
        # Where another process was faster, its entry stays.
        if not folder.exists():
            os.rename(staging, folder)
        _prune(folder.parent, folder)
        return folder
    except OSError:
        return None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _place(kind: str, facts: Facts) -> Path | None:
    root = cache_folder()
    if root is None:
        return None
    name = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:32]
    return root.absolute() / kind / name


def _prune(folder: Path, newest: Path) -> None:
    """Delete the entries used least recently beyond :data:`LIMIT_BYTES`, but not the newest."""
    sizes = {}
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):
            used = entry.stat().st_mtime
            sizes[entry] = used, sum(path.stat().st_size for path in entry.iterdir())
    total = 0
    for entry, (_, size) in sorted(sizes.items(), key=lambda item: (item[0] != newest, -item[1][0])):
        total += size
        if total > LIMIT_BYTES and entry != newest and not entry.name.startswith("."):
            shutil.rmtree(entry, ignore_errors=True)
