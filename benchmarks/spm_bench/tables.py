"""Tables for people, from rows that are dictionaries: the columns are written in one line of text.

``backend {name} | p50 ms {p50_ms:.2f} | ...``: titles, and how a row's figures are written, as for ``str.format``. What
is None is a dash.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from typing import Any

from spm_rt.terminal import format_table

Row = Mapping[str, Any]


class _Writer(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        return "-" if value is None else str(super().format_field(value, format_spec))


def fill(columns: str, rows: Iterable[Row]) -> tuple[list[str], list[list[str]]]:
    """The titles of the columns, and each row's cells."""
    parts = [part.partition("{") for part in columns.split("|")]
    cells = [[_Writer().vformat("{" + rest.strip(), (), row) for _, _, rest in parts] for row in rows]
    return [" ".join(title.split()) for title, _, _ in parts], cells


def table(columns: str, rows: Iterable[Row]) -> str:
    """The table as text."""
    return format_table(*fill(columns, rows))


def named(figures: Mapping[str, Row]) -> list[Row]:
    """A row for each name; it has the name as ``name``."""
    return [{"name": name, **row} for name, row in figures.items()]
