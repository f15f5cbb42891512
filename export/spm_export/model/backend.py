"""The reference model behind the runtime's backend interface, so that one tracker loop drives both."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spm_rt.settings import TrackerSettings
from spm_rt.trackers.single import Tracker

from .backbones import Features
from .coarse import CoarseKernels, PixelKernels
from .network import SPMTracker

Floats = NDArray[np.float32]


class ReferenceBackend:
    """The plain reference, float32, nothing rewritten: what exported graphs are compared with.

    Args:
        model: in evaluation mode.
        device: where it runs.
        threads: PyTorch's number of threads for the whole process, if given.
    """

    name = "torch"

    def __init__(self, model: SPMTracker, device: str = "cpu", threads: int | None = None) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.model = model.to(device).eval()
        self.device = device
        self.description = f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, reference model"

    def context(self) -> ReferenceContext:
        return ReferenceContext(self)


class ReferenceContext:
    """One target's template and last search, as tensors."""

    def __init__(self, backend: ReferenceBackend) -> None:
        self._model = backend.model
        self._device = backend.device
        size = backend.model.spec.crop_size
        self.crop: Floats = np.zeros((1, 3, size, size), np.float32)
        self._kernels: CoarseKernels | PixelKernels | None = None
        self._target: Tensor | None = None
        self._features: Features | None = None

    def note(self, **values: Tensor) -> None:
        """Called with what is computed on the way, by the names of recorded data, for those who want to keep it."""

    @torch.inference_mode()
    def set_template(self, box: Floats) -> None:
        model, features = self._model, self._crop_features()
        self._kernels = model.coarse.kernels(model.template_embedding(features))
        self._target = model.fine.roi_features(features, self._tensor(box)[:, None])[:, 0]
        self.note(template_feat=self._target)
        if isinstance(self._kernels, CoarseKernels):
            self.note(kcls=self._kernels.classify, kbox=self._kernels.regress)

    @torch.inference_mode()
    def search(self) -> tuple[Floats, Floats]:
        assert self._kernels is not None
        model, self._features = self._model, self._crop_features()
        output = model.coarse(self._kernels, model.search_embedding(self._features))
        self.note(logits=output.logits, deltas=output.deltas)
        scores, boxes = model.coarse_boxes(output)
        return scores.cpu().numpy(), boxes.cpu().numpy()

    @torch.inference_mode()
    def relate(self, proposals: Floats) -> tuple[Floats, Floats]:
        assert self._features is not None
        assert self._target is not None
        model, boxes = self._model, self._tensor(proposals)
        roi = model.fine.roi_features(self._features, boxes)
        output = model.fine(self._target, roi)
        self.note(roi_feat=roi, fm_logits=output.logits, fm_deltas=output.deltas)
        scores, moved = model.fine_boxes(output, boxes)
        return scores.cpu().numpy(), moved.cpu().numpy()

    def _crop_features(self) -> Features:
        features = self._model.features(self._tensor(self.crop))
        self.note(conv2=features.shallow, conv4=features.deep, conv5=features.top)
        return features

    def _tensor(self, array: Floats) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def reference_tracker(
    model: SPMTracker, settings: TrackerSettings, device: str = "cpu", threads: int | None = None
) -> Tracker:
    """A tracker on the reference model."""
    return Tracker(ReferenceBackend(model, device, threads), model.spec, settings)
