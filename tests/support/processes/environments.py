"""Virtual environments that scripts/pipelines.sh makes, for components that do not go with our own packages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ..layers import ROOT


def python_of(name: str) -> Path:
    """The interpreter of an environment, which sees our packages too; skips the test where it was not made."""
    found = Path(os.environ.get("SPM_VENVS") or ROOT / ".venvs", name, "bin", "python")
    if not found.exists():
        pytest.skip(f"needs another environment: bash scripts/pipelines.sh {name}")
    return found
