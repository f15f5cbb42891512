"""The tracker for the VOT toolkit: by its protocol ``python`` (from version 0.9), or by TraX as a program of its own.

In ``trackers.ini``, where what begins with ``arg_`` goes to the class::

    [spm]
    protocol = python
    command = spm_rt.pipelines.toolkits.vot:VotTracker
    convert = rectangle
    arg_bundle = /models/spm_alexnet

    [spm_trax]
    protocol = trax
    command = python -m spm_rt.pipelines.toolkits.vot /models/spm_alexnet
"""

from __future__ import annotations

import sys
from typing import Any

from ...media.pictures import read_picture
from ...results import Box
from ...trackers.single import Tracker


class VotTracker:
    """The toolkit's interface of a tracker in Python; it makes one in a process of its own.

    Args:
        bundle: what ``spm-export`` wrote.
        backend: inference library.
        threads: per inference call; 0: all usable cores.
    """

    multiobject = False

    def __init__(self, bundle: str = "spm_alexnet", backend: str = "auto", threads: str | int = 0) -> None:
        self._tracker = Tracker.load(bundle, backend, threads=int(threads) or None)

    def init(
        self, frame: str, new: tuple[Box, dict[str, Any]], properties: dict[str, Any]
    ) -> tuple[Box, dict[str, float]]:
        """Start on a picture file.

        Args:
            frame: path of the file.
            new: the object's rectangle, ``x, y, width, height``, and its properties.
            properties: of the experiment.

        Returns:
            The rectangle, and a ``confidence`` of 1.
        """
        x, y, width, height = new[0]
        self._tracker.init(read_picture(frame), (x, y, width, height))
        return (x, y, width, height), {"confidence": 1.0}

    def update(self, frame: str) -> tuple[Box, dict[str, float]]:
        """The rectangle in the next picture file, with the score as ``confidence``."""
        result = self._tracker.update(read_picture(frame))
        return result.box, {"confidence": float(result.score)}


def serve(tracker: VotTracker) -> None:
    """Answer the toolkit by TraX on standard input and output until it says that it is done."""
    import trax

    with trax.Server([trax.Region.RECTANGLE], [trax.Image.PATH], tracker_name="spm_rt") as server:
        while (request := server.wait()).type in ("initialize", "frame"):
            frame = request.image["color"].path()
            if request.type == "initialize":
                said, properties = request.objects[0]
                box, about = tracker.init(frame, (said.bounds(), {}), properties)
            else:
                box, about = tracker.update(frame)
            server.status([(trax.Rectangle.create(*box), about)])


if __name__ == "__main__":
    serve(VotTracker(*sys.argv[1:]))
