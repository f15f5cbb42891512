"""ONNX Runtime's backend as it is on a GPU, with OrtValues on the CPU."""

from __future__ import annotations

from typing import Any

import onnxruntime

from spm_rt import Bundle
from spm_rt.backends.onnxruntime.gpu import DeviceContext
from spm_rt.bundle import STAGES

from .engines import session_of


def sessions_of(bundle: Bundle, targets: int) -> dict[str, Any]:
    """The graphs that a GPU gets, on the CPU; templates are made one by one."""
    stages = STAGES if targets == 1 else STAGES[1:]
    return {stage: session_of(str(bundle.graph(stage, targets=targets, variant="portable"))) for stage in stages}


class DeviceBackend:
    """As the backend on CUDA, with OrtValues on the CPU."""

    name = description = "onnxruntime"

    def __init__(self, bundle: Bundle, targets: int = 1) -> None:
        self._bundle, self._targets, self._sessions = bundle, targets, sessions_of(bundle, targets)

    def context(self) -> DeviceContext:
        return DeviceContext(self._sessions, onnxruntime, self._bundle.spec, self._targets, "cpu")
