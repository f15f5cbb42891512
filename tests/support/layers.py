"""Which tests are fast: those that load neither PyTorch, nor onnx, nor an inference library.

What a module loads is read from its source, without importing it: ``pytest -m fast`` never imports a module that is
not fast. There, importing one of the libraries fails besides: a test that is called fast by mistake cannot pass.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "tests": ROOT / "tests",
    "spm_rt": ROOT / "spm_rt",
    "spm_engines": ROOT / "engines" / "spm_engines",
    "spm_export": ROOT / "export" / "spm_export",
    "spm_train": ROOT / "training" / "spm_train",
    "spm_bench": ROOT / "benchmarks" / "spm_bench",
}
HEAVY = frozenset({"torch", "onnx", "onnx_ir", "safetensors", "onnxruntime", "openvino"})


def refuse_heavy_imports() -> None:
    """From now on, importing a heavy library fails in this process."""
    for library in HEAVY:
        sys.modules[library] = None  # type: ignore[assignment]


def is_fast(item: pytest.Function) -> bool:
    """Whether neither the test's module nor the test, nor a fixture that it uses, imports a heavy library."""
    if item.get_closest_marker("slow") or item.get_closest_marker("heavy"):
        return False
    fixtures = [
        definition.func for name in item.fixturenames for definition in item._fixtureinfo.name2fixturedefs.get(name, ())
    ]
    return not any(
        loaded_by_module(function.__module__) or loaded_by_function(function.__module__, function.__name__)
        for function in (item.function, *fixtures)
    )


@cache
def loaded_by_module(module: str) -> frozenset[str]:
    """The heavy libraries that importing a module imports."""
    waiting, met = [module], set()
    while waiting:
        name = waiting.pop()
        if name not in met:
            met.add(name)
            parts = name.split(".")
            waiting += [".".join(parts[:length]) for length in range(1, len(parts))]
            path = path_of(name)
            waiting += imported(name, executed(tree_of(path))) if path else []
    return frozenset(name.split(".")[0] for name in met) & HEAVY


@cache
def loaded_by_function(module: str, function: str) -> frozenset[str]:
    """The heavy libraries that the imports inside a module's function import."""
    path = path_of(module)
    nodes = ast.walk(tree_of(path)) if path else ()
    bodies = [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == function]
    names = [name for body in bodies for name in imported(module, ast.walk(body))]
    return frozenset(library for name in names for library in loaded_by_module(name))


def module_name(path: Path) -> str:
    """The full name of a module of the tests."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@cache
def path_of(module: str) -> Path | None:
    """The file of a module of this project."""
    package, *rest = module.split(".")
    if package not in PACKAGES:
        return None
    base = PACKAGES[package].joinpath(*rest)
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@cache
def tree_of(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(module: str, nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Full names of the modules that import statements name."""
    path = path_of(module)
    package = module.split(".") if path and path.name == "__init__.py" else module.split(".")[:-1]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield source
            yield from (name for alias in node.names if path_of(name := f"{source}.{alias.name}"))


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when a module is imported: not those in functions, nor those for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from executed(child)
