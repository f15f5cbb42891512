"""Results as Parquet, one file for each video, which is there whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import SourceError
from ...files import shown, written_whole
from .manifest import Work
from .video import COLUMNS


def write_part(folder: Path, work: Work, columns: dict[str, list[Any]]) -> None:
    """The results of one video, under its part's name.

    Raises:
        SourceError: they cannot be written, as on a full disk; there is nothing under the name then.
    """
    import pyarrow as arrow
    from pyarrow import parquet

    schema = arrow.schema([(name, arrow.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    path = folder / work.part
    try:
        with written_whole(path) as part:
            parquet.write_table(arrow.table(columns, schema=schema), part, compression="zstd")
    except OSError as error:
        raise SourceError(f"{shown(str(path))}: cannot be written ({error.strerror or error})") from error


def make_folder(path: str) -> Path:
    """The folder of the results.

    Raises:
        SourceError: it cannot be made.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(f"{shown(path)}: no folder can be made there ({error.strerror or error})") from error
    return folder
