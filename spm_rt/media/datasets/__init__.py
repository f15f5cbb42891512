"""Data sets for single-object tracking, in the layouts that they are published in."""

from .sequences import Sequence, Sequences, find_sequences, read_boxes, usable

__all__ = ["Sequence", "Sequences", "find_sequences", "read_boxes", "usable"]
