"""Trackers whose whole frame stays on the GPU."""

from .multi import ResidentMultiTracker
from .single import ResidentTracker

__all__ = ["ResidentMultiTracker", "ResidentTracker"]
