"""One graph of a bundle through TensorRT's parser and builder.

TensorRT 10, TensorRT 11 and TensorRT for RTX have one interface as far as it is used here. Networks are strongly typed:
what is computed in float16 says so in the graph (:mod:`spm_export.graphs.half`), so a bundle gives engines of its own
precision and no other. Every engine is for a fixed number of targets and proposals, since weights that arrive at run
time need a fixed number of groups.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spm_rt.backends.tensorrt.messages import library_log
from spm_rt.bundle import Bundle
from spm_rt.bundle.contract import contract, tensor_type
from spm_rt.cache.engine_facts import EngineTensor
from spm_rt.errors import EngineError
from spm_rt.store import read_own

from .store import write_beside
from .toolchain import BuildOptions, Toolchain

DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}


def build_plan(
    bundle: Bundle, stage: str, targets: int, options: BuildOptions, tools: Toolchain, timing: Path | None = None
) -> tuple[bytes, tuple[EngineTensor, ...]]:
    """Parse and compile one graph.

    Args:
        bundle: a verified bundle.
        stage: ``template``, ``search`` or ``relation``.
        targets: leading axis of every tensor.
        options: see there.
        tools: of :func:`~spm_engines.toolchain.open_toolchain`.
        timing: a file for TensorRT's measurements of kernels, read and written where it can be.

    Returns:
        The plan, and the network's inputs and outputs, which have been compared with the contract.

    Raises:
        EngineError: the library could not, with what it said; or the network is not the contract's.
    """
    trt = tools.module
    path = bundle.graph(stage, targets=targets, variant=tools.variant)
    log = library_log(tools.module)
    log.clear()
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
