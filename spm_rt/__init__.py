"""spm_rt: track one object through a video with an SPM-Tracker bundle.

>>> from spm_rt import Tracker
>>> tracker = Tracker.load("spm_alexnet")                    # doctest: +SKIP
>>> tracker.init(first_frame, (x, y, width, height))         # doctest: +SKIP
>>> result = tracker.update(next_frame)                      # doctest: +SKIP
>>> result.box, result.score, result.found                   # doctest: +SKIP

Needs numpy, OpenCV and one inference library (onnxruntime or openvino), which is imported when a bundle is loaded.
numpy and OpenCV are imported with the first name that is taken from here.
"""

import importlib
from typing import TYPE_CHECKING

from .lazy import lazy_names

if TYPE_CHECKING:
    from .bundle import Bundle
    from .errors import (
        BackendError,
        BoxError,
        BundleError,
        CheckpointError,
        ClosedError,
        CopyError,
        EngineError,
        ExportError,
        FrameError,
        NotInitializedError,
        ProcessError,
        SettingsError,
        SourceError,
        SpmError,
        TargetError,
        ThreadError,
    )
    from .results import Candidate, TrackResult
    from .settings import ModelSpec, RecoverySettings, TrackerSettings
    from .trackers.multi import MultiTracker
    from .trackers.single import Tracker

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "BoxError",
    "Bundle",
    "BundleError",
    "Candidate",
    "CheckpointError",
    "ClosedError",
    "CopyError",
    "EngineError",
    "ExportError",
    "FrameError",
    "ModelSpec",
    "MultiTracker",
    "NotInitializedError",
    "ProcessError",
    "RecoverySettings",
    "SettingsError",
    "SourceError",
    "SpmError",
    "TargetError",
    "ThreadError",
    "TrackResult",
    "Tracker",
    "TrackerSettings",
    "__version__",
]

_ERRORS = (name for name in __all__ if name.endswith("Error"))
_HOMES = {
    **dict.fromkeys(_ERRORS, "errors"),
    "Bundle": "bundle",
    **dict.fromkeys(("Candidate", "TrackResult"), "results"),
    **dict.fromkeys(("ModelSpec", "RecoverySettings", "TrackerSettings"), "settings"),
    "MultiTracker": "trackers.multi",
    "Tracker": "trackers.single",
}
"""The module of each name, imported when it is first asked for."""
_MODULES = ("backends", "bundle", "errors", "frame", "gpu", "machine", "precision", "results", "settings", "trackers")
"""Modules that ``import spm_rt`` alone gives too, with all that the trackers import of them."""
_find = lazy_names(__name__, _HOMES)


def __getattr__(name: str) -> object:
    if name in _MODULES:
        for tracker in ("trackers.single", "trackers.multi"):
            importlib.import_module(f".{tracker}", __name__)
        return importlib.import_module(f".{name}", __name__)
    return _find(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
