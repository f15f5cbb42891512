"""Who may import whom, how large modules and folders may be, and what importing the runtime pulls in."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from .support.layers import PACKAGES, ROOT, imports_of, tree_of

OURS = {name: folder for name, folder in PACKAGES.items() if name != "tests"}
MAY_IMPORT = {
    "spm_rt": set(),
    "spm_engines": {"spm_rt"},
    "spm_export": {"spm_rt", "spm_engines"},
    "spm_train": {"spm_rt", "spm_export"},
    "spm_bench": {"spm_rt", "spm_engines", "spm_export", "spm_train"},
}
LAYERS = {
    "spm_rt": (
        "errors lazy log",
        "fields",
        "settings results precision",
        "models",
        "files machine terminal",
        "store",
        "frame",
        "bundle",
        "cache",
        "gpu",
        "backends",
        "media",
        "trackers",
        "resident",
        "outputs",
        "adapters",
        "pipelines",
        "cli",
    ),
    "spm_engines": ("gpu_support", "doctor", "store plugin", "toolchain", "plan", "build", "cli"),
    "spm_export": ("place pack tables", "model", "graphs", "proof", "calibration", "bundle", "cli", "__main__"),
    "spm_train": (
        "config presets",
        "objective",
        "data",
        "checkpoints validation",
        "trainer",
        "throughput",
        "run",
        "cli",
        "__main__",
    ),
    "spm_bench": (
        "options loading tables",
        "profiling quality recorded",
        "timing",
        "report",
        "gpu",
        "commands",
        "cli",
        "__main__",
    ),
}
"""Folders and modules of each package, lowest first: none imports one of a later line, nor another of its own."""
MOST_MODULES, MOST_LINES, MOST_FUNCTION_LINES = 12, 320, 60
SOURCES = {".py", ".pyi", ".c", ".cpp", ".h", ".cu"}
LONGER = {
    "spm_rt/frame/_sampling.cpp": "one extension is one file: what it shares is static, for the compiler to inline",
    "spm_rt/backends/tensorrt/python_plugin.py:_plugin_class": "a class whose bases exist once TensorRT is loaded; "
    "its methods are short",
}
"""Files and functions of the packages over the bounds, and why: ``folder/file.py`` or ``folder/file.py:function``."""
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


@cache
def modules() -> dict[str, Path]:
    """Every module of ours by its full name."""
    named = {}
    for package, folder in OURS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            named[".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])] = path
    return named


def imports(module: str, *, top_level: bool = False) -> set[str]:
    """Full names of what a module imports, anywhere or only when it is itself imported."""
    found = imports_of(module)
    return set(found.when_imported if top_level else found.anywhere)


def packages(module: str, *, top_level: bool = False) -> set[str]:
    """The packages that a module imports from, ours and others'."""
    return {name.split(".")[0] for name in imports(module, top_level=top_level)}


@pytest.mark.parametrize("package", OURS)
def test_packages_import_only_what_they_may(package: str) -> None:
    banned = OURS.keys() - MAY_IMPORT[package] - {package}
    crossed = [name for name in modules() if name.split(".")[0] == package and packages(name) & banned]
    assert crossed == []


@pytest.mark.parametrize("package", OURS)
def test_nothing_is_imported_from_a_layer_above_or_beside(package: str) -> None:
    rank = {room: level for level, line in enumerate(LAYERS[package]) for room in line.split()}
    upward = [
        f"{module} imports {name}"
        for module in modules()
        for name in imports(module) & modules().keys() - {package}
        if module.startswith(f"{package}.") and name.startswith(f"{package}.")
        if module.split(".")[1] != name.split(".")[1]
        if rank[module.split(".")[1]] <= rank[name.split(".")[1]]
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count: they hide a circle, they do not break it."""
    edges = {module: set(imports(module)) & modules().keys() for module in modules()}
    while leaves := [module for module in edges if not edges[module] - {module}]:
        edges = {module: edges[module] - set(leaves) for module in edges.keys() - set(leaves)}
    assert edges == {}


@pytest.mark.parametrize("package", OURS)
def test_no_folder_holds_too_many_modules(package: str) -> None:
    folders = {path.parent for path in PACKAGES[package].rglob("*.py")}
    counts = {str(folder.relative_to(ROOT)): len(list(folder.glob("*.py"))) for folder in folders}
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_files_fit_a_sitting_and_functions_a_screen_or_are_listed() -> None:
    sources = [path for folder in OURS.values() for path in folder.rglob("*") if path.suffix in SOURCES]
    longer = {path for path in sources if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES}
    functions = {
        f"{path.relative_to(ROOT)}:{node.name}"
        for path in modules().values()
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or 0) - node.lineno + 1 > MOST_FUNCTION_LINES
    }
    assert {str(path.relative_to(ROOT)) for path in longer} | functions == LONGER.keys()


def test_the_runtime_imports_no_heavy_library_when_it_is_imported() -> None:
    runtime = [module for module in modules() if module.split(".")[0] == "spm_rt"]
    assert [module for module in runtime if packages(module, top_level=True) & HEAVY] == []


def test_the_runtime_never_imports_torch_or_onnx() -> None:
    """But for the backend whose inference library PyTorch is."""
    banned = {"torch", "onnx", "onnx_ir", "matplotlib", "safetensors"}
    importers = {module: packages(module) & banned for module in modules() if module.split(".")[0] == "spm_rt"}
    torch_users = {module for module, libraries in importers.items() if libraries}
    assert torch_users == {"spm_rt.backends.pytorch.backend"}
    assert importers["spm_rt.backends.pytorch.backend"] == {"torch"}


@pytest.mark.parametrize("module", ["spm_rt", "spm_rt.cli", "spm_rt.adapters", "spm_rt.media.video", "spm_rt.backends"])
def test_a_process_that_imports_the_runtime_has_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_the_tables_name_what_there_is() -> None:
    assert MAY_IMPORT.keys() == LAYERS.keys() == OURS.keys()
    for package, layers in LAYERS.items():
        rooms = {module.split(".")[1] for module in modules() if module.startswith(f"{package}.")}
        assert {room for line in layers for room in line.split()} == rooms
