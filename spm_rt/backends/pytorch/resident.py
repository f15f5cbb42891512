"""PyTorch's networks for the resident trackers: a whole frame, with our kernels around them, as one CUDA graph.

What can be measured where TensorRT cannot be installed. Not run on a GPU so far (docs/notes/gpu.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle import Bundle
from ...errors import BackendError
from ...gpu.driver import Device, Stream
from ..protocol import TEMPLATE_NAMES
from .backend import PyTorchBackend

Tensor = Any


class PyTorchNetworks:
    """See :class:`spm_rt.resident.frame_graph.Networks`.

    Args:
        backend: on a GPU, for as many targets as the networks shall be for.
        bundle: whose settings say how many proposals there are.
    """

    def __init__(self, backend: PyTorchBackend, bundle: Bundle) -> None:
        if not backend.on_gpu:
            raise BackendError("the resident tracker needs a backend on a GPU (device='cuda')")
        torch, spec = backend.torch, bundle.spec
        self._backend, self._torch = backend, torch
        self.targets, self.candidates = t, k = backend.targets, bundle.settings.num_candidates
        self.device = Device(backend.device.index)
        self._own_stream = torch.cuda.Stream(backend.device)
        self.stream = Stream(self.device, self._own_stream.cuda_stream)
        n, size, outputs = spec.anchor_count, spec.crop_size, 6 * spec.anchors_per_cell
        shapes = {
            "crop": (t, 3, size, size),
            "scores": (t, n),
            "boxes": (t, n, 4),
            "proposals": (t, k, 4),
            "fine_scores": (t, k),
            "fine_boxes": (t, k, 4),
            "head_bias": (t, outputs),
        }
        self._on = {name: torch.zeros(shape, device=backend.device) for name, shape in shapes.items()}
        self.addresses: Mapping[str, int] = {name: tensor.data_ptr() for name, tensor in self._on.items()}
        # Places may stay empty: their templates are zeros.
        kernel, half = (t, outputs, 256, *2 * (spec.template_cells,)), (t, 256, *2 * (spec.roi_cells,))
        for name, shape in (("head_kernel", kernel), ("target_half", half)):
            self._on[name] = torch.zeros(shape, device=backend.device, dtype=backend.network.data)
        self._maps: tuple[Tensor, Tensor] | None = None
        # What PyTorch wrote on its own stream must be there before ours begins.
        torch.cuda.synchronize(backend.device)

    def set_template(self, box: NDArray[np.float32]) -> None:
        if self.targets != 1:
            raise BackendError("templates are made one by one: by networks for one target")
        with self._backend.entered(), self._torch.cuda.stream(self._own_stream):
            given = self._torch.from_numpy(np.ascontiguousarray(box)).to(self._backend.device)
            self._keep(self._backend.network.template(self._on["crop"], given), {})
        self.stream.wait()

    def template(self) -> Mapping[str, Tensor]:
        with self._backend.entered(), self._torch.cuda.stream(self._own_stream):
            found = {name: self._on[name][0].clone() for name in TEMPLATE_NAMES}
        self.stream.wait()
        return found

    def put_template(self, slot: int, template: Mapping[str, Tensor]) -> None:
        with self._backend.entered(), self._torch.cuda.stream(self._own_stream):
            for name in TEMPLATE_NAMES:
                self._on[name][slot].copy_(template[name])
        self.stream.wait()

    def search(self) -> None:
        on = self._on
        with self._backend.entered(), self._torch.cuda.stream(self._own_stream):
            found = self._backend.network.search(on["crop"], on["head_kernel"], on["head_bias"])
            # The maps stay where they were made: relation follows in the same frame, and in the same graph.
            self._maps = found.pop("shallow"), found.pop("deep")
            self._keep(found, {})

    def relate(self) -> None:
        if self._maps is None:
            raise BackendError("relate before search: there are no features")
        with self._backend.entered(), self._torch.cuda.stream(self._own_stream):
            found = self._backend.network.relation(*self._maps, self._on["target_half"], self._on["proposals"])
            self._keep(found, {"scores": "fine_scores", "boxes": "fine_boxes"})

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        torch, graph = self._torch, self._torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device(self._backend.device), self._backend.recording(graph, self._own_stream):
                work()
        except RuntimeError as error:
            raise BackendError(f"PyTorch cannot capture the frame: {error}") from error
        maps = self._maps  # in the graph's own memory

        def launch() -> None:
            with torch.cuda.stream(self._own_stream):
                graph.replay()
            self._maps = maps

        return launch

    def _keep(self, found: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
        """Results into the tensors whose addresses others know."""
        for name, tensor in found.items():
            self._on[names.get(name, name)].copy_(tensor)
