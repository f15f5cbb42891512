"""Several sources at once: files, folders, addresses, cameras, each with its targets (docs/guide/pipelines.md)."""

from .observer import Observer, Observers
from .reader import StreamOptions
from .stream import StreamReport, StreamResult
from .tracker import StreamTracker

__all__ = ["Observer", "Observers", "StreamOptions", "StreamReport", "StreamResult", "StreamTracker"]
