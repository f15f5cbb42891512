"""ONNX Runtime's backend as it is on a GPU, with OrtValues on the CPU."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
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


class CapturingSession:
    """A session that does as one with CUDA graphs: what it once ran under a ``gpu_graph_id`` it runs again, on the
    tensors of then, whatever is bound now. One thread at a time."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self._inside = threading.Lock()
        self.captured: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def run_with_iobinding(self, binding: Any, options: Any = None) -> None:
        with self._alone():
            number = "0"
            with contextlib.suppress(Exception):  # what it says of an entry that is not there
                number = options.get_run_config_entry("gpu_graph_id")
            self._real.run_with_iobinding(self.captured.setdefault(number, binding))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._inside.acquire(blocking=False):
            raise RuntimeError("CUDA graphs: another thread is in this session")
        try:
            yield
        finally:
            self._inside.release()


class DeviceBackend:
    """As the backend on CUDA, with OrtValues on the CPU; ``capturing``: and sessions that capture graphs."""

    name = description = "onnxruntime"

    def __init__(self, bundle: Bundle, targets: int = 1, *, capturing: bool = False) -> None:
        self._bundle, self._targets, self.sessions = bundle, targets, sessions_of(bundle, targets)
        self._turns = threading.Lock() if capturing else None
        if capturing:
            self.sessions = {stage: CapturingSession(session) for stage, session in self.sessions.items()}

    def context(self) -> DeviceContext:
        spec, count = self._bundle.spec, self._bundle.settings.num_candidates
        return DeviceContext(self.sessions, onnxruntime, spec, self._targets, count, "cpu", turns=self._turns)
