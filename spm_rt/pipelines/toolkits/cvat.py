"""A tracking function for CVAT: rectangles that an annotator draws are followed through the next frames.

``cvat-cli function create-native`` and ``run-agent`` load a ``--function-file`` by its path and call its ``create``
with arguments from ``-p NAME=TYPE:VALUE``: examples/cvat_function.py is one.
"""

from __future__ import annotations

from typing import Any

from ...adapters import bgr_picture
from ...trackers.single import Tracker

RECTANGLE = "rectangle"


class TrackingFunction:
    """CVAT's interface (``cvat_sdk.auto_annotation.TrackingFunction``).

    Each shape has a tracker of its own, and all share the compiled graphs. CVAT's agent keeps them in its process.

    Args:
        tracker: whose graphs are used.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    @property
    def spec(self) -> Any:
        """``TrackingFunctionSpec``: rectangles."""
        from cvat_sdk.auto_annotation import TrackingFunctionSpec

        return TrackingFunctionSpec(supported_shape_types={RECTANGLE})

    def preprocess_image(self, context: Any, image: Any) -> Any:
        """A PIL picture as the tracker takes it, ``[height, width, 3]`` uint8, BGR."""
        return bgr_picture(image)

    def init_tracking_state(self, context: Any, pp_image: Any, shape: Any) -> Tracker:
        """A tracker that starts on a shape; ``points`` are x1, y1, x2, y2."""
        x1, y1, x2, y2 = shape.points
        tracker = self._tracker.sibling()
        tracker.init(pp_image, (x1, y1, x2 - x1, y2 - y1))
        return tracker

    def track(self, context: Any, pp_image: Any, state: Tracker) -> Any:
        """``TrackableShape`` with the box in the next frame; None where the target was not found."""
        from cvat_sdk.auto_annotation import TrackableShape

        result = state.update(pp_image)
        x, y, width, height = result.box
        return TrackableShape(type=RECTANGLE, points=[x, y, x + width, y + height]) if result.found else None


def create(bundle: str = "spm_alexnet", backend: str = "auto", threads: int = 0) -> TrackingFunction:
    """A function on a bundle's graphs.

    Args:
        bundle: what ``spm-export`` wrote.
        backend: inference library.
        threads: per inference call; 0: all usable cores.
    """
    return TrackingFunction(Tracker.load(bundle, backend, threads=threads or None))
