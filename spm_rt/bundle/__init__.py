"""Bundles: the folder that ``spm-export`` writes, and the contract of its graphs."""

from .forms import FORMS, STAGES
from .manifest import FORMAT, FORMAT_VERSION, MANIFEST
from .reader import Bundle

__all__ = ["FORMAT", "FORMAT_VERSION", "FORMS", "MANIFEST", "STAGES", "Bundle"]
