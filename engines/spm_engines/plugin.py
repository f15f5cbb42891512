"""The RoI operator as a TensorRT plugin that needs no Python at run time (TensorRT 10.9 and later).

``spm::FusedRoiCrop`` is a node of the portable graphs whose body is made of standard operators; a plugin of its name
and namespace takes its place when an engine is built (docs/notes/gpu.md). Ours is *ahead of time*: TensorRT puts the
kernel's PTX and a formula for its arguments into the engine, which afterwards runs without this module. Where TensorRT
is older, :mod:`spm_rt.backends.tensorrt.python_plugin` does the same with a class that has to be there at run time too;
where there is no TensorRT with plugins at all (TensorRT for RTX), the node's own body is compiled.

Registered and driven in the tests over the plugin sources that the package ``tensorrt-cu13-bindings`` carries; never
run on a GPU.
"""

# Not "from __future__ import annotations": TensorRT looks at the annotations themselves.
import dataclasses
import hashlib
import warnings
from typing import Any, Tuple, Union  # noqa: UP035 - TensorRT 10 knows only these forms

from spm_rt.backends.tensorrt.python_plugin import NAME, NAMESPACE, register_python_plugin
from spm_rt.errors import BackendError
from spm_rt.gpu.kernels import ROI_BLOCK_CHANNELS, ROI_THREADS, nvrtc, roi_launch

IDENTIFIER = f"{NAMESPACE}::{NAME}"
CELLS = 6
LOWEST_VERSION = (10, 9)


@dataclasses.dataclass(frozen=True)
class Plugin:
    """What the RoI node of an engine is made of.

    Attributes:
        kind: ``aot`` (the kernel is in the engine), ``python`` (a class that must be registered at run time too) or
            ``none`` (the node's own body).
        sha256: of the kernel's code; empty for ``none``. It belongs to what an engine is found by.
    """

    kind: str
    sha256: str


def register_plugin(library: Any, capability: int) -> Plugin:
    """Make the RoI plugin known to TensorRT, once per process, before a graph is parsed.

    Where it cannot be had, a warning says why, and the node's own body will be compiled.

    Args:
        library: the module ``tensorrt`` (or ``tensorrt_rtx``, which has no plugins).
        capability: lowest compute capability that engines are built for, 75 for 7.5.
    """
    try:
        if supports_ahead_of_time(library):
            code = nvrtc.compiled("roi", f"compute_{capability}").rstrip(b"\0").decode()
            _register(library, code)
            return Plugin("aot", hashlib.sha256(code.encode()).hexdigest())
        code_sha = register_python_plugin(library, capability)
        return Plugin("python", code_sha)
    except BackendError as error:
        warnings.warn(
            f"no RoI plugin ({error}): the node's portable body is compiled instead", RuntimeWarning, stacklevel=2
        )
        return Plugin("none", "")


def supports_ahead_of_time(library: Any) -> bool:
    """Whether this TensorRT takes PTX from a plugin: 10.9 and later, not TensorRT for RTX."""
    version = tuple(int(part) for part in str(library.__version__).split(".")[:2])
    return version >= LOWEST_VERSION and hasattr(library, "QuickPluginCreationRequest")


_code: dict[int, str] = {}
"""PTX of the registered plugin by module: TensorRT keeps the first registration of a process for good."""


def _register(library: Any, code: str) -> None:
    if id(library) in _code:
        if _code[id(library)] != code:
            raise BackendError("the RoI plugin is registered for another card; build for one card per process")
        return
    _decorate(library, code)
    _code[id(library)] = code


def _decorate(trt: Any, code: str) -> None:
    """Describe the plugin to TensorRT: its output's shape, its kernel, and what the kernel is passed.

    The kernel's parameters come in TensorRT's order: the inputs' addresses, whole numbers, the output's address.
    """
    import tensorrt.plugin as trtp

    types = {trt.float32: "float32", trt.float16: "float16", trt.bfloat16: "bfloat16"}

    @trtp.register(IDENTIFIER)  # type: ignore[untyped-decorator]
    def describe(
        deep: trtp.TensorDesc,
        shallow: trtp.TensorDesc,
        boxes: trtp.TensorDesc,
        scale: trtp.TensorDesc,
        shift: trtp.TensorDesc,
    ) -> trtp.TensorDesc:
        count = boxes.shape_expr[0] * boxes.shape_expr[1]
        channels = deep.shape_expr[1] + shallow.shape_expr[1]
        return trtp.from_shape_expr((count, channels, CELLS, CELLS), dtype=deep.dtype)

    @trtp.aot_impl(IDENTIFIER)  # type: ignore[untyped-decorator]
    def implement(
        deep: trtp.TensorDesc,
        shallow: trtp.TensorDesc,
        boxes: trtp.TensorDesc,
        scale: trtp.TensorDesc,
        shift: trtp.TensorDesc,
        outputs: Tuple[trtp.TensorDesc],  # noqa: UP006
        tactic: int,
    ) -> Tuple[Union[str, bytes], Union[str, bytes], trtp.KernelLaunchParams, trtp.SymIntExprs]:  # noqa: UP006, UP007
        data = deep.dtype
        found = (data, shallow.dtype, boxes.dtype, scale.dtype, shift.dtype)
        if data not in types or found != (data, data, trt.float32, trt.float32, trt.float32):
            raise BackendError(f"{IDENTIFIER}: two maps of one float type and float32 for the rest, not {found}")
        launch = trtp.KernelLaunchParams()
        launch.grid_x = boxes.shape_expr[0] * boxes.shape_expr[1]
        channels = (deep.shape_expr[1], shallow.shape_expr[1])
        launch.grid_y = (channels[0] + channels[1]) // ROI_BLOCK_CHANNELS
        launch.block_x = ROI_THREADS
        # per_target, both maps' channels, height, width, channels_last
        given = (boxes.shape_expr[1], *channels, *deep.shape_expr[2:4], 0)
        numbers = trtp.SymIntExprs(len(given))
        for at, number in enumerate(given):
            numbers[at] = trtp.SymInt32(number)
        return roi_launch(1, 1, types[data]).name, code, launch, numbers
