"""Progress and tables as text."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, TextIO


class Progress:
    """A bar on a terminal (drawn by tqdm), about four lines elsewhere.

    Args:
        label: what is going on.
        total: number of steps, if it is known; an estimate may be passed.
        quiet: print nothing.
        stream: where to; standard error by default, so that results can be piped.
    """

    def __init__(
        self, label: str, total: int | None = None, *, quiet: bool = False, stream: TextIO | None = None
    ) -> None:
        self._label, self._total = label, total
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._done = self._shown = 0
        self._start = time.monotonic()
        self._bar: Any = None
        if not self._quiet and self._stream.isatty():
            self._bar = _terminal_bar(label, total, self._stream)

    def step(self, note: str = "") -> None:
        """One more is done."""
        self._done += 1
        if self._bar is not None:
            with contextlib.suppress(OSError, ValueError):  # a terminal that is gone ends no work
                self._bar.set_postfix_str(note, refresh=False)
                self._bar.update()
        elif self._total and self._shown * 4 // self._total < self._done * 4 // self._total <= 4:
            self._show(note)

    def close(self, note: str = "") -> None:
        """End the line."""
        if self._bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self._bar.set_postfix_str(note, refresh=False)
                self._bar.close()
        elif self._done != self._shown:
            self._show(note)

    def _show(self, note: str) -> None:
        self._shown = self._done
        rate = self._done / max(time.monotonic() - self._start, 1e-9)
        count = f"{self._done}"
        if self._total and self._done <= self._total:
            count = f"{self._done / self._total:4.0%}  {self._done}/{self._total}"
        if not self._quiet:
            with contextlib.suppress(OSError, ValueError):
                text = "  ".join([f"{self._label:<24}", count, f"{rate:.1f}/s", note])
                print(text.rstrip(), file=self._stream, flush=True)


def _terminal_bar(label: str, total: int | None, stream: TextIO) -> Any:
    from tqdm import tqdm  # takes a while to import: only where a bar is seen

    tqdm.monitor_interval = 0  # no thread that looks after it
    tqdm.set_lock(threading.RLock())  # nor a lock between processes
    shape = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {elapsed}<{remaining} {rate_noinv_fmt}{postfix}"
    if not total:
        shape = "{desc}{n_fmt}  {elapsed}  {rate_noinv_fmt}{postfix}"
    return tqdm(
        desc=f"{label}  ", total=total, file=stream, unit="", dynamic_ncols=True, mininterval=0.1, bar_format=shape
    )


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
