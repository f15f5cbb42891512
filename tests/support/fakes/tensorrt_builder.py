"""As much of TensorRT's builder as this project uses, in Python, to see what it is asked for. It compiles nothing."""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from spm_engines import toolchain
from spm_engines.gpu_support import Gpu
from spm_rt import Bundle
from spm_rt.bundle.contract import contract, tensor_type

DataType = enum.Enum("DataType", "FLOAT HALF BF16", start=0)
BuilderFlag = enum.Enum("BuilderFlag", "TF32 VERSION_COMPATIBLE", start=0)
MemoryPoolType = enum.Enum("MemoryPoolType", "WORKSPACE", start=0)
HardwareCompatibilityLevel = enum.Enum("HardwareCompatibilityLevel", "NONE AMPERE_PLUS", start=0)


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1
    PREFER_AOT_PYTHON_PLUGINS = 3


class ILogger:
    class Severity(enum.IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2


class Tensor:
    def __init__(self, name: str, dtype: DataType, shape: tuple[int, ...]) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape


class Network:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]

    def get_output(self, index: int) -> Tensor:
        """With the number of proposals that the inputs have by now."""
        output = self.outputs[index]
        count = {tensor.name: tensor.shape for tensor in self.inputs}.get("proposals", (0, 0))[1]
        return Tensor(output.name, output.dtype, tuple(count if size < 0 else size for size in output.shape))


class TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"+measured"


class Config:
    def __init__(self) -> None:
        self.flags = {BuilderFlag.TF32}
        self.set_flag, self.clear_flag = self.flags.add, self.flags.discard
        self.workspace = 0
        self.hardware_compatibility_level = HardwareCompatibilityLevel.NONE
        self.timing: TimingCache | None = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self.workspace = size

    def create_timing_cache(self, content: bytes) -> TimingCache:
        return TimingCache(content)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        if cache.content.startswith(b"foreign"):
            return False
        self.timing = cache
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self.timing


class Builder:
    fails: ClassVar[bool] = False
    missing: ClassVar[bool] = False

    def __init__(self, log: Any) -> None:
        self.log = log
        if self.missing:
            log.log(ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def create_network(self, flags: int) -> Network:
        return Network(flags)

    def create_builder_config(self) -> Config:
        return Config()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        if self.fails:
            self.log.log(ILogger.Severity.ERROR, "no tactic\nfor anything")
            self.log.log(ILogger.Severity.WARNING, "it is late")
            return None
        return json.dumps(
            {
                "network": network.flags,
                "flags": sorted(flag.name for flag in config.flags),
                "workspace": config.workspace,
                "hardware": config.hardware_compatibility_level.name,
                "timing": config.timing.content.decode() if config.timing else None,
                "shapes": {t.name: list(t.shape) for t in network.inputs},
            }
        ).encode()


class ParserError:
    def desc(self) -> str:
        return "Unsupported\nnode"


class OnnxParser:
    tensors: ClassVar[Callable[[str], tuple[list[Tensor], list[Tensor]]]] = lambda path: ([], [])
    """Inputs and outputs of a graph file."""
    fails: ClassVar[bool] = False
    num_errors = 1

    def __init__(self, network: Network, log: Any) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        self.network.inputs, self.network.outputs = OnnxParser.tensors(path)
        return not self.fails

    def get_error(self, index: int) -> ParserError:
        return ParserError()


def graph_tensors(bundle: Bundle, path: str) -> tuple[list[Tensor], list[Tensor]]:
    """The inputs and outputs that a parser finds in one of a bundle's graphs: an open number is -1."""
    types = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16"}
    ((stage, targets),) = {
        (stage, int(targets))
        for targets, stages in bundle.manifest["graphs"].items()
        for stage, forms in stages.items()
        if Path(path).name in forms.values()
    }
    sides = contract(bundle.spec, targets)[stage]
    inputs, outputs = (
        [
            Tensor(
                name,
                DataType[types[tensor_type(name, bundle.precision)]],
                tuple(-1 if size == "K" else int(size) for size in shape),
            )
            for name, shape in sides[side].items()
        ]
        for side in ("inputs", "outputs")
    )
    return inputs, outputs


def install(monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None, version: str, bundle: Bundle | None = None) -> None:
    """A machine with this GPU, and this stand-in as its TensorRT, which parses the bundle's graphs."""
    monkeypatch.setattr(toolchain, "gpus", lambda: [gpu] if gpu else [])
    monkeypatch.setattr(toolchain, "load_library", lambda library: (sys.modules[__name__], version))
    if bundle is not None:
        monkeypatch.setattr(OnnxParser, "tensors", lambda path: graph_tensors(bundle, path))
