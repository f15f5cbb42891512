"""The fast layer of the tests: what is in it, and what is kept out; and where helpers live."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .support.layers import HEAVY, ROOT, imports_of, loaded_by_function, loaded_by_module, module_name

LEAST_FAST = 1000


def test_there_are_many_fast_tests(request: pytest.FixtureRequest) -> None:
    """Counted by a run of all of them, which scripts/test.sh starts."""
    chosen = request.config.option
    if (chosen.markexpr, chosen.keyword, request.config.args) != ("fast", "", ["tests"]):
        pytest.skip("this run has other tests, or not all")
    assert len(request.session.items) > LEAST_FAST


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


def test_helpers_are_not_imported_out_of_test_modules() -> None:
    """They live in tests/support."""
    modules = map(module_name, (ROOT / "tests").rglob("*.py"))
    out_of_tests = [
        f"{module} imports {name}"
        for module in modules
        for name in imports_of(module).anywhere
        if name.startswith("tests.") and any(part == "conftest" or part.startswith("test_") for part in name.split("."))
    ]
    assert out_of_tests == []


def test_no_folder_of_helpers_is_a_drawer() -> None:
    folders = {path.parent for path in (ROOT / "tests" / "support").rglob("*.py")}
    assert {
        folder.name: len(list(folder.glob("*.py"))) for folder in folders if len(list(folder.glob("*.py"))) > 12
    } == {}
