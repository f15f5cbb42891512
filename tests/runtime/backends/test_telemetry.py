"""Nothing is sent to the makers of the inference libraries, unless the user wants it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spm_rt.backends import BACKENDS
from spm_rt.backends.registry import BackendEntry
from spm_rt.backends.telemetry import ONNXRUNTIME, OPENVINO, VARIABLE

LIBRARY = f"""
import os
try:
    import {OPENVINO}
    sends = True
except ImportError:
    sends = False
told = os.environ.get({ONNXRUNTIME!r})
"""


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BackendEntry:
    """A library that sends what it can, and the module that it sends it by."""
    (tmp_path / "curious_library.py").write_text(LIBRARY)
    (tmp_path / f"{OPENVINO}.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("curious_library", OPENVINO):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delenv(ONNXRUNTIME, raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)
    return BackendEntry("curious", "curious", "curious_library", "curious", "")


@pytest.mark.parametrize("value", ["", "off", "anything"])
def test_libraries_are_imported_so_that_they_send_nothing(
    value: str, entry: BackendEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    library = entry.import_library()
    assert (library.sends, library.told) == (False, "1")
    assert OPENVINO not in sys.modules  # others may import it


@pytest.mark.parametrize("value", ["on", "ON", "1"])
def test_who_wants_it_gets_it(value: str, entry: BackendEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, value)
    library = entry.import_library()
    assert (library.sends, library.told) == (True, None)


def test_what_the_user_said_to_the_library_itself_holds(entry: BackendEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ONNXRUNTIME, "0")
    module = sys.modules[OPENVINO] = type(sys)(OPENVINO)
    library = entry.import_library()
    assert (library.sends, library.told) == (False, "0")
    assert sys.modules[OPENVINO] is module


@pytest.mark.parametrize("name", [name for name in ("onnxruntime", "openvino") if BACKENDS[name].installed])
def test_the_real_ones_leave_nothing_in_the_home_folder(name: str, tmp_path: Path) -> None:
    code = f"from spm_rt.backends import BACKENDS; BACKENDS[{name!r}].import_library()"
    kept = {key: value for key, value in os.environ.items() if key not in ("CI", "XDG_CACHE_HOME", VARIABLE)}
    done = subprocess.run([sys.executable, "-c", code], env={**kept, "HOME": str(tmp_path)}, timeout=120)
    assert done.returncode == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
