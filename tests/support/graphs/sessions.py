"""Models in memory, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from spm_export.proof.runners import Runner

Arrays = dict[str, NDArray[Any]]


def session_of(model: onnx.ModelProto) -> Any:
    """An ONNX Runtime session on a model."""
    return Runner(model.SerializeToString(), Path("model in memory")).session


def run(session: Any, feeds: Arrays) -> Arrays:
    """All outputs of a session by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))
