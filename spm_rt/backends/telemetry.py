"""What inference libraries would tell their makers: nothing, unless the user wants it.

OpenVINO's Python package sends an event whenever it is imported (by its ``openvino_telemetry``), and keeps an
identifier and a counter in ``~/intel``. ONNX Runtime from 1.32 on sends events about every session, and keeps those
that it could not send, and an identifier, in the user's cache folder. With ``SPM_RT_TELEMETRY=on`` both are left as
their makers have them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

VARIABLE = "SPM_RT_TELEMETRY"
OPENVINO = "openvino_telemetry"
"""The module that OpenVINO sends its events by; where it cannot be imported, a stub of OpenVINO's own does nothing."""
ONNXRUNTIME = "ORT_DISABLE_TELEMETRY"
"""Read by ONNX Runtime when it is imported, and by child processes."""


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """Libraries that are imported first in this block send nothing."""
    if os.environ.get(VARIABLE, "").lower() in ("on", "1", "true", "yes"):
        yield
        return
    os.environ.setdefault(ONNXRUNTIME, "1")
    imported = sys.modules.get(OPENVINO)
    sys.modules[OPENVINO] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[OPENVINO]
        if imported is not None:
            sys.modules[OPENVINO] = imported
