"""Results as files: complete under their final name, or not there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spm_rt.errors import SourceError
from spm_rt.files import written_whole


def write_json(path: Path, report: dict[str, Any]) -> Path:
    """Write a report as JSON."""
    return write_text(path, json.dumps(report, indent=1) + "\n")


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
    """A folder to write to, made if need be."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(f"{folder}: cannot be made ({error.strerror})") from error
    return folder
