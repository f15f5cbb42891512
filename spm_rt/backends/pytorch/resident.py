"""PyTorch's networks for the resident trackers: a whole frame, with our kernels around them, as one CUDA graph.

They are there where TensorRT cannot be installed. docs/notes/gpu.md says what has been run where.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle import Bundle
from ...bundle.contract import TEMPLATE_NAMES, stage_shapes
from ...errors import BackendError
from ...gpu.driver import Device, Stream
from .backend import PyTorchBackend

Tensor = Any


def make_networks(bundle: Bundle, *, device: str, precision: str | None) -> Callable[[int], PyTorchNetworks]:
    """What makes networks by number of targets; the weights are loaded once."""
    whole = PyTorchBackend(bundle, device=device, precision=precision)
    return lambda targets: PyTorchNetworks(whole.sized(targets), bundle)


class PyTorchNetworks:
    """See :class:`spm_rt.backends.protocol.Networks`.

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
        self._own_stream = backend.make_stream()
        self.stream = Stream(self.device, self._own_stream.cuda_stream)
        template, search, relation = (stage_shapes(spec, t, stage, k) for stage in ("template", "search", "relation"))
        shapes = {name: search[name] for name in ("scores", "boxes")}
        shapes |= {"proposals": relation["proposals"], "head_bias": template["head_bias"]}
        shapes |= {f"fine_{name}": relation[name] for name in ("scores", "boxes")}
        self._tensors = {name: torch.zeros(shape, device=backend.device) for name, shape in shapes.items()}
        self._tensors["crop"] = backend.network.input_buffer(t)
        self.input_form = backend.network.input_form
        self.addresses: Mapping[str, int] = {name: tensor.data_ptr() for name, tensor in self._tensors.items()}
        # Slots may stay empty: their templates are zeros.
        for name in ("head_kernel", "target_half"):
            self._tensors[name] = torch.zeros(template[name], device=backend.device, dtype=backend.network.data)
        self._tensors["head_kernel"] = backend.network.head_order(self._tensors["head_kernel"])
        self._maps: tuple[Tensor, Tensor] | None = None
        # What PyTorch wrote on its own stream must be there before ours begins.
        torch.cuda.synchronize(backend.device)

    def set_template(self, box: NDArray[np.float32]) -> None:
        if self.targets != 1:
            raise BackendError("templates are made one by one: by networks for one target")
        with self._backend.entered(), self._torch.cuda.stream(self._own_stream):
            device_box = self._torch.from_numpy(np.ascontiguousarray(box)).to(self._backend.device)
            self._keep(self._backend.network.template(self._tensors["crop"], device_box))
        self.stream.wait()

    def template(self) -> Mapping[str, Tensor]:
        with self._backend.entered(), self._torch.cuda.stream(self._own_stream):
            copies = {name: self._tensors[name][0].clone() for name in TEMPLATE_NAMES}
        self.stream.wait()
        return copies

    def put_template(self, slot: int, template: Mapping[str, Tensor]) -> None:
        with self._backend.entered(), self._torch.cuda.stream(self._own_stream):
            for name in TEMPLATE_NAMES:
                self._tensors[name][slot].copy_(template[name])
        self.stream.wait()

    def search(self) -> None:
        crop, kernel, bias = (self._tensors[name] for name in ("crop", "head_kernel", "head_bias"))
        with self._backend.entered(), self._torch.cuda.stream(self._own_stream):
            answers = {name: self._tensors[name] for name in ("scores", "boxes")}
            results = self._backend.network.search(crop, kernel, bias, answers)
            # The maps stay where they were made: relation follows in the same frame, and in the same graph.
            self._maps = results["shallow"], results["deep"]

    def relate(self) -> None:
        if self._maps is None:
            raise BackendError("relate before search: there are no features")
        with self._backend.entered(), self._torch.cuda.stream(self._own_stream):
            half, proposals = self._tensors["target_half"], self._tensors["proposals"]
            answers = {name: self._tensors[f"fine_{name}"] for name in ("scores", "boxes")}
            self._backend.network.relation(*self._maps, half, proposals, answers)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        torch = self._torch
        with torch.cuda.device(self._backend.device):
            replay = self._backend.capture(work, self._own_stream)
        maps = self._maps  # in the graph's own memory

        def launch() -> None:
            with torch.cuda.stream(self._own_stream):
                replay()
            self._maps = maps

        return launch

    def _keep(self, results: Mapping[str, Tensor]) -> None:
        """Results into the tensors that graphs read."""
        for name, tensor in results.items():
            self._tensors[name].copy_(tensor)
