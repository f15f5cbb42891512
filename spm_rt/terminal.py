"""Text to and from terminals: tables, a progress line that needs no further package, boxes as options."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from .results import Box


class Progress:
    """``label  [#####-----]  50 %  12/24  3.1/s``, rewritten in place on a terminal, four lines in all elsewhere.

    Args:
        label: what is going on.
        total: number of steps, if it is known.
        quiet: print nothing.
        stream: where to; standard error by default, so that results can be piped.
    """

    def __init__(
        self, label: str, total: int | None = None, *, quiet: bool = False, stream: TextIO | None = None
    ) -> None:
        self._label, self._total, self._quiet = label, total, quiet
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._done = 0
        self._start = self._shown = time.monotonic()
        self._next_quarter = 1

    def step(self, note: str = "") -> None:
        """One more is done."""
        self._done += 1
        now = time.monotonic()
        if self._live and (now - self._shown > 0.1 or self._done == self._total):
            self._show(now, note)
        elif not self._live and self._total and self._done * 4 >= self._total * self._next_quarter:
            self._next_quarter = self._done * 4 // self._total + 1
            self._show(now, note)

    def close(self, note: str = "") -> None:
        """End the line."""
        if self._total is None:
            self._show(time.monotonic(), note)
        if self._live and not self._quiet:
            print(file=self._stream)

    def _show(self, now: float, note: str) -> None:
        if self._quiet:
            return
        self._shown = now
        rate = self._done / max(now - self._start, 1e-9)
        parts = [f"{self._label:<24}"]
        if self._total:
            share = self._done / self._total
            parts.append(f"[{'#' * int(20 * share):-<20}] {share:4.0%}  {self._done}/{self._total}")
        else:
            parts.append(str(self._done))
        text = "  ".join([*parts, f"{rate:.1f}/s", note]).rstrip()
        print(f"\r{text:<100}" if self._live else text, end="" if self._live else "\n", file=self._stream, flush=True)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned by their widest cell; numbers to the right, words to the left."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    right = [all(_is_number(row[i]) for row in rows) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()

    return "\n".join([line(cells[0]), "  ".join("-" * w for w in widths), *(line(row) for row in cells[1:])])


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip(" x%"))
    except ValueError:
        return text in ("", "-")
    return True


def parse_box(text: str) -> Box:
    """``X,Y,W,H`` as four numbers, for argparse."""
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y,W,H (four numbers)") from None
    return x, y, width, height
