"""spm_rt: track one object through a video with an SPM-Tracker bundle.

>>> from spm_rt import Tracker
>>> tracker = Tracker.load("spm_alexnet")                    # doctest: +SKIP
>>> tracker.init(first_frame, (x, y, width, height))         # doctest: +SKIP
>>> result = tracker.update(next_frame)                      # doctest: +SKIP
>>> result.box, result.score, result.found                   # doctest: +SKIP

Needs numpy, OpenCV and one inference library (onnxruntime or openvino), which is imported when a bundle is loaded.
"""

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
from .settings import ModelSpec, TrackerSettings
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
