"""PyTorch as the inference library: cuDNN and our RoI kernel under CUDA graphs, where TensorRT cannot be had.

On a GPU each stage is captured once as a CUDA graph, copies included, and launched as one. On a CPU (``device="cpu"``,
for tests: it is slow there) the same arithmetic runs operator by operator, and what is tested there is everything but
the graphs and the kernel's launch. The GPU half has not been run on a GPU (docs/notes/gpu.md).
"""

from __future__ import annotations

import contextlib
import copy
import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle import Bundle
from ...errors import BackendError
from ...frame.geometry import Region
from ...gpu.crop import DeviceCrop
from ...gpu.device_frames import DeviceFrame, device_frame, refused
from .kernels import CropKernels, RoiKernel
from .network import Network, read_weights

Floats = NDArray[np.float32]
Tensor = Any
TEMPLATE_NAMES = ("head_kernel", "head_bias", "target_half")
SAME = 1e-4
"""Largest difference that a captured graph may show to the same work launched one by one, relative to the largest."""


def load(bundle: Bundle, *, device: str, threads: int | None, targets: int) -> PyTorchBackend:
    return PyTorchBackend(bundle, device=device, threads=threads, targets=targets)


class PyTorchBackend:
    """Weights on one device; contexts have their own buffers and graphs.

    Args:
        bundle: a verified bundle, of any precision.
        device: ``cpu``, ``cuda`` or ``cuda:INDEX``.
        threads: on the CPU; PyTorch's number of threads is the process's own.
        targets: leading axis of every tensor; any number, the bundle needs no graphs for it.
        precision: ``float32``, ``float16`` or ``bfloat16``; by default the bundle's.
        tf32: let float32 products be rounded to TF32 on the GPU.
        graphs: capture CUDA graphs.
        channels_last: memory order; by default as tensor cores like it, in half precision on a GPU.
    """

    name = "pytorch"

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "cpu",
        threads: int | None = None,
        targets: int = 1,
        precision: str | None = None,
        tf32: bool = False,
        graphs: bool = True,
        channels_last: bool | None = None,
    ) -> None:
        import torch

        self.torch: Any = torch
        self.spec, self.targets, self.tf32 = bundle.spec, targets, tf32
        self.device = _device(torch, device)
        self.on_gpu = self.device.type == "cuda"
        self.graphs = graphs and self.on_gpu
        if threads is not None and not self.on_gpu:
            torch.set_num_threads(threads)
        chosen = precision or str(bundle.manifest["precision"])
        if chosen not in ("float32", "float16", "bfloat16"):
            raise BackendError(f"precision {chosen!r}: float32, float16 or bfloat16")
        last = channels_last if channels_last is not None else self.on_gpu and chosen != "float32"
        weights = read_weights(bundle.path / "weights.safetensors", torch)
        with torch.inference_mode():
            self.network = Network(torch, weights, self.spec, self.device, getattr(torch, chosen), channels_last=last)
        self.roi = "in PyTorch's operators"
        if self.on_gpu:
            self._use_kernel(chosen)
        where = torch.cuda.get_device_name(self.device) if self.on_gpu else f"CPU, {torch.get_num_threads()} threads"
        how = f"RoI {self.roi}" + (", CUDA graphs" if self.graphs else "")
        self.description = f"torch {torch.__version__}, {where}, {chosen}{' (TF32)' if tf32 else ''}, {how}"

    def context(self) -> PyTorchContext:
        return PyTorchContext(self)

    @functools.cached_property
    def crop_kernels(self) -> CropKernels:
        """For frames that are on the GPU already."""
        return CropKernels(self.device.index)

    @property
    def stream(self) -> int:
        """Handle of the stream that PyTorch works on now."""
        return int(self.torch.cuda.current_stream(self.device).cuda_stream)

    def sized(self, targets: int) -> PyTorchBackend:
        """The same weights for another number of targets."""
        other = copy.copy(self)
        other.targets = targets
        return other

    @contextlib.contextmanager
    def recording(self, graph: Any, stream: Any) -> Any:
        """Record the work inside as a graph. Trackers of other threads may go on meanwhile, as they may allocate."""
        with self.torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            yield

    @contextlib.contextmanager
    def entered(self) -> Any:
        """Inference mode, and this backend's ways with products, for the work inside."""
        torch = self.torch
        with torch.inference_mode():
            if not self.on_gpu:
                yield
                return
            with (
                torch.cuda.device(self.device),
                torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=self.tf32),
            ):
                yield

    def _use_kernel(self, data: str) -> None:
        """Crop features with our kernel; where it cannot be had, PyTorch's operators stay, and a warning says why."""
        try:
            self.network.roi = RoiKernel(self.network, self.device.index or 0, data)
            self.roi = "by our kernel"
        except BackendError as error:
            warnings.warn(f"the RoI kernel is not used ({error})", RuntimeWarning, stacklevel=4)


class PyTorchContext:
    """One tracker's template, maps and buffers. Host buffers are pinned where there is a GPU."""

    def __init__(self, backend: PyTorchBackend) -> None:
        self._backend, self._torch = backend, backend.torch
        spec, t = backend.spec, backend.targets
        self._host: dict[str, Tensor] = {}
        self._on: dict[str, Tensor] = {}
        size, n = spec.crop_size, spec.anchor_count
        shapes = {"crop": (t, 3, size, size), "box": (t, 4), "scores": (t, n), "boxes": (t, n, 4)}
        for name, shape in shapes.items():
            self._host[name], self._on[name] = self._buffers(shape)
        self.crop: Floats = self._host["crop"].numpy()
        outputs = {name: self._host[name] for name in ("scores", "boxes")}
        self.on_device = False
        self._cropper: DeviceCrop | None = None
        self._recorder = backend.torch.cuda.Stream(backend.device) if backend.on_gpu else None
        # Two graphs, captured when first needed: with the crop's upload in it, and for crops made on the device.
        self._searching = Stage(backend, self._search, outputs, self._recorder)
        self._searching_here = Stage(backend, self._search_here, outputs, self._recorder)
        self._relations: dict[int, tuple[Stage, Floats, Floats, Floats]] = {}

    def set_template(self, box: Floats) -> None:
        host, on = self._host, self._on
        host["box"].numpy()[:] = box
        with self._backend.entered():
            for name in ("box",) if self.on_device else ("crop", "box"):
                on[name].copy_(host[name])
            self._keep(self._backend.network.template(on["crop"], on["box"]))

    def template(self) -> Mapping[str, Tensor]:
        return {name: self._on[name][0].clone() for name in TEMPLATE_NAMES}

    def put_template(self, slot: int, template: Mapping[str, Tensor]) -> None:
        with self._backend.entered():
            for name in TEMPLATE_NAMES:
                if name not in self._on:
                    self._on[name] = self._torch.zeros(
                        (self._backend.targets, *template[name].shape),
                        dtype=template[name].dtype,
                        device=self._backend.device,
                    )
                self._on[name][slot].copy_(template[name])

    def search(self) -> tuple[Floats, Floats]:
        (self._searching_here if self.on_device else self._searching).run()
        return self._host["scores"].numpy(), self._host["boxes"].numpy()

    def device_frame(self, frame: Any) -> DeviceFrame:
        if not self._backend.on_gpu:
            raise refused(frame, f"{self._backend.name} on the CPU")
        return device_frame(frame, index=self._backend.device.index, stream=self._backend.stream)

    def crop_device(self, frame: DeviceFrame, region: Region, slot: int = 0) -> None:
        kernels = self._backend.crop_kernels
        if self._cropper is None:
            self._cropper = kernels.cropper(self._on["crop"])
        self._cropper(frame, region, slot, kernels.stream(self._backend.stream))
        self.on_device = True

    def relate(self, proposals: Floats) -> tuple[Floats, Floats]:
        count = proposals.shape[1]
        if count not in self._relations:
            self._relations[count] = self._make_relation(count)
        stage, given, scores, boxes = self._relations[count]
        given[:] = proposals
        stage.run()
        return scores, boxes

    def _keep(self, found: Mapping[str, Tensor]) -> None:
        """Results into this context's own tensors, whose addresses graphs rely on."""
        for name, tensor in found.items():
            if name not in self._on:
                self._on[name] = self._torch.empty_like(tensor)
            self._on[name].copy_(tensor)

    def _search(self) -> None:
        self._on["crop"].copy_(self._host["crop"], non_blocking=True)
        self._search_here()

    def _search_here(self) -> None:
        host, on = self._host, self._on
        self._keep(self._backend.network.search(on["crop"], on["head_kernel"], on["head_bias"]))
        for name in ("scores", "boxes"):
            host[name].copy_(on[name], non_blocking=True)

    def _make_relation(self, count: int) -> tuple[Stage, Floats, Floats, Floats]:
        """Buffers for ``count`` proposals, made the first time that this many are judged."""
        t = self._backend.targets
        shapes = {"proposals": (t, count, 4), "scores": (t, count), "boxes": (t, count, 4)}
        host, on = {}, {}
        for name, shape in shapes.items():
            host[name], on[name] = self._buffers(shape)

        def work() -> None:
            on["proposals"].copy_(host["proposals"], non_blocking=True)
            shallow, deep, target_half = (self._on[name] for name in ("shallow", "deep", "target_half"))
            found = self._backend.network.relation(shallow, deep, target_half, on["proposals"])
            for name, tensor in found.items():
                host[name].copy_(tensor, non_blocking=True)

        arrays = [host[name].numpy() for name in ("proposals", "scores", "boxes")]
        outputs = {name: host[name] for name in ("scores", "boxes")}
        return Stage(self._backend, work, outputs, self._recorder), arrays[0], arrays[1], arrays[2]

    def _buffers(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        torch, on_gpu = self._torch, self._backend.on_gpu
        return torch.zeros(shape, pin_memory=on_gpu), torch.zeros(shape, device=self._backend.device)


class Stage:
    """Work on fixed buffers: launched one by one, or as a graph once it has been captured.

    The first run is the usual one (libraries set themselves up and measure); after the second the work is captured, and
    the graph's results must be those of the usual run. A capture that fails, or differs, is given up with a warning.

    Args:
        backend: whose way to work is used.
        work: puts everything on the GPU's current stream.
        outputs: host tensors that it fills.
        stream: to record on; None is PyTorch's own for this, which is one for all threads and all GPUs.
    """

    def __init__(
        self, backend: PyTorchBackend, work: Callable[[], None], outputs: Mapping[str, Tensor], stream: Any = None
    ) -> None:
        self._backend, self._work, self._outputs, self._stream = backend, work, outputs, stream
        self._graph: Any = None
        self._runs = 0

    def run(self) -> None:
        backend = self._backend
        with backend.entered():
            if self._graph is not None:
                self._graph.replay()
            else:
                self._work()
                self._runs += 1
            if backend.on_gpu:
                backend.torch.cuda.current_stream(backend.device).synchronize()
            if backend.graphs and self._runs == 2 and self._graph is None:
                self._capture()

    def _capture(self) -> None:
        cuda, wanted = self._backend.torch.cuda, {name: tensor.clone() for name, tensor in self._outputs.items()}
        try:
            graph = cuda.CUDAGraph()
            with self._backend.recording(graph, self._stream):
                self._work()
            graph.replay()
            cuda.synchronize(self._backend.device)
        except RuntimeError as error:
            self._give_up(str(error))
            self._work()  # the buffers may hold anything now
            cuda.synchronize(self._backend.device)
            return
        for name, tensor in wanted.items():
            if not float((self._outputs[name] - tensor).abs().max()) <= SAME * max(1.0, float(tensor.abs().max())):
                self._give_up(f"captured {name} differ from those of the usual run")
                for other, before in wanted.items():
                    self._outputs[other].copy_(before)
                return
        self._graph = graph

    def _give_up(self, why: str) -> None:
        self._backend.graphs = False
        warnings.warn(f"CUDA graphs are not used: {why}", RuntimeWarning, stacklevel=5)


def _device(torch: Any, name: str) -> Any:
    """PyTorch's device of that name, if it is there."""
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise BackendError(f"device {name!r} is unknown to pytorch; try cpu, cuda or cuda:1")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise BackendError(f"device {name!r}: this PyTorch ({torch.__version__}) sees no GPU")
        if int(index or 0) >= torch.cuda.device_count():
            raise BackendError(f"device {name!r}: there are {torch.cuda.device_count()} GPUs")
        return torch.device("cuda", int(index or 0))
    return torch.device(kind)
