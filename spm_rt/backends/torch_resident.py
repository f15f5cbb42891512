"""PyTorch's networks for the resident tracker: a whole frame, with our kernels around them, as one CUDA graph.

What can be measured where TensorRT cannot be installed. Not run on a GPU so far (docs/gpu.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import BackendError
from .cuda_driver import Device, Stream
from .torch_cuda import TorchBackend

Tensor = Any


class TorchNetworks:
    """See :class:`spm_rt.resident.Networks`.

    Args:
        backend: for one target, on a GPU.
        bundle: whose settings say how many proposals there are.
    """

    def __init__(self, backend: TorchBackend, bundle: Bundle) -> None:
        if not backend.on_gpu or backend.targets != 1:
            raise BackendError("the resident tracker needs a backend on a GPU (device='cuda') for one target")
        torch, spec, count = backend.torch, bundle.spec, bundle.settings.num_candidates
        self._backend, self._torch = backend, torch
        self.device = Device(backend.device.index)
        self._own_stream = torch.cuda.Stream(backend.device)
        self.stream = Stream(self.device, self._own_stream.cuda_stream)
        n, size = spec.anchor_count, spec.crop_size
        shapes = {"crop": (1, 3, size, size), "scores": (1, n), "boxes": (1, n, 4), "proposals": (1, count, 4),
                  "fine_scores": (1, count), "fine_boxes": (1, count, 4)}
        self._on = {name: torch.zeros(shape, device=backend.device) for name, shape in shapes.items()}
        self.addresses: Mapping[str, int] = {name: self._on[name].data_ptr() for name in shapes}
        # What PyTorch wrote on its own stream must be there before ours begins.
        torch.cuda.synchronize(backend.device)

    def set_template(self, box: NDArray[np.float32]) -> None:
        with self._backend.entered(), self._torch.cuda.stream(self._own_stream):
            given = self._torch.from_numpy(np.ascontiguousarray(box)).to(self._backend.device)
            self._keep(self._backend.network.template(self._on["crop"], given), {})
        self.stream.wait()

    def search(self) -> None:
        on = self._on
        with self._backend.entered(), self._torch.cuda.stream(self._own_stream):
            self._keep(self._backend.network.search(on["crop"], on["head_kernel"], on["head_bias"]), {})

    def relate(self) -> None:
        shallow, deep, target_half = (self._on[name] for name in ("shallow", "deep", "target_half"))
        with self._backend.entered(), self._torch.cuda.stream(self._own_stream):
            found = self._backend.network.relation(shallow, deep, target_half, self._on["proposals"])
            self._keep(found, {"scores": "fine_scores", "boxes": "fine_boxes"})

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        torch, graph = self._torch, self._torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device(self._backend.device), torch.cuda.graph(graph, stream=self._own_stream):
                work()
        except RuntimeError as error:
            raise BackendError(f"PyTorch cannot capture the frame: {error}") from error

        def launch() -> None:
            with torch.cuda.stream(self._own_stream):
                graph.replay()

        return launch

    def _keep(self, found: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
        """Results into the tensors whose addresses others know."""
        for name, tensor in found.items():
            kept = names.get(name, name)
            if kept not in self._on:
                self._on[kept] = self._torch.empty_like(tensor)
            self._on[kept].copy_(tensor)
