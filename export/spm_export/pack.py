"""A bundle as one file, to be published: a zip archive with the same bytes whoever makes it."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

from spm_rt.bundle import FORMAT, MANIFEST, Bundle
from spm_rt.errors import BundleError, ExportError
from spm_rt.files import seal_manifest, unsealed, written_whole

BEGINNING = (1980, 1, 1, 0, 0, 0)
"""The date of every file in an archive: the first that the format knows."""


def check_archive_place(path: Path) -> None:
    """Refuse a place for an archive before the work: another suffix, no folder, or a file that is no packed bundle.

    Raises:
        ExportError: the message says which.
    """
    if path.suffix != ".zip":
        raise ExportError(f"{path}: a packed bundle's name ends in .zip")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ExportError(f"{folder}: no such folder")
    if path.exists() and not is_packed_bundle(path):
        raise ExportError(f"{path} exists and is no packed bundle; it is left alone, choose another name for --pack")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise ExportError(f"{path}: cannot be written to")


def is_packed_bundle(path: Path) -> bool:
    """Whether a file is an archive with a sealed manifest of a bundle in it."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(MANIFEST) as stream:
            manifest = unsealed(stream.read(16 << 20))
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile):
        return False
    return manifest is not None and manifest.get("format") == FORMAT


def pack_bundle(bundle: Bundle, path: Path) -> Path:
    """Write a bundle as a zip archive.

    The manifest comes first, then the files that it names, by name, none compressed, with fixed dates and rights: the
    bytes depend on the bundle alone. Weights would shrink by a quarter, but not to the same bytes everywhere.

    Args:
        bundle: an opened bundle; every file is compared with its digest once more while it is read.
        path: of the archive; an older packed bundle there is replaced when the new one is complete.

    Raises:
        ExportError: it cannot be written; what was there before stays.
        BundleError: a file of the bundle has changed since it was opened.
    """
    check_archive_place(path)
    try:
        with written_whole(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for name in (MANIFEST, *sorted(bundle.manifest["files"])):
                content = seal_manifest(bundle.manifest) if name == MANIFEST else (bundle.path / name).read_bytes()
                facts = bundle.manifest["files"].get(name)
                if facts and hashlib.sha256(content).hexdigest() != facts["sha256"]:
                    raise BundleError(f"{bundle.path / name}: was altered while it was packed; run spm-export again")
                entry = zipfile.ZipInfo(name, BEGINNING)
                entry.create_system, entry.external_attr = 3, 0o100644 << 16
                archive.writestr(entry, content)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written ({error.strerror or error}); nothing was changed") from error
    return path
