"""The implementations that are scored against the recorded sets: the PyTorch reference, graphs, the runtime."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from spm_export.model.network import Features, SPMTracker
from spm_rt.backends.protocol import Backend
from spm_rt.bundle import STAGES, Bundle

from .recorded import Arrays

Floats = NDArray[np.float32]


class TorchNetwork:
    """The reference model, stage by stage."""

    def __init__(self, model: SPMTracker) -> None:
        self.model = model

    @torch.inference_mode()
    def template(self, crop: Floats, box: Floats) -> Arrays:
        model = self.model
        features = model.features(torch.from_numpy(crop)[None])
        self.kernels = model.coarse.kernels(model.template_embedding(features))
        self.target = model.fine.roi_features(features, torch.from_numpy(box)[None, None])[:, 0]
        return _maps(features) | {
            "kcls": self.kernels.classify[0].numpy(),
            "kbox": self.kernels.regress[0].numpy(),
            "template_feat": self.target[0].numpy(),
        }

    @torch.inference_mode()
    def search(self, crop: Floats) -> Arrays:
        model = self.model
        self.features = model.features(torch.from_numpy(crop)[None])
        output = model.coarse(self.kernels, model.search_embedding(self.features))
        scores, boxes = model.coarse_boxes(output)
        return _maps(self.features) | {
            "logits": output.logits[0].numpy(),
            "deltas": output.deltas[0].numpy(),
            "scores": scores[0].numpy(),
            "boxes": boxes[0].numpy(),
        }

    @torch.inference_mode()
    def relate(self, proposals: Floats) -> Arrays:
        boxes = torch.from_numpy(proposals)[None]
        roi = self.model.fine.roi_features(self.features, boxes)
        output = self.model.fine(self.target, roi)
        scores, moved = self.model.fine_boxes(output, boxes)
        return {
            "roi": roi[0].numpy(),
            "logits": output.logits[0].numpy(),
            "deltas": output.deltas[0].numpy(),
            "scores": scores[0].numpy(),
            "boxes": moved[0].numpy(),
        }


class GraphNetwork:
    """A bundle's graphs in ONNX Runtime, with some of their inner values made outputs."""

    SHOWN: ClassVar = {
        "template": ("classify_kernel", "target_features"),
        "search": ("logits", "deltas"),
        "relation": ("proposal_features", "logits", "deltas"),
    }

    def __init__(self, bundle: Bundle, variant: str) -> None:
        self.sessions = {
            stage: open_graph(bundle.graph(stage, variant=variant), self.SHOWN[stage], ("conv5.weight",))
            for stage in STAGES
        }

    def template(self, crop: Floats, box: Floats) -> Arrays:
        seen = run(self.sessions["template"], {"crop": crop[None], "box": box[None]})
        self.head = {name: seen[name] for name in ("head_kernel", "head_bias")}
        self.target_half = seen["target_half"]
        maps = self.search(crop)
        found = {name: maps[name] for name in ("conv2", "conv4")}
        for name, shown in (("kcls", "classify_kernel"), ("template_feat", "target_features")):
            if shown in seen:
                found[name] = seen[shown].squeeze(0) if name == "template_feat" else seen[shown]
        return found

    def search(self, crop: Floats) -> Arrays:
        seen = run(self.sessions["search"], {"crop": crop[None], **self.head})
        self.features = {name: seen[name] for name in ("shallow", "deep")}
        names = {"shallow": "conv2", "deep": "conv4", "after conv5.weight": "conv5"}
        shown = (*names, "scores", "boxes", "logits", "deltas")
        return {names.get(name, name): _channels_first(name, seen[name][0]) for name in shown if name in seen}

    def relate(self, proposals: Floats) -> Arrays:
        feeds = {**self.features, "target_half": self.target_half, "proposals": proposals[None]}
        seen = run(self.sessions["relation"], feeds)
        found = {name: seen[name][0] for name in ("scores", "boxes", "logits", "deltas") if name in seen}
        return found | ({"roi": seen["proposal_features"]} if "proposal_features" in seen else {})


class RuntimeNetwork:
    """What a backend of the runtime shows: scores and boxes."""

    def __init__(self, backend: Backend) -> None:
        self.context = backend.context()

    def template(self, crop: Floats, box: Floats) -> Arrays:
        self.context.crop[0] = crop
        self.context.set_template(box[None])
        return {}

    def search(self, crop: Floats) -> Arrays:
        self.context.crop[0] = crop
        scores, boxes = self.context.search()
        return {"scores": scores[0].copy(), "boxes": boxes[0].copy()}

    def relate(self, proposals: Floats) -> Arrays:
        scores, boxes = self.context.relate(proposals[None])
        return {"scores": scores[0].copy(), "boxes": boxes[0].copy()}


def open_graph(path: Path, shown: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> Any:
    """A session on a graph file.

    Args:
        path: the file.
        shown: inner values to give out too, where the graph has them.
        after: weights; the activation behind each one's convolution is given out as ``after WEIGHT``.
    """
    model = onnx.load(path)
    producers = {output: node for node in model.graph.node for output in node.output}
    extra = [name for name in shown if name in producers and name not in {v.name for v in model.graph.output}]
    for weight in after:
        convolution = next((node for node in model.graph.node if weight in node.input), None)
        if convolution is None:
            continue
        activation = next(node for node in model.graph.node if convolution.output[0] in node.input)
        model.graph.node.append(onnx.helper.make_node("Identity", [activation.output[0]], [f"after {weight}"]))
        extra.append(f"after {weight}")
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in extra)
    return session_of(model)


def session_of(model: onnx.ModelProto) -> Any:
    """An ONNX Runtime session on a model in memory."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(session: Any, feeds: Arrays) -> Arrays:
    """All outputs of a session by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def _channels_first(name: str, array: Floats) -> Floats:
    """Feature maps as ``[C, H, W]``; the fast graphs exchange them as ``[H * W, C]``."""
    if name in ("shallow", "deep") and array.ndim == 2:
        side = math.isqrt(len(array))
        return array.T.reshape(-1, side, side)
    return array


def _maps(features: Features) -> Arrays:
    return {"conv2": features.shallow[0].numpy(), "conv4": features.deep[0].numpy(), "conv5": features.top[0].numpy()}
