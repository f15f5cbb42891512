"""PyTorch as the inference library: cuDNN and our kernels under CUDA graphs, where TensorRT cannot be had.

On a GPU each stage is captured once as a CUDA graph, copies included, and launched as one. On a CPU (``device="cpu"``,
for tests: it is slow there) the same arithmetic runs operator by operator, and what is tested there is everything but
the graphs and the kernel's launch. docs/notes/gpu.md says what has been run where.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle import Bundle
from ...bundle.contract import TEMPLATE_NAMES, stage_shapes
from ...errors import BackendError, SettingsError
from ...frame.geometry import Region
from ...gpu.capture import CapturedWork
from ...gpu.crop import DeviceCrop, crop_module
from ...gpu.device_frames import DeviceFrame, device_frame, refused
from ...gpu.driver import Device, Module, Stream
from ...gpu.kernels import roi_fits
from ...precision import FLOATS, parse_precision
from .kernels import Kernels
from .light import LightNetwork
from .network import Network, read_weights

Floats = NDArray[np.float32]
Tensor = Any
INPUT_PLANES = 8
"""Channels that kernels for tensor cores read at once; given three, cuDNN copies the input into as many."""
_processes: set[int] = set()
"""Those that PyTorch was loaded in here: this one, or one that it was forked from."""


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

        if _processes - {os.getpid()}:
            raise BackendError(
                "pytorch: this process was forked from one that had loaded a tracker with it, and PyTorch's threads do "
                "not survive that: start children by spawn (multiprocessing.get_context('spawn'))"
            )
        _processes.add(os.getpid())
        self.torch: Any = torch
        self.spec, self.targets, self.tf32 = bundle.spec, targets, tf32
        self.device = _device(torch, device)
        self.on_gpu = self.device.type == "cuda"
        self.graphs = graphs and self.on_gpu
        if threads is not None and not self.on_gpu:
            torch.set_num_threads(threads)
        try:
            chosen = parse_precision(precision or bundle.precision, FLOATS)
        except SettingsError as error:
            raise BackendError(f"pytorch: {error}") from None
        last = channels_last if channels_last is not None else self.on_gpu and chosen != "float32"
        order: dict[str, Any] = {"channels_last": last, "planes": INPUT_PLANES if last else 3}
        weights = read_weights(bundle.path / "weights.safetensors", torch)
        with torch.inference_mode():
            make = Network if self.spec.backbone == "alexnet" else LightNetwork
            self.network = make(torch, weights, self.spec, self.device, getattr(torch, chosen), **order)
        self.steps = "PyTorch's operators"
        if self.on_gpu:
            self._use_kernels(chosen)
            self.network.fastest.seconds = functools.partial(seconds_captured, torch, self.device)
        where = torch.cuda.get_device_name(self.device) if self.on_gpu else f"CPU, {torch.get_num_threads()} threads"
        how = self.steps + (", CUDA graphs" if self.graphs else "")
        self.description = f"torch {torch.__version__}, {where}, {chosen}{' (TF32)' if tf32 else ''}, {how}"

    def context(self) -> PyTorchContext:
        return PyTorchContext(self)

    @functools.cached_property
    def crop_kernels(self) -> tuple[Device, Module]:
        """The GPU and our kernels on it, for frames that are there already."""
        device = Device(self.device.index)
        return device, crop_module(device)

    @property
    def stream(self) -> int:
        """Handle of the stream that PyTorch works on now."""
        return int(self.torch.cuda.current_stream(self.device).cuda_stream)

    def make_stream(self) -> Any:
        """A stream of PyTorch's on this GPU."""
        return self.torch.cuda.Stream(self.device)

    def sized(self, targets: int) -> PyTorchBackend:
        """The same weights for another number of targets."""
        other = copy.copy(self)
        other.targets = targets
        return other

    def capture(self, work: Callable[[], None], stream: Any) -> Callable[[], None]:
        """Record work on a stream of PyTorch's as a CUDA graph; what is returned replays it.

        Trackers of other threads may go on meanwhile, as they may allocate.
        """
        graph = self.torch.cuda.CUDAGraph()
        try:
            with self.torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                work()
        except RuntimeError as error:
            raise BackendError(f"PyTorch cannot capture it: {error}") from error
        return graph.replay  # type: ignore[no-any-return]

    def wait(self) -> None:
        """Until what was put on PyTorch's current stream is done."""
        if self.on_gpu:
            self.torch.cuda.current_stream(self.device).synchronize()

    @contextlib.contextmanager
    def entered(self) -> Any:
        """Inference mode, this backend's device, and its settings of cuDNN for the work inside."""
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

    def _use_kernels(self, data: str) -> None:
        """Our kernels between the products; without a compiler PyTorch's operators stay, and a warning says why."""
        try:
            self.network.steps = Kernels(self.network.steps, self.device.index or 0, data)
            self.steps = "our kernels" if roi_fits(self.spec) else "our kernels, RoI in PyTorch's operators"
        except BackendError as error:
            warnings.warn(f"our kernels are not used ({error})", RuntimeWarning, stacklevel=4)


class PyTorchContext:
    """One tracker's template, maps and buffers. Host buffers are pinned where there is a GPU."""

    def __init__(self, backend: PyTorchBackend) -> None:
        self._backend, self._torch = backend, backend.torch
        shapes = {**self._shapes("template"), **self._shapes("search")}
        self._host, self._device = self._buffers(shapes, ("crop", "box", "scores", "boxes"))
        self.crop: Floats = self._host["crop"].numpy()
        self.on_device = False
        self._cropper: DeviceCrop | None = None
        # A stream of this context's own to record on: PyTorch's default one for this is shared by all threads and GPUs.
        self._recorder = backend.make_stream() if backend.on_gpu else None
        # Two graphs, captured when first needed: with the crop's upload in it, and for crops made on the device.
        self._search_with_upload = self._captured(self._upload_and_search, self._host)
        self._search = self._captured(self._search_work, self._host)
        self._relations: dict[int, tuple[CapturedWork, dict[str, Floats]]] = {}

    def set_template(self, box: Floats) -> None:
        host, device = self._host, self._device
        host["box"].numpy()[:] = box
        with self._backend.entered():
            for name in ("box",) if self.on_device else ("crop", "box"):
                device[name].copy_(host[name])
            network = self._backend.network
            self._keep(network.template(network.prepare(device["crop"]), device["box"]))

    def template(self) -> Mapping[str, Tensor]:
        return {name: self._device[name][0].clone() for name in TEMPLATE_NAMES}

    def put_template(self, slot: int, template: Mapping[str, Tensor]) -> None:
        with self._backend.entered():
            for name in TEMPLATE_NAMES:
                if name not in self._device:
                    shape = (self._backend.targets, *template[name].shape)
                    zeros = template[name].new_zeros(shape)
                    self._device[name] = self._backend.network.head_order(zeros) if name == "head_kernel" else zeros
                self._device[name][slot].copy_(template[name])

    def search(self) -> tuple[Floats, Floats]:
        with self._backend.entered():
            (self._search if self.on_device else self._search_with_upload).run()
        return self._host["scores"].numpy(), self._host["boxes"].numpy()

    def device_frame(self, frame: Any) -> DeviceFrame:
        if not self._backend.on_gpu:
            raise refused(frame, f"{self._backend.name} on the CPU")
        return device_frame(frame, index=self._backend.device.index, stream=self._backend.stream)

    def crop_device(self, frame: DeviceFrame, region: Region, slot: int = 0) -> None:
        device, module = self._backend.crop_kernels
        if self._cropper is None:
            crop = self._device["crop"]
            self._cropper = DeviceCrop(device, module, crop.data_ptr(), crop.shape[0], crop.shape[3])
        self._cropper(frame, region, slot, Stream(device, self._backend.stream))
        self.on_device = True

    def relate(self, proposals: Floats) -> tuple[Floats, Floats]:
        count = proposals.shape[1]
        if count not in self._relations:
            self._relations[count] = self._make_relation(count)
        work, arrays = self._relations[count]
        arrays["proposals"][:] = proposals
        with self._backend.entered():
            work.run()
        return arrays["scores"], arrays["boxes"]

    def _keep(self, tensors: Mapping[str, Tensor]) -> None:
        """Results into this context's own tensors, whose addresses graphs rely on."""
        for name, tensor in tensors.items():
            if name not in self._device:
                self._device[name] = self._torch.empty_like(tensor)
            self._device[name].copy_(tensor)

    def _upload_and_search(self) -> None:
        self._device["crop"].copy_(self._host["crop"], non_blocking=True)
        self._search_work()

    def _search_work(self) -> None:
        host, device = self._host, self._device
        network = self._backend.network
        self._keep(network.search(network.prepare(device["crop"]), device["head_kernel"], device["head_bias"]))
        for name in ("scores", "boxes"):
            host[name].copy_(device[name], non_blocking=True)

    def _make_relation(self, count: int) -> tuple[CapturedWork, dict[str, Floats]]:
        """The work and its host arrays for ``count`` proposals, made the first time that there are so many."""
        host, device = self._buffers(self._shapes("relation", count), ("proposals", "scores", "boxes"))

        def work() -> None:
            device["proposals"].copy_(host["proposals"], non_blocking=True)
            shallow, deep, half = (self._device[name] for name in ("shallow", "deep", "target_half"))
            for name, tensor in self._backend.network.relation(shallow, deep, half, device["proposals"]).items():
                host[name].copy_(tensor, non_blocking=True)

        return self._captured(work, host), {name: tensor.numpy() for name, tensor in host.items()}

    def _captured(self, work: Callable[[], None], host: Mapping[str, Tensor]) -> CapturedWork:
        """Work that fills the host's scores and boxes. It has two usual runs, in which cuDNN sets up and measures."""
        backend, outputs = self._backend, {name: host[name].numpy() for name in ("scores", "boxes")}
        record = functools.partial(backend.capture, stream=self._recorder)
        return CapturedWork(work, record, backend.wait, outputs, backend, warm_ups=2)

    def _shapes(self, stage: str, count: int = 0) -> dict[str, tuple[int, ...]]:
        return stage_shapes(self._backend.spec, self._backend.targets, stage, count)

    def _buffers(
        self, shapes: Mapping[str, tuple[int, ...]], names: Sequence[str]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Tensors of zeros by name on the host, and on the device."""
        torch, backend = self._torch, self._backend
        host = {name: torch.zeros(shapes[name], pin_memory=backend.on_gpu) for name in names}
        return host, {name: torch.zeros(shapes[name], device=backend.device) for name in names}


def seconds_captured(torch: Any, device: Any, work: Callable[[], Tensor], repeated: int = 10) -> float:
    """GPU time of work within a graph, where launches cost nothing."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        for _ in range(repeated):
            work()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    graph.replay()
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000 / repeated


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


load = PyTorchBackend
"""See :class:`spm_rt.backends.protocol.Load`."""
