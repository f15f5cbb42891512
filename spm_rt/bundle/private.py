"""Bundles whose files libraries cannot read where they are: packed ones, those made of links, those of odd names.

Their files are put, verified, into a folder of the cache (:mod:`spm_rt.store`), once for all processes. Where nothing
is kept, they go into a temporary folder, which is there as long as the bundle.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import struct
import tempfile
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from ..errors import BundleError, CopyError
from ..files import new_part, seal_manifest, shown
from ..log import Logger
from ..store import find_entry, make_entry
from .manifest import MANIFEST, MOST_MANIFEST_BYTES, Contents, contents, parse_manifest

if TYPE_CHECKING:
    import zipfile

logger = Logger(__name__)

KIND = "bundles"
METHODS = (0, 8)
"""Stored and deflated, by their numbers in an archive."""
BLOCK = 1 << 20


class PrivateFolder:
    """A temporary folder of this process, removed with this object, not by forked children; or by the next one."""

    def __init__(self) -> None:
        name, held = new_part(tempfile.gettempdir(), "", 0o700, is_folder=True)
        self.path = Path(name)
        self.remove = weakref.finalize(self, _remove, self.path, held, os.getpid())

    def __deepcopy__(self, memo: object) -> PrivateFolder:
        return self

    def __reduce__(self) -> NoReturn:
        raise CopyError(f"the files of this bundle are in {self.path} for this process alone: open it in the other one")


def _remove(path: Path, held: int | None, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(path, ignore_errors=True)
        if held is not None:
            os.close(held)


def readable(folder: Path, names: list[str]) -> bool:
    """Whether every library can read these files: names are UTF-8, and no link leads out of the folder."""
    real = os.path.realpath(folder)
    return _in_utf8(folder) and all(os.path.dirname(os.path.realpath(folder / name)) == real for name in names)


def copied(folder: Path, found: Contents) -> tuple[Path, PrivateFolder | None]:
    """The same bundle where every library can read it.

    Returns:
        The folder, and what it is there as long as; None where it is in the cache.

    Raises:
        BundleError: a file is not what the manifest says, or there is no room.
    """

    def write(target: Path) -> None:
        for name, (size, digest) in found.files.items():
            with (folder / name).open("rb") as stream:
                _store(stream, target / name, size, digest, str(folder / name))

    return _kept(folder, found, write)


def unpacked(path: Path) -> tuple[Path, Contents, PrivateFolder | None]:
    """A packed bundle's files, in a folder.

    Args:
        path: a zip archive: a bundle's files, or one folder of them; members stored or deflated. Others beside them are
            left alone.

    Returns:
        The folder, the manifest, and what the folder is there as long as; None where it is in the cache.

    Raises:
        BundleError: it is no such archive, damaged, or holds something else.
    """
    import zipfile  # few bundles are packed

    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(path, archive)
            with archive.open(members[MANIFEST]) as stream:
                raw = stream.read(MOST_MANIFEST_BYTES + 1)
            found = contents(path / MANIFEST, parse_manifest(path / MANIFEST, raw))
            for name, (size, _) in found.files.items():
                if name not in members:
                    raise BundleError(f"{path}: {name} is not in it; pack the bundle again")
                if members[name].file_size != size:
                    raise BundleError(f"{path}: {name} has {members[name].file_size} bytes in it instead of {size}")

            def write(target: Path) -> None:
                for name, (size, digest) in found.files.items():
                    with archive.open(members[name]) as stream:
                        _store(stream, target / name, size, digest, f"{path}: {name}")

            folder, holder = _kept(path, found, write)
            return folder, found, holder
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, struct.error),
        *(OSError, RuntimeError, ValueError, OverflowError),  # RuntimeError: NotImplementedError too
    ) as error:
        if isinstance(error, BundleError):
            raise
        why = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise BundleError(f"{path}: not a packed bundle, or damaged ({why or type(error).__name__})") from error


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members beside the manifest, by their names in its folder."""
    names = [info.filename.replace("\\", "/") for info in archive.infolist()]
    tops = [name[: -len(MANIFEST)] for name in names if name == MANIFEST or name.endswith(f"/{MANIFEST}")]
    tops = [top for top in tops if top.count("/") <= 1]
    if not tops:
        raise BundleError(f"{path}: no {MANIFEST} in it: no packed bundle (`spm-export --pack` makes one)")
    members: dict[str, zipfile.ZipInfo] = {}
    for name, info in zip(names, archive.infolist(), strict=True):
        top, _, inner = name.rpartition("/")
        if f"{top}/" != (tops[0] or "/") or not inner:
            continue
        why = ""
        if inner in members:
            why = "is in it twice"
        elif stat.S_ISLNK(info.external_attr >> 16):
            why = "is a link"
        elif info.flag_bits & 1:
            why = "is encrypted"
        elif info.compress_type not in METHODS:
            why = "is compressed by another method than deflate"
        if why:
            raise BundleError(f"{path}: {inner!r} {why}; pack the bundle again")
        members[inner] = info
    if len(tops) > 1:
        raise BundleError(f"{path}: {len(tops)} files called {MANIFEST} in it; one bundle is needed")
    return members


def _kept(source: Path, found: Contents, write: Callable[[Path], None]) -> tuple[Path, PrivateFolder | None]:
    """The folder that holds a bundle's files, from the cache or new."""

    def write_all(target: Path) -> None:
        write(target)
        (target / MANIFEST).write_bytes(seal_manifest(found.manifest))

    facts = {"manifest": str(found.manifest["manifest_sha256"])}
    folder = find_entry(KIND, facts) or make_entry(KIND, facts, write_all)
    if folder is not None and _in_utf8(folder):
        logger.info("%s: its files are in %s", shown(str(source)), folder)
        return folder, None
    holder = PrivateFolder()
    try:
        if not _in_utf8(holder.path):
            raise BundleError(f"{holder.path}: inference libraries read files of names in UTF-8 only; set TMPDIR")
        write_all(holder.path)
    except BaseException as error:
        holder.remove()
        if isinstance(error, OSError):
            raise BundleError(f"{source}: cannot be put into {holder.path} ({error.strerror})") from error
        raise
    logger.info("%s: its files are in %s until it is closed", shown(str(source)), holder.path)
    return holder.path, holder


def _store(stream: IO[bytes], target: Path, size: int, digest: str, name: str) -> None:
    """Write what the manifest says of a stream, and not a byte more."""
    seen, left = hashlib.sha256(), size + 1
    with target.open("xb") as output:
        while left and (block := stream.read(min(BLOCK, left))):
            output.write(block)
            seen.update(block)
            left -= len(block)
    if left != 1 or seen.hexdigest() != digest:
        with contextlib.suppress(OSError):
            target.unlink()
        raise BundleError(f"{name}: not what {MANIFEST} says (damaged on the way?); pack or export it again")


def _in_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
