"""The user's cache folder: one root for all that is kept for the next process, with a folder for each kind of content.

``$SPM_RT_CACHE`` names another root, or is ``off``. Kinds are ``onnxruntime`` and ``auto`` (of
:mod:`spm_rt.backends`), ``kernels`` (:mod:`spm_rt.gpu.kernels.nvrtc`) and ``engines``, whose files
:mod:`spm_rt.cache.engines` describes. All others consist of entries. An entry is a folder of files and ``entry.json``,
which says what it was made of and made for, and has size and sha256 of each file. An entry appears whole or not at all,
is used only if every byte is what ``entry.json`` says, and can be deleted at any time: it can be made again.

Machine code (engines and kernels) is read by :func:`read_own` only, from files that nobody else can have put there.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import shutil
import stat
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .files import file_digest, folder_beside, read_sealed, seal_manifest, shown
from .log import Logger

logger = Logger(__name__)

VARIABLE = "SPM_RT_CACHE"
RETIRED = ("SPM_ENGINE_CACHE", "SPM_KERNEL_CACHE")
"""Variables of earlier versions, which moved one kind each."""
ENTRY = "entry.json"
LIMIT_BYTES = 3 << 30
"""The entries used least recently go when all of a kind take more than this."""

Facts = Mapping[str, str]


def cache_folder(kind: str = "") -> Path | None:
    """Where a kind of content is kept, or the root of all kinds; the folder may not exist yet.

    That is ``$SPM_RT_CACHE``, or ``spm_rt`` in the system's cache folder (``$XDG_CACHE_HOME``, ``~/.cache``,
    ``%LOCALAPPDATA%``). None if nothing shall be kept, or the user has no home.
    """
    for variable in RETIRED:
        if os.environ.get(variable):
            _warn_of(variable)
    root = os.environ.get(VARIABLE, "")
    if root.lower() in ("off", "0", "none"):
        return None
    base = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    try:
        if root:
            folder = Path(root).expanduser().absolute() / kind
        else:
            folder = (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "spm_rt" / kind
        str(folder).encode()
    except RuntimeError:  # no home
        return None
    except UnicodeEncodeError:
        _warn(f"nothing is kept in {str(folder)!a}: libraries take file names in UTF-8 only; set {VARIABLE}")
        return None
    return folder


def _warn_of(variable: str) -> None:
    _warn(
        f"{variable} is not read any more: {VARIABLE}=FOLDER moves all that is kept (engines to FOLDER/engines, "
        f"kernels to FOLDER/kernels), {VARIABLE}=off keeps nothing"
    )


@functools.cache
def _warn(what: str) -> None:
    """Once in a process, where it is seen by who set no logging up."""
    warnings.warn(what, RuntimeWarning, stacklevel=4)
    logger.warning("%s", what)


def facts_key(facts: Mapping[str, Any]) -> str:
    """32 hexadecimal digits that stand for all that something was made of and made for."""
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:32]


def private_folder(path: Path) -> None:
    """Make a folder for this user alone, where it is missing.

    Raises:
        OSError: it cannot be made, or it is one that :func:`check_own` refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    check_own(path, path.stat())


def check_own(path: Path, status: os.stat_result) -> None:
    """Refuse a file or folder that another user owns or may write to (root is trusted; not checked on Windows).

    Raises:
        PermissionError: with the reason as its ``strerror``.
    """
    if not hasattr(os, "geteuid"):
        return
    if status.st_uid not in (os.geteuid(), 0):
        raise PermissionError(errno.EPERM, f"belongs to another user (uid {status.st_uid})", str(path))
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(errno.EPERM, f"can be written to by others: chmod go-w {path}", str(path))


def read_own(path: Path) -> bytes:
    """The bytes of a plain file that nobody else can have put there or changed.

    Raises:
        OSError: there is no such file, it is a link, or it or its folder is one that :func:`check_own` refuses.
    """
    check_own(path.parent, path.parent.stat())
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as stream:
        check_own(path, os.fstat(descriptor))
        return stream.read()


def find_entry(kind: str, facts: Facts) -> Path | None:
    """The folder of the entry with these facts, verified; None if there is none. A damaged one is removed."""
    folder = _entry_path(kind, facts)
    if folder is None or not os.path.isdir(folder):  # which it is not for who may not look
        return None
    if not _is_sound(folder, facts):
        logger.warning("%s is damaged, and is made anew", shown(str(folder)))
        shutil.rmtree(folder, ignore_errors=True)
        return None
    with contextlib.suppress(OSError):
        os.utime(folder)
    logger.debug("found in the cache: %s", shown(str(folder)))
    return folder


def make_entry(kind: str, facts: Facts, write: Callable[[Path], object]) -> Path | None:
    """A new entry with the files that ``write`` puts into the folder it is given; None where nothing can be kept.

    Errors of ``write`` other than OSError go to the caller, and leave nothing behind.
    """
    folder = _entry_path(kind, facts)
    if folder is None:
        return None
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with folder_beside(folder, mode=0o700) as staging:
            write(staging)
            files = {}
            for path in sorted(staging.iterdir()):
                path.chmod(0o600)
                files[path.name] = path.stat().st_size, file_digest(path)
            Path(staging, ENTRY).write_bytes(seal_manifest({"facts": dict(facts), "files": files}))
            if not folder.exists():
                os.rename(staging, folder)
            elif not _is_sound(folder, facts):  # else another process was faster, and its entry stays
                raise PermissionError(errno.EPERM, "what is there is damaged, and cannot be removed")
        _prune(folder.parent, folder)
        logger.info("kept for the next process: %s", shown(str(folder)))
        return folder
    except OSError as error:
        logger.warning("%s cannot be written (%s); it is done without", shown(str(folder)), str(error))
        return None


def _is_sound(folder: Path, facts: Facts) -> bool:
    """Whether a folder is the entry with these facts, and every byte is what it says."""
    content = read_sealed(folder / ENTRY)
    try:
        files = dict(content["files"]) if content and content["facts"] == dict(facts) else {}
        return bool(files) and all(
            (folder / name).stat().st_size == size and file_digest(folder / name) == digest
            for name, (size, digest) in files.items()
        )
    except (OSError, TypeError, ValueError, KeyError):
        return False


def _entry_path(kind: str, facts: Facts) -> Path | None:
    folder = cache_folder(kind)
    return folder and folder / facts_key(facts)


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
