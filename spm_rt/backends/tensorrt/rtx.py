"""TensorRT for RTX: the same backend on the other library."""

from __future__ import annotations

from ...bundle import Bundle
from .backend import TensorRtBackend


def load(bundle: Bundle, *, device: str, threads: int | None, targets: int) -> TensorRtBackend:
    return TensorRtBackend(bundle, device=device, targets=targets, library="tensorrt_rtx")
