"""Virtual environments that scripts/pipelines.sh makes, for components that do not go with our own packages."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from ..layers import ROOT


def python_of(name: str) -> Path:
    """The interpreter of an environment, which sees our packages too; skips the test where it was not made."""
    found = Path(os.environ.get("SPM_VENVS") or ROOT / ".venvs", name, "bin", "python")
    if not found.exists():
        pytest.skip(f"needs another environment: bash scripts/pipelines.sh {name}")
    return found


def system_python(*namespaces: str) -> tuple[Path, dict[str, str]]:
    """The system's Python, where PyGObject has these namespaces, and variables with which it sees our packages too.

    Skips the test where there is none, or of another version than ours.
    """
    python, ours = Path("/usr/bin/python3"), f"{sys.version_info.major}.{sys.version_info.minor}"
    if not python.exists():
        pytest.skip(f"needs {python}")
    code = "import sys, gi; [gi.require_version(name, '1.0') for name in sys.argv[1:]]; print(sys.version)"
    done = subprocess.run([python, "-c", code, *namespaces], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs {' '.join(namespaces)} of GStreamer in {python}, which .ci/run installs")
    if not done.stdout.startswith(f"{ours}."):
        pytest.skip(f"{python} is Python {done.stdout.split()[0]}, and packages are installed for {ours}")
    # Programs with Python inside take that of the first python3 in PATH.
    paths = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}"}
    return python, {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"} | paths
