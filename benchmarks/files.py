"""Results as files: complete under their final name, or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from spm_rt.errors import SourceError


def write_json(path: Path, report: dict[str, Any]) -> Path:
    """Write a report as JSON."""
    return write_text(path, json.dumps(report, indent=1) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write a text file under another name and rename it.

    Raises:
        SourceError: the folder cannot be written to.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise SourceError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path
