"""The library that engines are built with, and what it builds for: TensorRT 10, TensorRT 11 or TensorRT for RTX.

TensorRT times kernels on the GPU at hand and needs one. TensorRT for RTX compiles for any card without one, in seconds.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
from typing import Any

from spm_rt.cache.engine_facts import AMPERE_PLUS, PORTABLE, RTX_TARGETS, graph_form, rtx_refusal, version_numbers
from spm_rt.errors import EngineError

from . import plugin
from .doctor import gpus, inspect_library
from .gpu_support import Gpu, dotted, support_of

PACKAGES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
"""Module -> distribution."""
OLDEST = {"tensorrt": (10, 0), "tensorrt_rtx": (1, 4)}


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
        target = _rtx_target(options, precision, version)
        return Toolchain(module, options.library, version, target, "")
    gpu = _gpu_at_hand(version, precision)
    capability, name = gpu.compute_capability, gpu.name
    target = "sm_{}{}".format(*capability)
    if options.hardware_compatible:
        if capability < (8, 0):
            raise EngineError(f"{gpu.name}: hardware-compatible plans need compute capability 8.0 or later")
        target, name, capability = AMPERE_PLUS, "", (8, 0)
    tools = Toolchain(module, options.library, version, target, name)
    return _with_plugin(tools, 10 * capability[0] + capability[1]) if options.plugin else tools


@functools.cache
def load_library(library: str) -> tuple[Any, str]:
    """The module and its version; tried in a process of its own first, since a broken one may take the process along.

    Raises:
        EngineError: it is missing, cannot be loaded, or is too old.
    """
    package = PACKAGES[library]
    if importlib.util.find_spec(library) is None:
        raise EngineError(f"{package} is not installed: pip install {package}")
    inspected = inspect_library(library)
    if inspected.version is None:
        raise EngineError(f"{package} is installed but cannot be loaded: {inspected.problem}")
    if version_numbers(inspected.version) < OLDEST[library]:
        raise EngineError(
            f"{package} {inspected.version} is too old: {dotted(OLDEST[library])} is the first that can be used here; "
            "docs/guide/engines.md says what runs on older GPUs"
        )
    return importlib.import_module(library), inspected.version


def _rtx_target(options: BuildOptions, precision: str, version: str) -> str:
    """What TensorRT for RTX compiles for, once it is known that it can."""
    wanted = sorted(set(options.compute_capabilities))
    here = [] if wanted else gpus()
    refused = [(gpu, why) for gpu in here if (why := rtx_refusal(gpu.compute_capability, version))]
    if refused and len(refused) == len(here):
        gpu, why = refused[0]
        others = "for other cards, name them: --compute-capability 8.6,12.0"
        raise EngineError(f"{gpu.name}: {why}. This card takes {support_of(gpu).advice}. A plan {others}")
    for capability in wanted:
        if capability not in RTX_TARGETS:
            known = ", ".join(map(dotted, RTX_TARGETS))
            raise EngineError(
                f"compute capability {dotted(capability)}: TensorRT for RTX compiles for {known}; "
                "without --compute-capability it makes one portable plan for 8.0 and later"
            )
        _check_precision(precision, capability)
    return "+".join(f"sm_{major}{minor}" for major, minor in wanted) or PORTABLE


def _gpu_at_hand(version: str, precision: str) -> Gpu:
    """The GPU that TensorRT will build on, once it is known that this version has kernels for it."""
    gpu = next(iter(gpus()), None)
    if gpu is None:
        raise EngineError(
            "TensorRT times its kernels on the GPU that will run them, and no NVIDIA driver answers here. Build on the "
            "machine with the GPU, or with --engine tensorrt-rtx, which needs none"
        )
    _check_precision(precision, gpu.compute_capability)
    versions = support_of(gpu).tensorrt
    if versions is None or not versions[0] <= version_numbers(version)[:2] <= versions[1]:
        raise EngineError(f"{gpu.name}: TensorRT {version} has no kernels for it; `spm-export doctor` says what has")
    return gpu


def _check_precision(precision: str, capability: tuple[int, int]) -> None:
    if precision == "bfloat16" and capability < (8, 0):
        raise EngineError(f"compute capability {dotted(capability)} has no bfloat16: export with --precision float16")


def _with_plugin(tools: Toolchain, capability: int) -> Toolchain:
    """The same with the RoI plugin registered, which holds for all that this process builds."""
    registered = plugin.register_plugin(tools.module, capability)
    flags = ("STRONGLY_TYPED", "PREFER_AOT_PYTHON_PLUGINS") if registered.kind == "aot" else ("STRONGLY_TYPED",)
    return dataclasses.replace(tools, plugin_sha256=registered.sha256, network_flags=flags)
