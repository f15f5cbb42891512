"""What TensorRT says, kept by the logger that its objects get, so that our errors can give its reason."""

from __future__ import annotations

import collections
import functools
from typing import Any

from ...log import Logger

logger = Logger(__name__)

_KEPT, _LENGTH = 3, 300
"""Messages that an error quotes, the last ones, and characters of each."""


@functools.cache
def library_log(trt: Any) -> Any:
    """The logger of a library (its module). The first one of a process serves the library for good, so there is one.

    Errors are kept until ``clear()``, and ``text()`` has the last of them on one line. They and warnings go to this
    module's log too.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: collections.deque[str] = collections.deque(maxlen=_KEPT)
            self.clear = self._errors.clear

        def log(self, severity: Any, message: str) -> None:
            kinds = trt.ILogger.Severity
            if severity in (kinds.ERROR, kinds.INTERNAL_ERROR):
                self._errors.append(message)
                logger.error("%s", message)
            elif severity == kinds.WARNING:
                logger.warning("%s", message)

        def text(self) -> str:
            """What went wrong last, on one line."""
            return " | ".join(" ".join(line.split())[:_LENGTH] for line in self._errors) or "it does not say why"

    return Log()
