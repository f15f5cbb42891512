"""The fast layer of the tests: what is in it, and what is kept out; and where helpers live."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .support.layers import HEAVY, ROOT, loaded_by_function, loaded_by_module

LEAST_FAST = 1000


def _pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)


def test_there_are_many_fast_tests() -> None:
    done = _pytest("-m", "fast", "--collect-only", "tests")
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.splitlines()[-1].split("/")[0]) > LEAST_FAST


def test_no_heavy_library_can_be_imported_in_a_fast_run() -> None:
    """Neither by a test, nor by what it runs."""
    code = """
import importlib
from tests.support.layers import HEAVY, refuse_heavy_imports
refuse_heavy_imports()
for library in HEAVY:
    try:
        importlib.import_module(library)
    except ModuleNotFoundError:
        print(library)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert set(done.stdout.split()) == HEAVY


@pytest.mark.parametrize(
    ("module", "function", "loads"),
    [
        ("tests.conftest", None, set()),
        ("tests.conftest", "clip", set()),
        ("tests.conftest", "default_model", {"torch", "safetensors"}),
        ("tests.conftest", "default_bundle", {"torch", "onnx", "onnx_ir", "safetensors"}),
        ("tests.support.exports", None, {"torch", "onnx", "onnx_ir", "safetensors"}),
        ("spm_rt.backends.pytorch.backend", None, set()),
    ],
)
def test_what_a_module_or_a_function_loads_is_found(module: str, function: str | None, loads: set[str]) -> None:
    assert (loaded_by_function(module, function) if function else loaded_by_module(module)) == loads
