"""Backends that show what happens inside: the PyTorch reference and a bundle's graphs, intermediate arrays included.

A probe is a backend like any other (:mod:`spm_rt.backends`), and a tracker can run on it. Its contexts also fill
``seen``, under the names of docs/reference/benchmarks.md: ``conv2, conv4, conv5`` (``[C, h, w]``; conv5 may be its
central window), ``kcls``, ``kbox`` (template kernels ``[O, 256, 4, 4]``), ``template_feat`` ``[640, 6, 6]``,
``logits``, ``deltas`` (``[O, 19, 19]``), ``roi_feat`` ``[K, 640, 6, 6]``, ``fm_logits`` ``[K, 2]``, ``fm_deltas`` ``[K,
4]``. What an implementation does not compute as such is not in it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spm_export.model.network import Features, SPMTracker
from spm_rt.bundle import STAGES, Bundle
from spm_rt.errors import BackendError

Floats = NDArray[np.float32]
Seen = dict[str, Floats]


class TorchProbe:
    """The reference model, float32, with everything it computes in sight."""

    name = "torch"

    def __init__(self, model: SPMTracker) -> None:
        self.model = model.eval()
        self.description = f"torch {torch.__version__}, {torch.get_num_threads()} threads, reference model"

    def context(self) -> TorchProbeContext:
        return TorchProbeContext(self.model)


class TorchProbeContext:
    """See :class:`spm_rt.backends.protocol.Context`, and ``seen`` in the module's description."""

    def __init__(self, model: SPMTracker) -> None:
        self._model = model
        self.crop: Floats = np.zeros((1, 3, model.spec.crop_size, model.spec.crop_size), np.float32)
        self.seen: Seen = {}
        self._state: dict[str, Any] = {}

    @torch.inference_mode()
    def set_template(self, box: Floats) -> None:
        model, features = self._model, self._features()
        kernels = model.coarse.kernels(model.template_embedding(features))
        target = model.fine.roi_features(features, torch.from_numpy(box)[:, None])[:, 0]
        self._state.update(kernels=kernels, target=target)
        self.seen.update(
            kcls=kernels.classify[0].numpy(), kbox=kernels.regress[0].numpy(), template_feat=target[0].numpy()
        )

    @torch.inference_mode()
    def search(self) -> tuple[Floats, Floats]:
        model, features = self._model, self._features()
        output = model.coarse(self._state["kernels"], model.search_embedding(features))
        self._state["features"] = features
        self.seen.update(logits=output.logits[0].numpy(), deltas=output.deltas[0].numpy())
        scores, boxes = model.coarse_boxes(output)
        return scores.numpy(), boxes.numpy()

    @torch.inference_mode()
    def relate(self, proposals: Floats) -> tuple[Floats, Floats]:
        model, boxes = self._model, torch.from_numpy(proposals)
        roi = model.fine.roi_features(self._state["features"], boxes)
        output = model.fine(self._state["target"], roi)
        self.seen.update(
            roi_feat=roi[0].numpy(), fm_logits=output.logits[0].numpy(), fm_deltas=output.deltas[0].numpy()
        )
        scores, moved = model.fine_boxes(output, boxes)
        return scores.numpy(), moved.numpy()

    def _features(self) -> Features:
        features = self._model.features(torch.from_numpy(self.crop))
        for name, value in (("conv2", features.shallow), ("conv4", features.deep), ("conv5", features.top)):
            self.seen[name] = value[0].numpy()
        return features


class GraphProbe:
    """A bundle's graphs in ONNX Runtime on the CPU, with intermediate values as further outputs.

    The files on disk stay as they are; the outputs are added to copies in memory.

    Args:
        bundle: the bundle.
        variant: which form of its graphs (:meth:`spm_rt.bundle.Bundle.graph`).
        threads: per inference call.
        beside: another probe of this bundle; files that both use are not loaded again.
    """

    name = "onnxruntime"

    def __init__(
        self, bundle: Bundle, variant: str = "portable", threads: int | None = None, beside: GraphProbe | None = None
    ) -> None:
        self.spec = bundle.spec
        self.opened: dict[Path, tuple[Any, dict[str, str]]] = dict(beside.opened) if beside else {}
        self.sessions: dict[str, Any] = {}
        self.names: dict[str, dict[str, str]] = {}
        for stage in STAGES:
            path = bundle.graph(stage, variant=variant)
            if path not in self.opened:
                self.opened[path] = _open_wide(path, stage, threads)
            self.sessions[stage], self.names[stage] = self.opened[path]
        self.description = f"{bundle.path}, {variant} graphs, ONNX Runtime, intermediate values as outputs"

    def context(self) -> GraphProbeContext:
        return GraphProbeContext(self)


class GraphProbeContext:
    """See :class:`spm_rt.backends.protocol.Context`, and ``seen`` in the module's description."""

    def __init__(self, probe: GraphProbe) -> None:
        self._probe = probe
        self.crop: Floats = np.zeros((1, 3, probe.spec.crop_size, probe.spec.crop_size), np.float32)
        self.seen: Seen = {}
        self._template: dict[str, Floats] = {}
        self._search: dict[str, Floats] = {}

    def set_template(self, box: Floats) -> None:
        outputs = self._run("template", crop=self.crop, box=np.ascontiguousarray(box, np.float32))
        self._template = {name: outputs[name] for name in ("head_kernel", "head_bias", "target_half")}

    def search(self) -> tuple[Floats, Floats]:
        self._search = self._run(
            "search", crop=self.crop, head_kernel=self._template["head_kernel"], head_bias=self._template["head_bias"]
        )
        return self._search["scores"], self._search["boxes"]

    def relate(self, proposals: Floats) -> tuple[Floats, Floats]:
        outputs = self._run(
            "relation",
            shallow=self._search["shallow"],
            deep=self._search["deep"],
            target_half=self._template["target_half"],
            proposals=proposals,
        )
        return outputs["scores"], outputs["boxes"]

    def _run(self, stage: str, **feeds: Floats) -> dict[str, Floats]:
        session = self._probe.sessions[stage]
        outputs = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
        for name, value in self._probe.names[stage].items():
            batched = outputs[value]
            # Kernels and RoI features have no axis for the one target; all else does.
            found = batched if name in ("kcls", "roi_feat") else batched[0]
            if name in ("conv2", "conv4") and found.ndim == 2:  # channels last: [34 * 34, C]
                side = math.isqrt(len(found))
                found = np.ascontiguousarray(found.T).reshape(-1, side, side)
            self.seen[name] = found
        return outputs


def _open_wide(path: Path, stage: str, threads: int | None) -> tuple[Any, dict[str, str]]:
    """A session whose outputs include the intermediate values, and their names: ours -> the graph's."""
    import onnx
    import onnxruntime

    model = onnx.load(str(path))
    names = _inner_names(model.graph, stage)
    present = {value.name for value in model.graph.output}
    for name in names.values():
        if name not in present:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library has no common base class for its errors
        raise BackendError(f"{path}: onnxruntime cannot load it with intermediate outputs: {error}") from error
    return session, names


def _inner_names(graph: Any, stage: str) -> dict[str, str]:
    """Where the values of interest are in a graph, found by what makes or reads them."""
    produced = {name for node in graph.node for name in node.output}
    names: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "FusedRoiCrop" and stage == "template":
            names.update(conv4=node.input[0], conv2=node.input[1], template_feat=node.output[0])
        if node.op_type == "FusedRoiCrop" and stage == "relation":
            names["roi_feat"] = node.output[0]
        if node.op_type == "Conv" and "conv5.weight" in node.input:
            names["conv5"] = next(
                n.output[0] for n in graph.node if n.op_type == "Relu" and n.input[0] == node.output[0]
            )
    wanted = {
        "template": {"kcls": "classify_kernel"},
        "search": {"conv2": "shallow", "conv4": "deep", "logits": "logits", "deltas": "deltas"},
        "relation": {"fm_logits": "logits", "fm_deltas": "deltas"},
    }[stage]
    names.update({ours: theirs for ours, theirs in wanted.items() if theirs in produced})
    return names
