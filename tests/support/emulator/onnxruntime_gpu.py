"""ONNX Runtime's backend as it is on a GPU, with OrtValues on the CPU."""

from __future__ import annotations

from typing import Any

import onnxruntime

from spm_rt import Bundle
from spm_rt.backends.onnxruntime.gpu import DeviceContext
from spm_rt.bundle import STAGES


def sessions_of(bundle: Bundle, targets: int) -> dict[str, Any]:
    """The graphs that a GPU gets, on the CPU; templates are made one by one."""
    stages = STAGES if targets == 1 else STAGES[1:]
    files = {stage: str(bundle.graph(stage, targets=targets, variant="portable")) for stage in stages}
    make = onnxruntime.InferenceSession
    return {stage: make(file, providers=["CPUExecutionProvider"]) for stage, file in files.items()}


class DeviceBackend:
    """As the backend on CUDA, with OrtValues on the CPU."""

    name = description = "onnxruntime"

    def __init__(self, bundle: Bundle, targets: int = 1) -> None:
        self._bundle, self._targets, self._sessions = bundle, targets, sessions_of(bundle, targets)

    def context(self) -> DeviceContext:
        return DeviceContext(self._sessions, onnxruntime, self._bundle.spec, self._targets, "cpu")
