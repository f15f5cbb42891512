"""As much of TensorRT's builder as this project uses, in Python, to see what it is asked for. It compiles nothing."""

from __future__ import annotations

import enum
import json
from typing import Any, ClassVar


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    BF16 = 2


class BuilderFlag(enum.Enum):
    TF32 = 0
    VERSION_COMPATIBLE = 1


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1
    PREFER_AOT_PYTHON_PLUGINS = 3


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class HardwareCompatibilityLevel(enum.Enum):
    NONE = 0
    AMPERE_PLUS = 1


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
        return self.outputs[index]


class TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"+measured"


class Config:
    def __init__(self) -> None:
        self.flags = {BuilderFlag.TF32}
        self.workspace = 0
        self.hardware_compatibility_level = HardwareCompatibilityLevel.NONE
        self.timing: TimingCache | None = None

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

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
    tensors: ClassVar[tuple[list[Tensor], list[Tensor]]] = ([], [])
    """Inputs and outputs of whatever is parsed."""
    fails: ClassVar[bool] = False
    num_errors = 1

    def __init__(self, network: Network, log: Any) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        given, made = self.tensors
        self.network.inputs = [Tensor(t.name, t.dtype, t.shape) for t in given]
        self.network.outputs = made
        return not self.fails

    def get_error(self, index: int) -> ParserError:
        return ParserError()
