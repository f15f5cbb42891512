"""Text files that grow by whole lines, whatever happens."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from ..files import duplicate, open_stream, standard_stream, write_all, written_whole
from .base import STANDARD_OUTPUT


class LineFile:
    """A text file that is written in blocks of whole lines: a block is in it or is not.

    Pipes, terminals and standard output get every block at once.

    Args:
        path: of the file; ``-`` is standard output.
        whole: the file appears under its name when it is finished; otherwise it can be read while it grows, and what
            was there is replaced by the first block.
        resume: go on at the end of what is there, without its last line if that is torn.

    Raises:
        OSError: it cannot be written to.
    """

    def __init__(self, path: str, *, whole: bool = True, resume: bool = False) -> None:
        self._open = contextlib.ExitStack()
        self._part: Path | None = None
        self._size: int | None = None
        self._is_new = False
        self._blocks = 0
        if path == STANDARD_OUTPUT:
            self._descriptor = duplicate(1)
        elif os.path.exists(path) and (not stat.S_ISREG(os.stat(path).st_mode) or standard_stream(path) is not None):
            self._descriptor = open_stream(path)
        else:
            self._size = 0
            name = path
            if whole:
                self._part = self._open.enter_context(written_whole(Path(path)))
                name = str(self._part)
            self._is_new = not os.path.exists(name)
            self._descriptor = os.open(name, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            if resume:
                self._size = _end_of_whole_lines(self._descriptor)
        self._path = os.path.realpath(path)
        self._keeps = bool(self._size)

    def write(self, block: str) -> None:
        """One or more whole lines; an error leaves the file as it was before."""
        content = block.encode("utf-8", "surrogateescape")
        if self._size is None:
            write_all(self._descriptor, content)
        else:
            if not self._blocks:
                os.ftruncate(self._descriptor, self._size)
            os.lseek(self._descriptor, self._size, os.SEEK_SET)
            try:
                write_all(self._descriptor, content)
            except BaseException:
                os.ftruncate(self._descriptor, self._size)
                raise
            self._size += len(content)
        self._blocks += 1

    def finish(self, keep: bool) -> None:
        """The file gets its name; if nothing is to be kept, it stays what it was."""
        self._let_go()
        if not keep:
            if self._part:
                self._part.unlink()
            elif self._is_new and not self._keeps:
                os.unlink(self._path)
                self._is_new = False
        self._open.close()

    def close(self) -> None:
        """Remove what is not finished."""
        self._let_go()
        if self._part and self._part.exists():
            self._part.unlink()
        elif self._is_new and not self._blocks:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self._open.close()

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _end_of_whole_lines(descriptor: int) -> int:
    """Where the last line that is complete ends."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    while end:
        start = max(0, end - 65536)
        os.lseek(descriptor, start, os.SEEK_SET)
        found = os.read(descriptor, end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
