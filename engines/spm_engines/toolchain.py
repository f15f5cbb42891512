"""Building engines from a bundle's graphs with TensorRT 10, TensorRT 11 or TensorRT for RTX.

The three have one interface as far as it is used here. Networks are strongly typed: what is computed in float16 says so
in the graph (:mod:`spm_export.graphs.half`), so a bundle gives engines of its own precision and no other. Every engine
is for a fixed number of targets and proposals, since weights that arrive at run time need a fixed number of groups.

TensorRT times kernels on the GPU at hand and needs one. TensorRT for RTX compiles for any card without one, in seconds.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
from pathlib import Path
from typing import Any

from spm_rt.bundle import Bundle
from spm_rt.bundle.contract import contract, tensor_type
from spm_rt.cache.engines import AMPERE_PLUS, PORTABLE, EngineTensor, graph_form, version_numbers
from spm_rt.cache.store import read_own
from spm_rt.errors import EngineError

from .doctor import gpus, probe
from .gpu_support import Gpu, road
from .store import write_beside

PACKAGES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
"""Module -> distribution."""
OLDEST = {"tensorrt": (10, 0), "tensorrt_rtx": (1, 4)}
RTX_TARGETS = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
"""Compute capabilities that TensorRT for RTX can be asked to compile for (its support table, version 1.7)."""
DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """How engines are built.

    Attributes:
        library: ``tensorrt`` or ``tensorrt_rtx``.
        compute_capabilities: for RTX: what to compile for; none for one portable plan for 8.0 and later.
        hardware_compatible: for TensorRT: a plan for compute capability 8.0 and later instead of this very card.
        version_compatible: for TensorRT: a plan that later versions of the same major version load.
        tf32: let float32 products be computed in TF32 (8.0 and later): faster, and not what the exporter verified.
        workspace: scratch memory, bytes; 0 for the library's own limit.
        proposals: K of the relation engine; by default the bundle's ``num_candidates``.
        plugin: for TensorRT: put the RoI plugin in the place of the RoI node's own body.
    """

    library: str
    compute_capabilities: tuple[tuple[int, int], ...] = ()
    hardware_compatible: bool = False
    version_compatible: bool = False
    tf32: bool = False
    workspace: int = 0
    proposals: int | None = None
    plugin: bool = False

    def __post_init__(self) -> None:
        if self.library not in PACKAGES:
            raise EngineError(f"library {self.library!r}: one of {', '.join(PACKAGES)}")
        if self.library == "tensorrt_rtx" and (self.hardware_compatible or self.version_compatible or self.plugin):
            raise EngineError(
                "TensorRT for RTX knows no plugins and no version-compatible plans, and its plans are portable as they "
                "are: leave these options out, or build with --engine tensorrt"
            )
        if self.library == "tensorrt" and self.compute_capabilities:
            raise EngineError(
                "TensorRT builds for the GPU at hand, so --compute-capability goes with tensorrt-rtx only; "
                "--hardware-compatible makes a plan for compute capability 8.0 and later"
            )


@dataclasses.dataclass(frozen=True)
class Toolchain:
    """A library that was loaded, and what it builds for: the part of an engine's facts that the machine decides."""

    module: Any
    library: str
    version: str
    target: str
    gpu: str
    plugin_sha256: str = ""
    network_flags: tuple[str, ...] = ("STRONGLY_TYPED",)

    @property
    def variant(self) -> str:
        """The form of the graphs."""
        return graph_form(self.library, self.version)


def open_toolchain(options: BuildOptions, precision: str) -> Toolchain:
    """Load the library and settle what is built for.

    Raises:
        EngineError: the library is missing, broken or too old, there is no GPU where one is needed, or the GPU cannot
            run what was asked for.
    """
    module, version = load_library(options.library)
    if options.library == "tensorrt_rtx":
        wanted = tuple(sorted(set(options.compute_capabilities)))
        for capability in wanted:
            if capability not in RTX_TARGETS:
                known = ", ".join(f"{major}.{minor}" for major, minor in RTX_TARGETS)
                raise EngineError(
                    f"compute capability {capability[0]}.{capability[1]}: TensorRT for RTX compiles for {known}; "
                    "without --compute-capability it makes one portable plan for 8.0 and later"
                )
            _check_precision(precision, capability)
        target = "+".join(f"sm_{major}{minor}" for major, minor in wanted) or PORTABLE
        return Toolchain(module, options.library, version, target, "")
    gpu = _gpu_at_hand()
    _check_precision(precision, gpu.compute_capability)
    served = road(gpu).tensorrt
    if served is None or not served[0] <= version_numbers(version)[:2] <= served[1]:
        raise EngineError(f"{gpu.name}: TensorRT {version} has no kernels for it; `spm-export doctor` says what has")
    capability = gpu.compute_capability
    if not options.hardware_compatible:
        target, name = f"sm_{capability[0]}{capability[1]}", gpu.name
    elif gpu.compute_capability >= (8, 0):
        target, name = AMPERE_PLUS, ""
    else:
        raise EngineError(f"{gpu.name}: hardware-compatible plans need compute capability 8.0 or later")
    tools = Toolchain(module, options.library, version, target, name)
    return _with_plugin(tools, (8, 0) if options.hardware_compatible else capability) if options.plugin else tools


@functools.cache
def load_library(library: str) -> tuple[Any, str]:
    """The module and its version; tried in a process of its own first, since a broken one may take the process along.

    Raises:
        EngineError: it is missing, cannot be loaded, or is too old.
    """
    package = PACKAGES[library]
    if importlib.util.find_spec(library) is None:
        raise EngineError(f"{package} is not installed: pip install {package}")
    found = probe(library)
    if found.version is None:
        raise EngineError(f"{package} is installed but cannot be loaded: {found.problem}")
    oldest = OLDEST[library]
    if version_numbers(found.version) < oldest:
        raise EngineError(
            f"{package} {found.version} is too old: {'.'.join(map(str, oldest))} is the first that can be used here; "
            "docs/guide/engines.md says what runs on older GPUs"
        )
    return importlib.import_module(library), found.version


def build_plan(
    bundle: Bundle, stage: str, targets: int, options: BuildOptions, tools: Toolchain, timing: Path | None = None
) -> tuple[bytes, tuple[EngineTensor, ...]]:
    """Parse and compile one graph.

    Args:
        bundle: a verified bundle.
        stage: ``template``, ``search`` or ``relation``.
        targets: leading axis of every tensor.
        options: see there.
        tools: of :func:`open_toolchain`.
        timing: a file for TensorRT's measurements of kernels, read and written where it can be.

    Returns:
        The plan, and the network's inputs and outputs, which have been compared with the contract.

    Raises:
        EngineError: the library could not, with what it said; or the network is not the contract's.
    """
    trt = tools.module
    path = bundle.graph(stage, targets=targets, variant=tools.variant)
    log = _log(tools.module)
    log.lines.clear()
    try:
        builder = trt.Builder(log)
    except TypeError as error:  # what its bindings make of a null pointer
        raise EngineError(f"{tools.library} {tools.version} gives no builder here: {log.text()}") from error
    network = builder.create_network(_network_flags(trt, tools))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(path)):
        errors = "; ".join(" ".join(parser.get_error(i).desc().split()) for i in range(parser.num_errors))
        raise EngineError(f"{path}: {tools.library} {tools.version} cannot read it: {errors or log.text()}")
    if bundle.precision == "int8" and stage != "template":
        _require_int8(trt, network, path)
    count = bundle.settings.num_candidates if options.proposals is None else options.proposals
    for tensor in (network.get_input(i) for i in range(network.num_inputs)):
        tensor.shape = tuple(count if size < 0 else size for size in tensor.shape)
    tensors = network_tensors(network)
    check_contract(bundle, stage, targets, count, tensors, path)
    config = _configure(trt, builder, options)
    cache = _use_timing(config, timing) if tools.library == "tensorrt" else None
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{path}: {tools.library} {tools.version} cannot build it: {log.text()}")
    if timing is not None and cache is not None:
        write_beside(timing, bytes(config.get_timing_cache().serialize()))
    return bytes(plan), tensors


def _require_int8(trt: Any, network: Any, path: Path) -> None:
    """An EngineError for a graph of an int8 bundle that rounds nothing: a float32 engine would bear the wrong name."""
    kinds = (network.get_layer(index).type for index in range(network.num_layers))
    if not any(kind == trt.LayerType.QUANTIZE for kind in kinds):
        raise EngineError(
            f"{path}: the bundle says int8, this graph computes in float32, as those of earlier versions did; "
            "export it again"
        )


def network_tensors(network: Any) -> tuple[EngineTensor, ...]:
    """Inputs and outputs of a parsed network."""
    both = [("input", network.get_input(i)) for i in range(network.num_inputs)]
    both += [("output", network.get_output(i)) for i in range(network.num_outputs)]
    return tuple(
        EngineTensor(t.name, mode, DTYPES.get(t.dtype.name, t.dtype.name), tuple(int(size) for size in t.shape))
        for mode, t in both
    )


def check_contract(
    bundle: Bundle, stage: str, targets: int, proposals: int, tensors: tuple[EngineTensor, ...], path: Path
) -> None:
    """Compare a network's inputs and outputs with what the runtime will bind."""
    agreed = contract(bundle.spec, targets)[stage]
    wanted = {
        EngineTensor(
            name, mode, tensor_type(name, bundle.precision), tuple(proposals if n == "K" else int(n) for n in shape)
        )
        for mode, side in (("input", "inputs"), ("output", "outputs"))
        for name, shape in agreed[side].items()
    }
    if set(tensors) != wanted:
        different = sorted(f"{t.mode} {t.name} {t.dtype} {list(t.shape)}" for t in set(tensors) ^ wanted)
        raise EngineError(f"{path}: the parsed network is not the contract's: {'; '.join(different)}")


def _with_plugin(tools: Toolchain, capability: tuple[int, int]) -> Toolchain:
    """The same with the RoI plugin registered, which holds for all that this process builds."""
    name = f"{__package__}.plugin"
    if importlib.util.find_spec(name) is None:
        raise EngineError("this installation has no RoI plugin; without it, the RoI node's own body is compiled")
    plugin = importlib.import_module(name).register_plugin(tools.module, 10 * capability[0] + capability[1])
    flags = ("STRONGLY_TYPED", "PREFER_AOT_PYTHON_PLUGINS") if plugin.kind == "aot" else ("STRONGLY_TYPED",)
    return dataclasses.replace(tools, plugin_sha256=plugin.sha256, network_flags=flags)


def _network_flags(trt: Any, tools: Toolchain) -> int:
    """Flags of a network, those that this version knows: TensorRT for RTX types strongly without being told."""
    known = trt.NetworkDefinitionCreationFlag
    return sum(1 << int(getattr(known, name)) for name in tools.network_flags if hasattr(known, name))


def _configure(trt: Any, builder: Any, options: BuildOptions) -> Any:
    config = builder.create_builder_config()
    if not options.tf32:  # it is on by default
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.compute_capabilities:
        wanted = sorted(set(options.compute_capabilities))
        config.num_compute_capabilities = len(wanted)
        for index, (major, minor) in enumerate(wanted):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{major}{minor}"), index)
    return config


def _use_timing(config: Any, timing: Path | None) -> Any:
    """Start from earlier measurements, or from none where the file is missing or not this user's own."""
    try:
        known = read_own(timing) if timing is not None else b""
    except OSError:
        known = b""
    cache = config.create_timing_cache(known)
    if cache is not None and not config.set_timing_cache(cache, False) and known:  # another GPU's or version's
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


@functools.cache
def _log(trt: Any) -> Any:
    """The library's logger. The first one of a process serves it for good, so there is one."""

    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps warnings and errors."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.lines.append(message)

        def text(self) -> str:
            """What went wrong last, on one line."""
            return " | ".join(" ".join(line.split())[:300] for line in self.lines[-3:]) or "it does not say why"

    return Log()


def _gpu_at_hand() -> Gpu:
    found = gpus()
    if not found:
        raise EngineError(
            "TensorRT times its kernels on the GPU that will run them, and no NVIDIA driver answers here. Build on the "
            "machine with the GPU, or with --engine tensorrt-rtx, which needs none"
        )
    return found[0]


def _check_precision(precision: str, capability: tuple[int, int]) -> None:
    if precision == "bfloat16" and capability < (8, 0):
        raise EngineError(
            f"compute capability {capability[0]}.{capability[1]} has no bfloat16: export with --precision float16"
        )
