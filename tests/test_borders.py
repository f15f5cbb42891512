"""Who may import whom, and what importing the runtime pulls in."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "spm_rt": "spm_rt",
    "spm_engines": "engines/spm_engines",
    "spm_export": "export/spm_export",
    "spm_train": "training/spm_train",
    "spm_bench": "benchmarks/spm_bench",
}
MAY_IMPORT = {
    "spm_rt": set(),
    "spm_engines": {"spm_rt"},
    "spm_export": {"spm_rt", "spm_engines"},
    "spm_train": {"spm_rt", "spm_export"},
    "spm_bench": {"spm_rt", "spm_engines", "spm_export", "spm_train"},
}
HEAVY = {
    "torch",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "tensorrt_rtx",
    "cupy",
    "pycuda",
    "matplotlib",
    "safetensors",
}
FILES = {package: sorted((ROOT / folder).rglob("*.py")) for package, folder in FOLDERS.items()}


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Packages that a file imports by their full name, anywhere or only when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in _executed(tree) if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when a module is imported: not those in functions, nor those for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _executed(child)


@pytest.mark.parametrize("package", FOLDERS)
def test_packages_import_only_what_they_may(package: str) -> None:
    ours = FOLDERS.keys() - {package}
    crossed = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES[package]
        for name in imports(path)
        if name in ours - MAY_IMPORT[package]
    ]
    assert crossed == []


def test_relative_imports_stay_in_their_package() -> None:
    for package, paths in FILES.items():
        for path in paths:
            depth = len(path.relative_to(ROOT / FOLDERS[package]).parts)
            levels = [
                node.level
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.ImportFrom)
            ]
            assert max(levels, default=0) <= depth, path


def test_the_runtime_imports_no_heavy_library_when_it_is_imported() -> None:
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES["spm_rt"]
        for name in imports(path, top_level=True)
        if name in HEAVY
    ]
    assert found == []


def test_the_runtime_never_imports_torch_or_onnx() -> None:
    """But for the backend whose inference library PyTorch is."""
    banned = {"torch", "onnx", "onnx_ir", "matplotlib", "safetensors"}
    found = {path.parent.name: banned & set(imports(path)) for path in FILES["spm_rt"] if banned & set(imports(path))}
    assert found == {"pytorch": {"torch"}}


@pytest.mark.parametrize("module", ["spm_rt", "spm_rt.cli", "spm_rt.adapters", "spm_rt.media.video", "spm_rt.backends"])
def test_a_process_that_imports_the_runtime_has_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_every_package_of_the_table_exists() -> None:
    assert MAY_IMPORT.keys() == FOLDERS.keys()
    assert [package for package in FOLDERS if not FILES[package]] == []
