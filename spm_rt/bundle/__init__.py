"""Bundles: the folder that ``spm-export`` writes, and the contract of its graphs."""

from .forms import FORMS, STAGES
from .reader import FORMAT, FORMAT_VERSION, MANIFEST, Bundle

__all__ = ["FORMAT", "FORMAT_VERSION", "FORMS", "MANIFEST", "STAGES", "Bundle"]
