"""A stand-in for the compiled half of TensorRT, as far as plugins touch it.

The Python half (``tensorrt.plugin``) can be run over it unchanged, from the package ``tensorrt-cu13-bindings``:
:func:`with_plugin_sources`.
"""

from __future__ import annotations

import enum
import importlib.util
import operator
import sys
import types
from pathlib import Path
from typing import Any

import pytest

DataType = enum.Enum("DataType", "FLOAT HALF BF16 INT8 INT32 INT64 BOOL FP8 INT4", start=0)
DimensionOperation = enum.Enum("DimensionOperation", "SUM SUB PROD FLOOR_DIV CEIL_DIV EQUAL LESS MAX MIN", start=0)
TensorFormat = enum.Enum("TensorFormat", "LINEAR CHW32", start=0)
QuickPluginCreationRequest = enum.Enum(
    "QuickPluginCreationRequest", "UNKNOWN PREFER_JIT PREFER_AOT STRICT_JIT STRICT_AOT", start=0
)
PluginFieldType = enum.Enum("PluginFieldType", "FLOAT16 FLOAT32 FLOAT64 INT8 INT16 INT32 INT64 CHAR UNKNOWN", start=0)


class IDimensionExpr:
    """A size that is known here: the real one may depend on what is only known at run time."""

    def __init__(self, value: int) -> None:
        self.value = value

    def is_constant(self) -> bool:
        return True

    def get_constant_value(self) -> int:
        return self.value


class ExprBuilder:
    def constant(self, value: int) -> IDimensionExpr:
        return IDimensionExpr(value)

    def operation(self, op: DimensionOperation, a: IDimensionExpr, b: IDimensionExpr) -> IDimensionExpr:
        ways = {"PROD": operator.mul, "SUM": operator.add, "FLOOR_DIV": operator.floordiv}
        return IDimensionExpr(ways[op.name](a.value, b.value))


class DimsExprs(list[Any]):
    def __init__(self, given: Any) -> None:
        super().__init__([None] * given if isinstance(given, int) else given)


class Dims:
    MAX_DIMS = 8


class PluginTensorDesc:
    def __init__(self) -> None:
        self.dims: tuple[int, ...] = ()
        self.type = self.format = None
        self.scale = 0.0


class DynamicPluginTensorDesc:
    def __init__(self, dims: tuple[int, ...], kind: DataType, layout: TensorFormat = TensorFormat.LINEAR) -> None:
        self.desc = PluginTensorDesc()
        self.desc.dims, self.desc.type, self.desc.format = dims, kind, layout
        self.min = self.max = self.opt = dims


class PluginField:
    def __init__(self, name: str, data: Any = None, kind: Any = None) -> None:
        self.name, self.data, self.type = name, data, kind


class Registry:
    def __init__(self) -> None:
        self.creators: dict[tuple[str, str, str], Any] = {}

    def register_creator(self, creator: Any, namespace: str = "") -> bool:
        key = (creator.name, creator.plugin_version, namespace)
        if key in self.creators:
            return False
        self.creators[key] = creator
        return True

    def get_creator(self, name: str, version: str, namespace: str = "") -> Any:
        return self.creators.get((name, version, namespace))


def make(version: str = "11.4.0.106", *, quick: bool = True) -> types.ModuleType:
    """A fresh module ``tensorrt``; without ``quick`` it is one from before ahead-of-time plugins."""
    module: Any = types.ModuleType("tensorrt")
    module.__version__ = version
    registry = Registry()
    module.get_plugin_registry = lambda: registry
    for kind in (
        DataType,
        DimensionOperation,
        TensorFormat,
        PluginFieldType,
        IDimensionExpr,
        DimsExprs,
        Dims,
        PluginTensorDesc,
        DynamicPluginTensorDesc,
        PluginField,
    ):
        setattr(module, kind.__name__, kind)
    module.PluginFieldCollection = list
    module.float32, module.float16, module.bfloat16 = DataType.FLOAT, DataType.HALF, DataType.BF16
    module.int32, module.int64 = DataType.INT32, DataType.INT64
    module.PluginArgType = enum.Enum("PluginArgType", "INT")
    module.PluginArgDataType = enum.Enum("PluginArgDataType", "INT8 INT16 INT32")
    module.Logger = type("Logger", (), {"WARNING": 2, "log": lambda self, level, text: None})
    module.TensorRTPhase = enum.Enum("TensorRTPhase", "BUILD RUNTIME")
    bases = ["ITensor", "ISymExpr", "IPluginV3", "IPluginCreatorV3One", "IPluginCreatorV3Quick"]
    bases += [f"IPluginV3{kind}{part}" for kind in ("One", "Quick") for part in ("Core", "Build", "Runtime")]
    if quick:
        module.QuickPluginCreationRequest = QuickPluginCreationRequest
        bases.append("IPluginV3QuickAOTBuild")
    for name in bases:
        setattr(module, name, type(name, (), {}))
    return module


def with_plugin_sources(monkeypatch: pytest.MonkeyPatch, version: str = "11.4.0.106") -> Any:
    """The stand-in with the real Python half of the plugin interface; skips where that is not installed."""
    spec = importlib.util.find_spec("tensorrt_bindings")
    folder = Path(spec.origin).parent / "plugin" if spec and spec.origin else None
    if folder is None or not (folder / "_lib.py").is_file():
        pytest.skip("tensorrt-cu13-bindings is not installed: its plugin sources are what ours is checked against")
    module: Any = make(version)
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorrt"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    found = importlib.util.spec_from_file_location(
        "tensorrt.plugin", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert found is not None
    assert found.loader is not None
    plugin = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", plugin)
    found.loader.exec_module(plugin)
    module.plugin = plugin
    return module
