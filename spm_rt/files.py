"""Files that appear whole under their name, or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


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
