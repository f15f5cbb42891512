"""Our own kernels on PyTorch's tensors and streams."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from ...gpu import kernels
from ...gpu.driver import Device, Module
from ...gpu.kernels import layer_launches, nvrtc
from .operators import Operators

Tensor = Any


class Kernels(Operators):
    """The network's steps by our kernels, on whatever stream PyTorch is working on.

    Args:
        plain: the same steps in PyTorch's operators: whose model, tensors and types these have, and who takes the
            steps that the kernels do not fit.
        index: of the GPU.
        data: the maps' type by name.

    Raises:
        BackendError: there is no compiler, or the device does not take its code.
    """

    def __init__(self, plain: Operators, index: int, data: str) -> None:
        super().__init__(plain._torch, plain.spec, plain.data, plain.order, plain._tensors)
        self._name, self._last = data, int(plain.order == plain._torch.channels_last)
        device = Device(index)
        units = ("layers", "roi") if kernels.roi_fits(plain.spec) else ("layers",)
        architecture = f"sm_{device.capability}"
        self._modules: dict[str, Module] = {unit: device.module(nvrtc.compiled(unit, architecture)) for unit in units}
        like = plain._tensors["anchor_centers"]
        self._fine_weights = like.new_tensor(plain.spec.fine_weights)

    def prepare(self, crop: Tensor, planes: int) -> Tensor:
        targets, _, height, width = crop.shape
        out = self._maps(targets, planes, height, width, crop)
        launch = layer_launches.prepare_launch(targets, height * width, self._name)
        self._run("layers", launch, crop.contiguous(), height * width, self.mean, planes, self._last, out)
        return out

    def pool_norm(self, x: Tensor, bias: Tensor) -> Tensor:
        x = x.contiguous(memory_format=self.order)
        targets, channels, height, width = x.shape
        if channels > layer_launches.NORM_MAX_CHANNELS:
            return super().pool_norm(x, bias)
        out = self._maps(targets, channels, (height + 1) // 2, (width + 1) // 2, x)
        launch = layer_launches.pool_norm_launch(targets, height, width, self._name)
        self._run("layers", launch, x, bias, channels, height, width, self._last, out)
        return out

    def activate(
        self, x: Tensor, bias: Tensor, *, low: float = 0.0, high: float = float("inf"), other: Tensor | None = None
    ) -> Tensor:
        maps = x.dim() == 4
        # A library may give another order than it was asked for; a copy then costs a kernel, and nothing else.
        x, other = (v if v is None or not maps else v.contiguous(memory_format=self.order) for v in (x, other))
        cells = 1 if not maps or self._last else x.shape[2] * x.shape[3]
        launch = layer_launches.activate_launch(x.numel(), self._name)
        given = (x, bias, other, ctypes.c_float(low), ctypes.c_float(high), x.shape[1], cells)
        self._run("layers", launch, *given, ctypes.c_longlong(x.numel()))
        return x

    def decode(self, head: Tensor, bias: Tensor, out: Mapping[str, Tensor] | None = None) -> Mapping[str, Tensor]:
        targets, _, height, width = head.shape
        if head.stride(2) != width * head.stride(3):
            head = head.contiguous()
        anchors, count = self.spec.anchors_per_cell, height * width * self.spec.anchors_per_cell
        out = out or self._answers(targets, count)
        steps = (head.stride(1), head.stride(3), head.stride(0), bias.stride(0) if bias.dim() == 2 else 0)
        boxed = (self._tensors["anchor_centers"], self._tensors["anchor_sizes"], out["scores"], out["boxes"])
        launch = layer_launches.decode_launch(targets, count, self._name)
        self._run("layers", launch, head, bias, height * width, anchors, *steps, *boxed)
        return out

    def decode_fine(
        self, values: Tensor, bias: Tensor, proposals: Tensor, out: Mapping[str, Tensor] | None = None
    ) -> Mapping[str, Tensor]:
        out = out or self._answers(*proposals.shape[:2])
        launch = layer_launches.decode_fine_launch(len(values), self._name)
        given = (values.contiguous(), bias, self._fine_weights, proposals.contiguous(), len(values))
        self._run("layers", launch, *given, out["scores"], out["boxes"])
        return out

    def relate(self, own: Tensor, half: Tensor, count: int) -> Tensor:
        own, channels = own.contiguous(memory_format=self.order), own.shape[1]
        cells = own.shape[2] * own.shape[3]
        out = own.new_empty((len(own), channels * cells))
        launch = layer_launches.relate_launch(len(own), channels * cells, self._name)
        self._run("layers", launch, own, half.contiguous(), count, channels, cells, self._last, out)
        return out

    def roi(self, deep: Tensor, shallow: Tensor, boxes: Tensor) -> Tensor:
        if "roi" not in self._modules:
            return super().roi(deep, shallow, boxes)
        targets, count = boxes.shape[:2]
        deep, shallow = (m.contiguous(memory_format=self.order) for m in (deep, shallow))
        channels = (deep.shape[1], shallow.shape[1])
        out = self._maps(targets * count, sum(channels), 6, 6, deep)
        launch = kernels.roi_launch(targets * count, sum(channels), self._name)
        if self.spec.first_cell:
            boxes = boxes - self.spec.first_cell
        given = (deep, shallow, boxes.contiguous(), self._tensors["roi_scale"], self._tensors["roi_shift"])
        self._run("roi", launch, *given, count, *channels, *deep.shape[2:], 3 * self._last, out)
        return out

    def _answers(self, targets: int, count: int) -> dict[str, Tensor]:
        like = self._fine_weights
        return {"scores": like.new_empty((targets, count)), "boxes": like.new_empty((targets, count, 4))}

    def _maps(self, targets: int, channels: int, height: int, width: int, like: Tensor) -> Tensor:
        shape = (targets, channels, height, width)
        return self._torch.empty(shape, dtype=self.data, device=like.device, memory_format=self.order)

    def _run(self, unit: str, launch: kernels.Launch, *arguments: Any) -> None:
        """A kernel with tensors, whole numbers, nothing (None) and :mod:`ctypes` values, on PyTorch's stream."""
        given: list[Any] = []
        for argument in arguments:
            if argument is None:
                given.append(ctypes.c_void_p())
            elif isinstance(argument, int):
                given.append(ctypes.c_int(argument))
            else:
                given.append(argument if isinstance(argument, ctypes._SimpleCData) else argument.data_ptr())
        stream = self._torch.cuda.current_stream(self._fine_weights.device).cuda_stream
        self._modules[unit].prepare(launch, given)(stream)
