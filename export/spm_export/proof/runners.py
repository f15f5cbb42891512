"""Running typed graphs on a CPU, to verify them before anybody has a GPU at hand.

ONNX Runtime's CPU provider computes float16 graphs in float32 between casts that it then removes, and has no bfloat16
convolution at all. So a typed graph is *emulated*: the graph of the file, all tensors float32, with every tensor that
is float16 or bfloat16 in the file rounded to that type where it is made. A GPU that adds up in float32 computes the
same. float16 files are run as they are as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import InlinePass, ShapeInferencePass

from spm_rt.backends import BACKENDS
from spm_rt.bundle import FORMS, STAGES, Bundle
from spm_rt.bundle.forms import graphs_of
from spm_rt.errors import BackendError
from spm_rt.precision import PRECISIONS
from spm_rt.settings import ModelSpec

from ..graphs.half import PASSED_ON

Floats = NDArray[np.float32]
Arrays = dict[str, Floats]

RUNNERS = {
    "float32": "the graph files in ONNX Runtime on a CPU",
    "int8": "the graph files in ONNX Runtime on a CPU; those for TensorRT (portable, flat) with every "
    "QuantizeLinear and DequantizeLinear computed where it stands and their products in float32",
    "float16": "ONNX Runtime on a CPU: the graph files emulated in float32 with every float16 tensor rounded; "
    "'as they are': the files themselves, whose float16 operators it computes in float32",
    "bfloat16": "ONNX Runtime on a CPU: the graph files emulated in float32 with every bfloat16 tensor rounded; "
    "the files themselves were not run, since it has no bfloat16 convolution on CPUs",
}
"""How bundles of each precision are verified, for the report."""
AS_THEY_ARE = "portable as they are"


class Runner:
    """One graph with float32 arrays in and out, whatever its own types are.

    Args:
        model: a graph file, or its content.
        name: of the file, for errors.
        merge: let the library make integer operators of QuantizeLinear and DequantizeLinear, as it does for users.
            Without, products of rounded numbers are added up in float32. int8 codes give the same on a GPU, to float32
            rounding, and on a CPU without VNNI this library's sums of signed codes may overflow.
        threads: per call; the library's own choice if None.
    """

    def __init__(self, model: str | bytes, name: Path, *, merge: bool = True, threads: int | None = None) -> None:
        onnxruntime = BACKENDS["onnxruntime"].import_library()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or 0
        # Many sessions take turns here with PyTorch: threads that spin while they wait would slow each other down.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.disable_quant_qdq", str(int(not merge)))
        try:
            self.session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library has no common base class for its errors
            raise BackendError(f"{name}: onnxruntime {onnxruntime.__version__} cannot load it: {error}") from error
        self._types = {i.name: np.float16 if "float16" in i.type else np.float32 for i in self.session.get_inputs()}
        self.outputs = [output.name for output in self.session.get_outputs()]

    def run(self, names: Sequence[str], feeds: Mapping[str, Floats]) -> list[Floats]:
        """The outputs of these names."""
        given = {name: array.astype(self._types[name], copy=False) for name, array in feeds.items()}
        return [np.asarray(found, np.float32) for found in self.session.run(list(names), given)]


def runners(bundle: Bundle, targets: int, variants: Collection[str] = ()) -> dict[tuple[str, str], Runner]:
    """What a bundle is verified with, by form and stage: all its graphs, or those of the given forms."""
    precision, found = bundle.precision, {}
    for stage, form in graphs_of(precision):
        if variants and form not in variants:
            continue
        path = bundle.graph(stage, targets=targets, variant=form)
        if PRECISIONS[precision].for_cpus:
            found[form, stage] = Runner(str(path), path, merge=FORMS[form].for_cpus)
        else:
            emulated = ir.serde.to_proto(emulate(ir.load(path))).SerializeToString()
            found[form, stage] = Runner(emulated, path)
        if precision == "float16" and form == "portable":
            found[AS_THEY_ARE, stage] = Runner(str(path), path)
    return found


def emulate(model: ir.Model) -> ir.Model:
    """Make all tensors float32, rounded to half precision where they had it; functions are inlined. In place."""
    InlinePass()(model)
    ShapeInferencePass(check_type=True, strict_mode=True, data_prop=True)(model)
    model.functions.clear()
    graph = model.graph
    halves = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is not None:
            array = tensor.numpy().astype(np.float32) if tensor.dtype in halves else tensor.numpy()
            value.const_value, value.dtype = ir.tensor(array, name=value.name), ir.DataType.from_numpy(array.dtype)
    for value in graph.inputs:
        if value.dtype in halves:
            half, value.dtype = value.dtype, ir.DataType.FLOAT
            _round_after(graph, value, half, graph[0], before=True)
    for node in list(graph):
        if node.name and node.name.startswith("emulated_"):
            continue
        for value in node.outputs:
            kind = value.dtype
            if kind not in halves:
                continue
            value.dtype = ir.DataType.FLOAT
            if node.op_type == "Cast":
                node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT.value)
            if node.op_type not in PASSED_ON or node.op_type == "Add":
                _round_after(graph, value, kind, node)
    return model


def _round_after(
    graph: ir.Graph, value: ir.Value, kind: ir.DataType, neighbour: ir.Node, *, before: bool = False
) -> None:
    """Put ``value`` through ``kind`` and back before anybody uses it."""
    users = list(value.uses())
    narrow = ir.node("Cast", [value], {"to": kind.value}, name=f"emulated_narrow_{value.name}")
    wide = ir.node("Cast", narrow.outputs, {"to": ir.DataType.FLOAT.value}, name=f"emulated_wide_{value.name}")
    (graph.insert_before if before else graph.insert_after)(neighbour, [narrow, wide])
    rounded = wide.outputs[0]
    for node, index in users:
        node.replace_input_with(index, rounded)
    for index, output in enumerate(graph.outputs):
        if output is value:
            rounded.name, rounded.type, rounded.shape = value.name, ir.TensorType(ir.DataType.FLOAT), value.shape
            value.name = f"{value.name}_unrounded"
            graph.outputs[index] = rounded


class RunnerBackend:
    """Runners behind the runtime's backend interface, so that the tracker's loop drives them."""

    name = "runner"

    def __init__(self, bundle: Bundle) -> None:
        self.spec: ModelSpec = bundle.spec
        found = runners(bundle, 1, ("portable",))
        self.runners = {stage: found["portable", stage] for stage in STAGES}
        self.description = RUNNERS[bundle.precision]

    def context(self) -> RunnerContext:
        return RunnerContext(self.runners, self.spec)


class RunnerContext:
    """One target's template and last search, computed by the runners of the three stages."""

    def __init__(self, runners: Mapping[str, Runner], spec: ModelSpec) -> None:
        self._runners = runners
        size = spec.crop_size
        self.crop: Floats = np.zeros((1, 3, size, size), np.float32)
        self._target: Arrays = {}
        self._features: Arrays = {}

    def set_template(self, box: Floats) -> None:
        self._target = self._run("template", {"crop": self.crop, "box": box})

    def search(self) -> tuple[Floats, Floats]:
        head = {name: self._target[name] for name in ("head_kernel", "head_bias")}
        found = self._run("search", {"crop": self.crop, **head})
        self._features = {name: found[name] for name in ("shallow", "deep")}
        return found["scores"], found["boxes"]

    def relate(self, proposals: Floats) -> tuple[Floats, Floats]:
        target = {"target_half": self._target["target_half"]}
        found = self._run("relation", {**self._features, **target, "proposals": proposals})
        return found["scores"], found["boxes"]

    def _run(self, stage: str, feeds: Mapping[str, Floats]) -> Arrays:
        runner = self._runners[stage]
        return dict(zip(runner.outputs, runner.run(runner.outputs, feeds), strict=True))
