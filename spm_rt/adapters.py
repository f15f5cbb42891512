"""The tracker behind other people's interfaces."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .results import Box
from .trackers.lifecycle import NotCopied
from .trackers.single import Tracker


class OpenCVTracker(NotCopied):
    """OpenCV's interface: ``init(image, box)``, then ``update(image) -> ok, box``.

    ``ok`` is ``TrackResult.found``. OpenCV's own trackers take integer boxes; this one keeps floats.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def init(self, image: NDArray[Any], boundingBox: Sequence[float]) -> None:
        self.tracker.init(image, boundingBox)

    def update(self, image: NDArray[Any]) -> tuple[bool, Box]:
        result = self.tracker.update(image)
        return result.found, result.box


class Got10kTracker(NotCopied):
    """The got10k toolkit's interface, for its experiments: ``ExperimentOTB(...).run(Got10kTracker.load(bundle))``.

    The toolkit hands over RGB pictures (PIL) and boxes whose first pixel is 1 (OTB) or 0 as the data set has it; boxes
    are passed through as they are.
    """

    is_deterministic = True

    def __init__(self, tracker: Tracker, name: str = "spm_rt") -> None:
        self.name = name
        self.tracker = tracker

    @classmethod
    def load(cls, bundle: str | os.PathLike[str], name: str = "spm_rt", **options: Any) -> Got10kTracker:
        """As :meth:`spm_rt.Tracker.load`."""
        return cls(Tracker.load(bundle, **options), name)

    def init(self, image: Any, box: Sequence[float]) -> None:
        self.tracker.init(_bgr(image), box)

    def update(self, image: Any) -> NDArray[np.float64]:
        return np.array(self.tracker.update(_bgr(image)).box)

    def forward_test(
        self, img_files: Sequence[str], box: Sequence[float], visualize: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The toolkit's loop over one sequence: boxes ``[frames, 4]`` and seconds ``[frames]``; nothing is drawn."""
        import time

        from .media.video import read_picture

        boxes = np.zeros((len(img_files), 4))
        seconds = np.zeros(len(img_files))
        for index, file in enumerate(img_files):
            frame = read_picture(file)
            start = time.perf_counter()
            if index:
                boxes[index] = self.tracker.update(frame).box
            else:
                self.tracker.init(frame, box)
                boxes[0] = box
            seconds[index] = time.perf_counter() - start
        return boxes, seconds

    track = forward_test
    """Another name of :meth:`forward_test`, by which newer versions of the toolkit call it."""


def _bgr(image: Any) -> NDArray[Any]:
    """A PIL picture or RGB array as BGR."""
    array = np.asarray(image)
    return array[:, :, ::-1] if array.ndim == 3 else array
