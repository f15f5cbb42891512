"""The RoI operator as a TensorRT plugin class in Python: the readable fallback, for TensorRT 10.0 to 10.8.

An engine built with it needs this class registered whenever it is loaded (:func:`register_python_plugin`), which is why
it lives in the runtime. From TensorRT 10.9 on :mod:`spm_engines.plugin` puts the kernel into the engine instead.
Written after the interface's documentation and tested over a stand-in for it; never run on a GPU.
"""

from __future__ import annotations

import ctypes
import hashlib
from typing import Any

from ...errors import BackendError
from ...gpu.kernels import nvrtc, roi_launch, source

NAME = "FusedRoiCrop"
NAMESPACE = "spm"
VERSION = "1"

_registered: dict[int, Any] = {}


def register_python_plugin(library: Any, capability: int) -> str:
    """Make the class known to TensorRT, once per process; the sha256 of its kernel's source.

    Args:
        library: the module ``tensorrt``.
        capability: compute capability of the GPU that engines are built or run on, 75 for 7.5.

    Raises:
        BackendError: this TensorRT has no such interface, or the kernel cannot be compiled.
    """
    if not hasattr(library, "IPluginCreatorV3One") or library.__name__.startswith("tensorrt_rtx"):
        raise BackendError(f"{library.__name__} {library.__version__} takes no plugins of ours")
    if id(library) not in _registered:
        creator = _creator_class(library, nvrtc.compiled("roi", f"sm_{capability}"))()
        if not library.get_plugin_registry().register_creator(creator, NAMESPACE):
            raise BackendError(f"TensorRT {library.__version__} did not take the plugin {NAMESPACE}::{NAME}")
        _registered[id(library)] = creator
    return hashlib.sha256(source("roi").encode()).hexdigest()


def _creator_class(trt: Any, code: bytes) -> Any:
    plugin_class = _plugin_class(trt, code)

    class Creator(trt.IPluginCreatorV3One):  # type: ignore[misc]
        """Makes plugins when a graph is parsed and when an engine is loaded."""

        def __init__(self) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_namespace, self.plugin_version = NAME, NAMESPACE, VERSION
            self.field_names = trt.PluginFieldCollection([])

        def create_plugin(self, name: str, fields: Any, phase: Any) -> Any:
            return plugin_class()

    return Creator


def _plugin_class(trt: Any, code: bytes) -> Any:
    types = {trt.DataType.FLOAT: "float32", trt.DataType.HALF: "float16", trt.DataType.BF16: "bfloat16"}

    class RoiPlugin(trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):  # type: ignore[misc]
        """deep, shallow, boxes, scale, shift -> [T * K, C + D, 6, 6] of the maps' type."""

        def __init__(self) -> None:
            for base in (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):
                base.__init__(self)
            self.plugin_name, self.plugin_namespace, self.plugin_version = NAME, NAMESPACE, VERSION
            self.num_outputs = 1
            self._module: Any = None

        def get_capability_interface(self, kind: Any) -> Any:
            return self

        def get_output_data_types(self, input_types: Any) -> list[Any]:
            return [input_types[0]]

        def get_output_shapes(self, inputs: Any, shape_inputs: Any, builder: Any) -> list[Any]:
            deep, shallow, boxes = inputs[:3]
            count = builder.operation(trt.DimensionOperation.PROD, boxes[0], boxes[1])
            channels = builder.operation(trt.DimensionOperation.SUM, deep[1], shallow[1])
            shape = trt.DimsExprs(4)
            for axis, size in enumerate((count, channels, builder.constant(6), builder.constant(6))):
                shape[axis] = size
            return [shape]

        def supports_format_combination(self, position: int, in_out: Any, inputs: int) -> bool:
            """Rows of plain memory; both maps and the output of one type, everything else float32."""
            given = in_out[position].desc
            if given.format != trt.TensorFormat.LINEAR:
                return False
            if position in (0, 1, 5):
                return given.type in types and given.type == in_out[0].desc.type
            return bool(given.type == trt.DataType.FLOAT)

        def get_fields_to_serialize(self) -> Any:
            return trt.PluginFieldCollection([])

        def configure_plugin(self, *facts: Any) -> None:
            """What TensorRT tells on these three occasions is in ``enqueue``'s arguments again."""

        on_shape_change = set_tactic = configure_plugin

        def enqueue(
            self, input_desc: Any, output_desc: Any, inputs: Any, outputs: Any, workspace: Any, stream: int
        ) -> None:
            targets, per_target = tuple(input_desc[2].dims)[:2]
            deep_channels, height, width = tuple(input_desc[0].dims)[1:]
            channels = (deep_channels, tuple(input_desc[1].dims)[1])
            launch = roi_launch(targets * per_target, sum(channels), types[input_desc[0].type])
            numbers = [ctypes.c_int(n) for n in (per_target, *channels, height, width, 0)]
            self._loaded().prepare(launch, [*map(int, inputs), *numbers, int(outputs[0])])(stream)

        def attach_to_context(self, context: Any) -> Any:
            return self.clone()

        def clone(self) -> Any:
            copy = RoiPlugin()
            copy.__dict__.update(self.__dict__)
            return copy

        def _loaded(self) -> Any:
            """The kernel on the current GPU, loaded at the first use: TensorRT makes plugins before there is one."""
            from ...gpu.driver import Device, Driver

            if self._module is None:
                driver = Driver()
                self._module = Device(int(driver("cuCtxGetDevice")), driver).module(code)  # TensorRT's
            return self._module

    return RoiPlugin
