"""The bundle of a command where none is named."""

from __future__ import annotations

import os

WHICH_BUNDLE = "(default: $SPM_RT_BUNDLE, or spm_alexnet)"
"""What the help says where :func:`default_bundle` is taken."""


def default_bundle() -> str:
    """What the environment says, else the folder that ``spm-export --out spm_alexnet`` makes here."""
    return os.environ.get("SPM_RT_BUNDLE") or "spm_alexnet"
