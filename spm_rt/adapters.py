"""The tracker behind other people's interfaces."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FrameError
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

    The toolkit hands over PIL pictures, or RGB arrays, and boxes whose first pixel is 1 (OTB) or 0 as the data set has
    it; boxes are passed through as they are. A PIL picture of any mode with eight bits a channel is taken as viewers
    show it: colours converted, turned as its EXIF data says, alpha ignored. Other modes are a FrameError.
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
        self.tracker.init(bgr_picture(image), box)

    def update(self, image: Any) -> NDArray[np.float64]:
        return np.array(self.tracker.update(bgr_picture(image)).box)

    def forward_test(
        self, img_files: Sequence[str], box: Sequence[float], visualize: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The toolkit's loop over one sequence: boxes ``[frames, 4]`` and seconds ``[frames]``; nothing is drawn."""
        import time

        from .media.pictures import read_picture

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


PIL_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV")
"""Modes of PIL pictures with eight bits a channel, whose colours PIL knows to turn into RGB."""
_EXIF_ORIENTATION = 0x0112


def bgr_picture(image: Any) -> Any:
    """A PIL picture, or an RGB, RGBA or grey array, as BGR or grey; the tracker refuses what is none of these."""
    if image is None:
        return None
    array = _pil_rgb(image) if hasattr(image, "getbands") else np.asarray(image)
    return array[:, :, 2::-1] if array.ndim == 3 and array.shape[2] in (3, 4) else array


def _pil_rgb(image: Any) -> NDArray[np.uint8]:
    """A PIL picture as viewers show it, turned as its EXIF data says; alpha is ignored.

    Raises:
        FrameError: its mode has more than eight bits or no known colours, or its file is damaged.
    """
    from PIL import ImageOps

    if image.mode not in PIL_MODES:
        raise FrameError(
            f"a PIL picture of mode {image.mode} cannot be tracked on: scale it to 8 bits and make it L or RGB first"
        )
    try:
        if image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        if image.mode in ("RGBa", "La"):  # colours multiplied by alpha
            image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
        return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise FrameError(f"a PIL picture cannot be read ({error})") from error
