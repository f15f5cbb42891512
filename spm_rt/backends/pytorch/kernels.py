"""Our own kernels on PyTorch's tensors and streams."""

from __future__ import annotations

import ctypes
from typing import Any

from ...gpu.driver import Device
from ...gpu.kernels import nvrtc, roi_launch
from .network import Network

Tensor = Any


class RoiKernel:
    """Our RoI kernel on PyTorch's tensors, on whatever stream PyTorch is working on."""

    def __init__(self, network: Network, index: int, data: str) -> None:
        self._network, self._data = network, data
        device = Device(index)
        self._module = device.module(nvrtc.compiled("roi", f"sm_{device.capability}"))

    def __call__(self, deep: Tensor, shallow: Tensor, boxes: Tensor) -> Tensor:
        network, torch = self._network, self._network._torch
        targets, count = boxes.shape[:2]
        last = network.order == torch.channels_last
        deep, shallow = (m.contiguous(memory_format=network.order) for m in (deep, shallow))
        boxes = boxes.contiguous()
        out = torch.empty(targets * count, 640, 6, 6, dtype=network.data, device=boxes.device)
        numbers = [ctypes.c_int(n) for n in (count, *deep.shape[2:], int(last))]
        tensors = (deep, shallow, boxes, network.scale, network.shift)
        launch = roi_launch(targets * count, self._data)
        arguments = [*(t.data_ptr() for t in tensors), *numbers, out.data_ptr()]
        self._module.prepare(launch, arguments)(torch.cuda.current_stream(boxes.device).cuda_stream)
        return out
