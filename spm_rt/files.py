"""Files that appear whole under their name or not at all, and JSON files that carry their own digest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def written_whole(path: Path, *, mode: int = 0o644, suffix: str | None = None) -> Iterator[Path]:
    """An empty file beside ``path`` to write to. When the block ends it is flushed to disk and takes its place.

    If the block raises, ``path`` stays what it was and the other file is removed; if the block removes the other file,
    nothing happens to ``path``.

    Args:
        path: where the file shall be, in a folder that there is.
        mode: its access rights; Windows has none.
        suffix: how the other file's name ends; by default as ``path`` does, since some libraries look at it.

    Raises:
        OSError: the folder cannot be written to, the disk is full, and the like.
    """
    handle, name = tempfile.mkstemp(
        prefix=f".{path.stem}.", suffix=path.suffix if suffix is None else suffix, dir=path.absolute().parent
    )
    os.close(handle)
    try:
        yield Path(name)
        if os.path.exists(name):
            _flush(name)
            os.chmod(name, mode)
            os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _flush(name: str) -> None:
    """To the disk itself: without this, a rename may outlive a crash that the content does not."""
    descriptor = os.open(name, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def seal_manifest(manifest: dict[str, Any]) -> bytes:
    """*Seal* a manifest: its bytes with their own digest in them, the only form in which it is read."""
    content = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    digest = hashlib.sha256(_canonical(content)).hexdigest()
    return _canonical({**content, "manifest_sha256": digest})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What :func:`seal_manifest` wrote into a file; None if it is not there, or was altered."""
    try:
        raw = path.read_bytes()
        content = json.loads(raw)
        return content if isinstance(content, dict) and seal_manifest(content) == raw else None
    except (OSError, ValueError, RecursionError):
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
