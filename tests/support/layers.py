"""Which tests are fast: those that load neither PyTorch, nor onnx, nor an inference library.

What a module loads is read from its source, without importing it: ``pytest -m fast`` never imports a module that is
not fast. There, importing one of the libraries fails besides: a test that is called fast by mistake cannot pass.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

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
BLOCKS = ("body", "handlers", "cases", "orelse", "finalbody")
"""Where statements hold other statements."""


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
            waiting += imports_of(name).when_imported
    return frozenset(name.split(".")[0] for name in met) & HEAVY


@cache
def loaded_by_function(module: str, function: str) -> frozenset[str]:
    """The heavy libraries that the imports inside a module's function import."""
    names = imports_of(module).by_function.get(function, ())
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


def tree_of(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


class Imports(NamedTuple):
    """Full names of the modules that a module's import statements name."""

    anywhere: frozenset[str] = frozenset()
    when_imported: frozenset[str] = frozenset()
    by_function: dict[str, frozenset[str]] = {}  # noqa: RUF012


@cache
def imports_of(module: str) -> Imports:
    """What a module of this project imports; nothing, if it is another's."""
    path = path_of(module)
    if path is None:
        return Imports()
    tree = tree_of(path)
    every = list(statements(tree))
    by_function: dict[str, frozenset[str]] = {}
    for node in every:
        if isinstance(node, ast.FunctionDef):
            by_function[node.name] = by_function.get(node.name, frozenset()) | imported(module, statements(node))
    return Imports(imported(module, every), imported(module, statements(tree, when_imported=True)), by_function)


def imported(module: str, nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Full names of the modules that import statements name."""
    path = path_of(module)
    package = module.split(".") if path and path.name == "__init__.py" else module.split(".")[:-1]
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            names.add(source)
            names.update(name for alias in node.names if path_of(name := f"{source}.{alias.name}"))
    return frozenset(names)


def statements(tree: ast.AST, when_imported: bool = False) -> Iterator[ast.AST]:
    """All statements in a tree, or those that run when a module is imported.

    Those in functions do not, nor those for type checkers alone.
    """
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        for child in (child for block in BLOCKS for child in getattr(node, block, ())):
            if when_imported and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if when_imported and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            yield child
            waiting.append(child)
