"""Bundles: the folder that ``spm-export`` writes, and the contract of its graphs."""

from .reader import (
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    STAGES,
    TYPED_VARIANTS,
    VARIANTS,
    VARIANTS_OF,
    Bundle,
)

__all__ = ["FORMAT", "FORMAT_VERSION", "MANIFEST", "STAGES", "TYPED_VARIANTS", "VARIANTS", "VARIANTS_OF", "Bundle"]
