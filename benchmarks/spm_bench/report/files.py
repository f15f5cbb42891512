"""Results as files: complete under their final name, or not there."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spm_rt.errors import SourceError
from spm_rt.files import written_whole

MARK = ".spm_bench"
"""The file by which a folder of results is known."""


def write_json(path: Path, report: dict[str, Any]) -> Path:
    """Write a report as JSON."""
    return write_text(path, json_text(report))


def json_text(report: dict[str, Any]) -> str:
    """A report as JSON that every reader takes: what is no number there (NaN, infinities) becomes null."""
    return json.dumps(_finite(report), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_text(path: Path, text: str) -> Path:
    """Write a text file.

    Raises:
        SourceError: the folder cannot be written to.
    """
    with writing_to(path), written_whole(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Errors of the system while this is open become a SourceError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise SourceError(f"{path}: cannot be written ({error.strerror or error})") from error


def make_folder(path: str | Path) -> Path:
    """A folder for results, made if need be; in one that was used before, earlier results are replaced.

    Raises:
        SourceError: it cannot be made or written to, or has files that are no results of spm-bench.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(entry.name for entry in folder.iterdir())
        if names and MARK not in names:
            listed = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
            raise SourceError(
                f"{folder}: holds files that are no results of spm-bench ({listed}); give --out a folder of its own, "
                f"such as {folder / 'results'}"
            )
        (folder / MARK).write_text("Results of spm-bench: what it writes here replaces what it wrote before.\n")
    except (OSError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{folder}: cannot be made ({getattr(error, 'strerror', None) or error})") from error
    return folder


def check_file(path: Path) -> None:
    """Refuse, before the work, a place where :func:`write_text` could not write.

    Raises:
        SourceError: there is no such folder, it cannot be written to, or the name is a folder's.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder")
    if path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise SourceError(f"{path}: cannot be written ({'a folder' if path.is_dir() else 'no permission'})")
