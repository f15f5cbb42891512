"""Loggers that import ``logging`` only where somebody listens: that takes as long as the rest of ``import spm_rt``."""

from __future__ import annotations

import sys
from typing import Any


class Logger:
    """``logging.getLogger(name)``, or nothing in a process that never imported ``logging``: nobody set it up there.

    Nothing is printed for who set nothing up (``logging.NullHandler``).

    Args:
        name: of a module of this package.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        """``debug``, ``info``, ``warning``, ... of the logger; the record names who called it."""
        if "logging" not in sys.modules:
            return _unheard
        import logging

        package = logging.getLogger(__package__)
        if not package.handlers:
            package.addHandler(logging.NullHandler())
        return getattr(logging.getLogger(self._name), method)


def _unheard(message: str, *arguments: object) -> None:
    """A record that nobody gets to see."""
