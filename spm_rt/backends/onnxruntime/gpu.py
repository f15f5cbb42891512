"""ONNX Runtime on a GPU: options of its providers, and a context whose features stay there as OrtValues.

For cards that TensorRT has left behind. The context is tested with OrtValues on the CPU, and with sessions that replay
what they captured; neither it nor the options have been tried on a GPU (docs/notes/gpu.md).
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...bundle.contract import TEMPLATE_NAMES, stage_shapes
from ...errors import BackendError
from ...settings import ModelSpec
from ...store import cache_folder
from ..protocol import Template
from .binding import bind

Floats = NDArray[np.float32]
FLOAT = "tensor(float)"
TYPES = {FLOAT: np.float32, "tensor(float16)": np.float16}
GRAPH_VARIABLE = "SPM_ORT_CUDA_GRAPH"
"""1 captures CUDA graphs in the CUDA provider and in TensorRT's."""
_graph_ids = itertools.count(1)
"""A session replays what it captured under a ``gpu_graph_id``, on the shapes and addresses of then, whatever is bound
now; every binding of every context has a number of its own."""


def provider_options(
    provider: str, index: int, *, graph: bool | None = None, cache: Path | None = None, int8: bool = False
) -> dict[str, str]:
    """Options for the CUDA or the TensorRT provider; only ``device_id`` for others.

    Args:
        provider: its full name.
        index: of the GPU.
        graph: capture CUDA graphs; by default what ``$SPM_ORT_CUDA_GRAPH`` says.
        cache: where the TensorRT provider keeps its engines; by default beside this package's own.
        int8: the graphs are int8: the TensorRT provider builds none of those unless it is told (its issue 13381).
    """
    options = {"device_id": str(index)}
    capture = graph if graph is not None else os.environ.get(GRAPH_VARIABLE) == "1"
    if provider == "CUDAExecutionProvider":
        # TF32 would move scores by a thousandth; every convolution is measured once.
        options |= {"use_tf32": "0", "cudnn_conv_algo_search": "EXHAUSTIVE", "enable_cuda_graph": str(int(capture))}
    if provider == "TensorrtExecutionProvider":
        options |= {"trt_cuda_graph_enable": str(int(capture)), "trt_int8_enable": str(int(int8))}
        folder = cache or cache_folder("engines/onnxruntime")
        for kept in ("engine", "timing") if folder else ():
            options |= {f"trt_{kept}_cache_enable": "1", f"trt_{kept}_cache_path": str(folder)}
    return options


def captures(options: Mapping[str, str]) -> bool:
    """Whether a provider with these options captures CUDA graphs."""
    return "1" in (options.get("enable_cuda_graph"), options.get("trt_cuda_graph_enable"))


class _Call(NamedTuple):
    """A stage's inputs and outputs, and the options of its runs."""

    stage: str
    binding: Any
    options: Any


class DeviceContext:
    """One tracker's tensors on the device; crops and proposals go up, scores and boxes come back, nothing else moves.

    A target's template is handed from context to context by way of the host, once, when it gets another slot. Relation
    always gets the same number of proposals, the last one again where there are fewer: a graph of it is captured once.

    Args:
        sessions: by stage; none for templates where there are several targets.
        library: the module ``onnxruntime``.
        spec: of the bundle.
        targets: leading axis.
        proposals: that relation gets at least; the tracker's usual largest number.
        device: ``cuda``, or ``cpu`` in tests.
        index: of the GPU.
        turns: held while a session runs; a lock that all contexts share where sessions capture graphs, which they do
            for one thread at a time.
    """

    def __init__(
        self,
        sessions: Any,
        library: Any,
        spec: ModelSpec,
        targets: int,
        proposals: int,
        device: str = "cuda",
        index: int = 0,
        turns: Any = None,
    ) -> None:
        self._sessions, self._library, self._targets, self._count = sessions, library, targets, proposals
        self._turns = turns or contextlib.nullcontext()
        self._device, self._index = device, index
        self._spec = spec
        kinds = {
            tensor.name: tensor.type
            for stage in ("relation", "search")
            for tensor in (*sessions[stage].get_inputs(), *sessions[stage].get_outputs())
        }
        shapes = {**stage_shapes(spec, targets, "template"), **stage_shapes(spec, targets, "search")}
        self._values = {name: self._value(shape, kinds.get(name, FLOAT)) for name, shape in shapes.items()}
        self.crop: Floats = np.zeros(shapes["crop"], np.float32)
        self._template = self._call("template", self._values) if "template" in sessions else None
        # Templates by slot as they were put, and those that the device does not have yet. Empty slots hold zeros.
        self._put = {name: np.zeros(shapes[name], TYPES[kinds[name]]) for name in TEMPLATE_NAMES}
        self._waiting = set(TEMPLATE_NAMES) if self._template is None else set()
        self._search = self._call("search", self._values)
        self._relations: dict[int, tuple[_Call, dict[str, Any], Floats]] = {}

    def set_template(self, box: Floats) -> None:
        if self._template is None:
            raise BackendError("templates are made one by one: by a context of a backend for one target")
        self._waiting.clear()
        self._values["crop"].update_inplace(self.crop)
        self._values["box"].update_inplace(np.ascontiguousarray(box, np.float32))
        self._run(self._template)

    def template(self) -> Template:
        self._bring_templates()
        return {name: self._values[name].numpy()[0].copy() for name in TEMPLATE_NAMES}

    def put_template(self, slot: int, template: Template) -> None:
        for name in TEMPLATE_NAMES:
            self._put[name][slot] = template[name]
            self._waiting.add(name)

    def search(self) -> tuple[Floats, Floats]:
        self._bring_templates()
        self._values["crop"].update_inplace(self.crop)
        self._run(self._search)
        return self._values["scores"].numpy(), self._values["boxes"].numpy()

    def relate(self, proposals: Floats) -> tuple[Floats, Floats]:
        self._bring_templates()
        count = proposals.shape[1]
        room = max(count, self._count)
        if room not in self._relations:  # tensors for so many proposals
            shapes = stage_shapes(self._spec, self._targets, "relation", room)
            values = {name: self._value(shapes[name]) for name in ("proposals", "scores", "boxes")}
            call = self._call("relation", {**self._values, **values})
            self._relations[room] = call, values, np.zeros(shapes["proposals"], np.float32)
        call, values, given = self._relations[room]
        given[:, :count], given[:, count:] = proposals, proposals[:, -1:]
        values["proposals"].update_inplace(given)
        self._run(call)
        return values["scores"].numpy()[:, :count], values["boxes"].numpy()[:, :count]

    def _bring_templates(self) -> None:
        """What was put since the last run to the device: tensors are written as a whole, so once for all slots."""
        for name in self._waiting:
            self._values[name].update_inplace(self._put[name])
        self._waiting.clear()

    def _call(self, stage: str, values: dict[str, Any]) -> _Call:
        options = self._library.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(next(_graph_ids)))
        return _Call(stage, bind(self._sessions[stage], self._spec, stage, values), options)

    def _run(self, call: _Call) -> None:
        try:
            with self._turns:
                self._sessions[call.stage].run_with_iobinding(call.binding, call.options)
        except Exception as error:  # the library has no common base class for its errors
            raise BackendError(f"onnxruntime on {self._device}:{self._index}, {call.stage}: {error}") from error

    def _value(self, shape: tuple[int, ...], kind: str = FLOAT) -> Any:
        if kind not in TYPES:
            raise BackendError(f"onnxruntime: this bundle hands {kind} from graph to graph; export float32 or float16")
        make = self._library.OrtValue.ortvalue_from_shape_and_type
        return make(list(shape), TYPES[kind], self._device, self._index)
