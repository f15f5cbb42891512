"""Backends that also give out what happens inside: the PyTorch reference, and the graphs of a bundle.

They are backends like any other (:mod:`spm_rt.backends`), and a tracker can run on them. Their contexts also fill
``inner_values``, under the names of docs/reference/benchmarks.md: ``conv2, conv4, conv5`` (``[C, h, w]``; conv5 may be
its central window), ``kcls``, ``kbox`` (template kernels ``[O, 256, 4, 4]``), ``template_feat`` ``[640, 6, 6]``,
``logits``, ``deltas`` (``[O, 19, 19]``), ``roi_feat`` ``[K, 640, 6, 6]``, ``fm_logits`` ``[K, 2]``, ``fm_deltas``
``[K, 4]``. What an implementation does not compute as such is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spm_export.model.backend import ReferenceBackend, ReferenceContext
from spm_export.proof.runners import Runner, RunnerContext
from spm_rt.bundle import STAGES, Bundle

Floats = NDArray[np.float32]
InnerValues = dict[str, Floats]


class ReferenceInnerValues(ReferenceBackend):
    """The reference model, float32."""

    def context(self) -> ReferenceInnerValuesContext:
        return ReferenceInnerValuesContext(self)


class ReferenceInnerValuesContext(ReferenceContext):
    """See :class:`spm_rt.backends.protocol.Context`, and ``inner_values`` in the module's description."""

    def __init__(self, backend: ReferenceBackend) -> None:
        super().__init__(backend)
        self.inner_values: InnerValues = {}

    def note(self, **values: Tensor) -> None:
        self.inner_values |= {name: value[0].numpy() for name, value in values.items()}


class GraphInnerValues:
    """A bundle's graphs in ONNX Runtime on the CPU, with inner values as further outputs.

    The files on disk stay as they are; the outputs are added to copies in memory.

    ``beside`` is the same for another form of this bundle's graphs: files that both use are not loaded again.
    """

    name = "onnxruntime"

    def __init__(
        self,
        bundle: Bundle,
        variant: str = "portable",
        threads: int | None = None,
        beside: GraphInnerValues | None = None,
    ) -> None:
        self.spec = bundle.spec
        self.opened: dict[Path, tuple[Runner, dict[str, str]]] = dict(beside.opened) if beside else {}
        self.runners: dict[str, Runner] = {}
        self.names: dict[str, dict[str, str]] = {}
        for stage in STAGES:
            path = bundle.graph(stage, variant=variant)
            if path not in self.opened:
                self.opened[path] = _open_with_inner_values(path, stage, threads)
            self.runners[stage], self.names[stage] = self.opened[path]
        self.description = f"{bundle.path}, {variant} graphs, ONNX Runtime, inner values as outputs"

    def context(self) -> GraphInnerValuesContext:
        return GraphInnerValuesContext(self)


class GraphInnerValuesContext(RunnerContext):
    """See :class:`spm_rt.backends.protocol.Context`, and ``inner_values`` in the module's description."""

    def __init__(self, graphs: GraphInnerValues) -> None:
        super().__init__(graphs.runners, graphs.spec)
        self._names = graphs.names
        self.inner_values: InnerValues = {}

    def set_template(self, box: Floats) -> None:
        super().set_template(box)
        if "conv2" not in self._names["template"]:
            self.search()  # has the feature maps of the template's crop too

    def _run(self, stage: str, feeds: Mapping[str, Floats]) -> dict[str, Floats]:
        outputs = super()._run(stage, feeds)
        for name, output in self._names[stage].items():
            # Kernels and RoI features have no axis for the one target; all else does.
            value = outputs[output] if name in ("kcls", "roi_feat") else outputs[output][0]
            if name in ("conv2", "conv4") and value.ndim == 2:  # channels last: [34 * 34, C]
                side = math.isqrt(len(value))
                value = np.ascontiguousarray(value.T).reshape(-1, side, side)
            self.inner_values[name] = value
        return outputs


def _open_with_inner_values(path: Path, stage: str, threads: int | None) -> tuple[Runner, dict[str, str]]:
    """A session whose outputs include the inner values, and their names: ours -> the graph's."""
    import onnx

    model = onnx.load(str(path))
    names = _inner_names(model.graph, stage)
    present = {value.name for value in model.graph.output}
    for name in names.values():
        if name not in present:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return Runner(model.SerializeToString(), path, threads=threads), names


def _inner_names(graph: Any, stage: str) -> dict[str, str]:
    """The names of inner values in a graph, by what makes or reads them."""
    produced = {name for node in graph.node for name in node.output}
    names: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "FusedRoiCrop" and stage == "template":
            names.update(conv4=node.input[0], conv2=node.input[1], template_feat=node.output[0])
        if node.op_type == "FusedRoiCrop" and stage == "relation":
            names["roi_feat"] = node.output[0]
        if node.op_type == "Conv" and "conv5.weight" in node.input:
            (made,) = node.output
            names["conv5"] = next(n.output[0] for n in graph.node if n.op_type == "Relu" and n.input[0] == made)
    named = {
        "template": {"kcls": "classify_kernel", "template_feat": "target_features"},
        "search": {"conv2": "shallow", "conv4": "deep", "logits": "logits", "deltas": "deltas"},
        "relation": {"roi_feat": "proposal_features", "fm_logits": "logits", "fm_deltas": "deltas"},
    }[stage]
    names.update({ours: theirs for ours, theirs in named.items() if theirs in produced})
    return names
