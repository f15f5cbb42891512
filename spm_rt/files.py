"""Files and folders that appear whole under their name or not at all, and JSON files that carry their own digest.

What is being written lies beside its final place as ``.spm_part.`` and sixteen hexadecimal digits, and is locked by its
writer (``flock``, where the system has that). Whoever writes into the same folder next removes what nobody holds any
more: its writer was killed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import select
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows has no such locks: what a killed process leaves behind there stays
    fcntl = None  # type: ignore[assignment]

_PART = re.compile(r"\.spm_part\.[0-9a-f]{16}(\..*)?")


@contextlib.contextmanager
def written_whole(path: Path, *, mode: int | None = None, suffix: str | None = None) -> Iterator[Path]:
    """An empty file to write to. When the block ends it is flushed to disk and takes the place of ``path``.

    If the block raises, ``path`` stays what it was and the other file is removed; if the block removes the other file,
    nothing happens to ``path``. A link is followed: the file that it leads to is the one that is replaced. What is no
    regular file (a pipe, a terminal, ``/dev/stdout``) stays what it is and gets the content when the block ends; so
    does a file in a folder that takes no new ones.

    Args:
        path: where the file shall be, in a folder that there is.
        mode: its access rights, exactly; by default those that it had, and those of a new file (umask) if it is one.
        suffix: how the other file's name ends; by default as ``path`` does, since some libraries look at it.

    Raises:
        OSError: the folder cannot be written to, the disk is full, and the like.
    """
    suffix = path.suffix if suffix is None else suffix
    before = _what_is_there(path)
    if before and (not stat.S_ISREG(before.st_mode) or standard_stream(path) is not None):
        with _spooled(path, suffix) as part:
            yield part
        return
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if before and not os.access(folder, os.W_OK):
        with _spooled(path, suffix) as part:
            yield part
        return
    with _part(folder, suffix, 0o666 if mode is None else mode) as name:
        yield Path(name)
        if os.path.exists(name):
            _flush(name)
            _give_rights(name, before, mode)
            try:
                os.replace(name, target)
            except OSError as error:
                # A mount point (one file given to a container) cannot be replaced, but can be written to.
                if not before or error.errno not in (errno.EBUSY, errno.EXDEV, errno.EPERM):
                    raise
                _copy(name, path)


@contextlib.contextmanager
def folder_beside(target: Path, *, mode: int = 0o777) -> Iterator[Path]:
    """A new, empty folder in the folder of ``target``, to be filled and renamed; removed if it is still there.

    Args:
        target: where the folder shall be, in a folder that there is.
        mode: its access rights; the umask is taken off.

    Raises:
        OSError: the folder cannot be written to, the disk is full, and the like.
    """
    with _part(os.path.dirname(os.path.abspath(target)), "", mode, is_folder=True) as name:
        yield Path(name)


@contextlib.contextmanager
def file_beside(target: Path) -> Iterator[Path]:
    """A new, empty file in the folder of ``target``, with its suffix, to be renamed; removed if it is still there.

    Raises:
        OSError: the folder cannot be written to, the disk is full, and the like.
    """
    with _part(os.path.dirname(os.path.abspath(target)), target.suffix, 0o666) as name:
        yield Path(name)


def standard_stream(path: str | os.PathLike[str]) -> int | None:
    """1 or 2 if a path leads to what standard output or standard error is connected to, else None."""
    with contextlib.suppress(OSError):
        there = os.stat(path)
        for descriptor, stream in ((1, sys.__stdout__), (2, sys.__stderr__)):
            # A closed descriptor's number may be another file's by now; Python remembers that it was closed.
            with contextlib.suppress(OSError):
                if stream is not None and os.path.samestat(os.fstat(descriptor), there):
                    return descriptor
    return None


def open_stream(path: str | os.PathLike[str]) -> int:
    """A descriptor to write to what is no regular file, without truncating or replacing anything.

    Args:
        path: of a pipe, a terminal or another device; ``/dev/stdout`` goes on where standard output is. Opening a
            named pipe waits for its reader.

    Raises:
        OSError: it cannot be opened for writing.
    """
    descriptor = standard_stream(path)
    if descriptor is None:
        return os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0))
    return duplicate(descriptor)


def duplicate(descriptor: int) -> int:
    """A second descriptor of standard output (1) or standard error (2), behind what Python has printed so far."""
    stream = sys.stdout if descriptor == 1 else sys.stderr
    with contextlib.suppress(OSError, ValueError, AttributeError):
        stream.flush()
    return os.dup(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write to a descriptor until everything is written."""
    rest = memoryview(content)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # a pipe that somebody else has made non-blocking, and that is full
            select.select([], [descriptor], [])


def _what_is_there(path: Path) -> os.stat_result | None:
    """What a path leads to; an error if that is nothing that can be written to."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return None
    kinds = {stat.S_IFDIR: "is a folder", stat.S_IFBLK: "is a disk", stat.S_IFSOCK: "is a socket"}
    if refused := kinds.get(stat.S_IFMT(there.st_mode)):
        raise OSError(errno.EISDIR if stat.S_ISDIR(there.st_mode) else errno.EINVAL, refused, str(path))
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return there


@contextlib.contextmanager
def _spooled(path: Path, suffix: str) -> Iterator[Path]:
    """A file elsewhere whose content is written to ``path`` when the block ends."""
    import tempfile

    with _part(tempfile.gettempdir(), suffix, 0o600) as name:
        yield Path(name)
        if os.path.exists(name):
            _copy(name, path)


def _copy(name: str, path: Path) -> None:
    there = os.stat(path)
    regular = stat.S_ISREG(there.st_mode) and standard_stream(path) is None
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC) if regular else open_stream(path)
    try:
        with open(name, "rb") as source:
            for block in iter(lambda: source.read(1 << 20), b""):
                write_all(descriptor, block)
        if regular:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _part(folder: str, suffix: str, mode: int, *, is_folder: bool = False) -> Iterator[str]:
    """The name of a new file or folder of ours, held while the block runs, removed afterwards if it is still there."""
    name, held = new_part(folder, suffix, mode, is_folder=is_folder)
    try:
        yield name
    finally:
        _remove(name)
        if held is not None:
            os.close(held)


def new_part(folder: str, suffix: str, mode: int, *, is_folder: bool) -> tuple[str, int | None]:
    """A new file or folder of ours; whoever comes next removes it once the descriptor that holds it is closed."""
    _remove_abandoned(folder)
    while True:
        name = os.path.join(folder, f".spm_part.{os.urandom(8).hex()}{suffix}")
        if is_folder:
            os.mkdir(name, mode)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            held = _hold(name)
            if os.path.lexists(name):  # else somebody took it for abandoned before it was held
                return name, held
            if held is not None:
                os.close(held)


def _hold(name: str) -> int | None:
    """Lock a file or folder until the descriptor that is returned is closed; None where there are no locks.

    Raises:
        BlockingIOError: somebody else holds it.
    """
    if fcntl is None:
        return None
    kind = os.O_RDONLY if os.path.isdir(name) else os.O_RDWR
    descriptor = os.open(name, kind | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # a file system without them
        os.close(descriptor)
        return None
    return descriptor


def _remove_abandoned(folder: str) -> None:
    """Remove what killed processes left in a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = [entry.path for entry in entries if _PART.fullmatch(entry.name)]
        for name in names:
            with contextlib.suppress(OSError):
                held = _hold(name)
                if held is not None:
                    _remove(name)
                    os.close(held)


def _remove(name: str) -> None:
    if os.path.isdir(name) and not os.path.islink(name):
        shutil.rmtree(name, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(name)


def _give_rights(name: str, before: os.stat_result | None, mode: int | None) -> None:
    """To a file that is done: the rights asked for, or those of the file that it replaces; else the umask's."""
    if mode is not None:
        os.chmod(name, mode)
    elif before:
        if hasattr(os, "chown"):
            with contextlib.suppress(OSError):
                os.chown(name, before.st_uid, before.st_gid)
        os.chmod(name, stat.S_IMODE(before.st_mode))


def _flush(name: str) -> None:
    """To the disk itself: without this, a rename may outlive a crash that the content does not."""
    descriptor = os.open(name, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def shown(name: str) -> str:
    """A name for messages: on one line, without a password, and nothing that a terminal or a file cannot take."""
    name = re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", name)
    return name if name.isprintable() else ascii(name)


def seal_manifest(manifest: dict[str, Any]) -> bytes:
    """*Seal* a manifest: its bytes with their own digest in them, the only form in which it is read."""
    content = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    digest = hashlib.sha256(_canonical(content)).hexdigest()
    return _canonical({**content, "manifest_sha256": digest})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What :func:`seal_manifest` wrote into a file; None if it is not there, or was altered."""
    try:
        return unsealed(path.read_bytes())
    except OSError:
        return None


def unsealed(raw: bytes) -> dict[str, Any] | None:
    """What :func:`seal_manifest` made these bytes of; None if they are of something else, or were altered."""
    try:
        content = json.loads(raw)
        return content if isinstance(content, dict) and seal_manifest(content) == raw else None
    except (ValueError, RecursionError, TypeError):
        return None


def _canonical(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n").encode()


def file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(stream)


def _digest(stream: Any) -> str:
    digest = hashlib.sha256()
    for block in iter(lambda: stream.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()
