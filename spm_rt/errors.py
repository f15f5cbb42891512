"""Every error this package raises on purpose, so that callers can catch one family.

All derive from :class:`SpmError`; each also derives from the closest built-in, so that ``except ValueError`` keeps
working for people who never heard of this module.
"""

from __future__ import annotations


class SpmError(Exception):
    """Base class of all errors raised by spm_rt and its sister packages."""


class FrameError(SpmError, ValueError):
    """A frame that cannot be tracked on: wrong shape, type, size, or not the size the tracker was started with."""


class BoxError(SpmError, ValueError):
    """A box that cannot be tracked: not finite, empty, inverted, or wholly outside the frame."""


class NotInitializedError(SpmError, RuntimeError):
    """``update`` was called before ``init``."""


class TargetError(SpmError, LookupError):
    """A target that a ``MultiTracker`` does not follow: never added, or removed."""


class ThreadError(SpmError, RuntimeError):
    """One tracker was entered by two threads at once; use one tracker per thread."""


class ProcessError(SpmError, RuntimeError):
    """A tracker or a source of frames was used in a child forked after it was made: make it there, or spawn."""


class ClosedError(SpmError, RuntimeError):
    """A tracker was used after ``close``."""


class CopyError(SpmError, TypeError):
    """A tracker cannot be copied or pickled; ``sibling`` makes another one, ``load`` one in another process."""


class SettingsError(SpmError, ValueError):
    """A tracker setting, model specification or configuration file that does not make sense."""


class BundleError(SpmError, ValueError):
    """A bundle that is missing, incomplete, altered, or of a format this version does not read."""


class BackendError(SpmError, RuntimeError):
    """An inference backend that is unknown, not installed, or did not do what was asked."""


class EngineError(BackendError):
    """An engine that is missing, damaged, somebody else's, or made for another GPU, library or bundle."""


class CheckpointError(SpmError, ValueError):
    """A checkpoint that is missing, truncated, foreign, unsafe, or does not fit the model."""


class ExportError(SpmError, RuntimeError):
    """An export that could not be written, or whose graphs do not compute what the reference computes."""


class SourceError(SpmError, ValueError):
    """A video, folder, camera or data set that cannot be read."""


def in_words(error: BaseException) -> str:
    """An error of somebody else's, its kind and what it says, on one line; of long ones the beginning and the end."""
    said = " ".join(str(error).split())
    said = said if len(said) <= 400 else f"{said[:150]} ... {said[-250:]}"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
