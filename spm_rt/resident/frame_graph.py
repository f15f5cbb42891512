"""A frame's work on the GPU for a fixed number of targets: crop, network, proposals, fusion and next boxes.

It is recorded as one CUDA graph, and one record of 48 bytes per target comes back. :mod:`spm_rt.resident.single`
follows one target with it, :mod:`spm_rt.resident.multi` several.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..backends.protocol import Template
from ..errors import BackendError
from ..frame.geometry import xyxy_to_xywh
from ..gpu import kernels
from ..gpu.driver import Device, Memory, Prepared, Stream
from ..gpu.kernels import nvrtc
from ..results import TrackResult
from ..settings import ModelSpec, TrackerSettings
from .frame_buffer import FrameBuffer

Boxes = NDArray[np.float64]
SAME = 1e-4
"""Largest difference, in pixels and score, between a captured frame and the same one launched step by step."""


class Networks(Protocol):
    """The three graphs for T targets on fixed device addresses; work goes on ``stream``."""

    device: Device
    stream: Stream
    targets: int
    """T"""
    candidates: int
    """K, proposals per target"""
    addresses: Mapping[str, int]
    """float32: ``crop`` [T, 3, S, S], ``scores`` [T, N], ``boxes`` [T, N, 4], ``proposals`` [T, K, 4],
    ``fine_scores`` [T, K], ``fine_boxes`` [T, K, 4]"""

    def set_template(self, box: NDArray[np.float32]) -> None:
        """Take what is in ``crop`` as the template; ``box`` ``[1, 4]`` is the target in crop pixels. For T = 1."""

    def template(self) -> Template:
        """A copy of what ``set_template`` made, complete when it is returned."""

    def put_template(self, slot: int, template: Template) -> None:
        """Make a template of networks for one target that of ``slot``; complete when it returns."""

    def search(self) -> None:
        """``crop`` -> ``scores``, ``boxes``."""

    def relate(self) -> None:
        """``proposals`` -> ``fine_scores``, ``fine_boxes``."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record work as a graph; what it gives launches it. A BackendError where that cannot be done."""


class FrameGraph:
    """Places for as many targets as the networks are for. Boxes are given and returned with every frame.

    Args:
        networks: for these places alone.
        spec, settings: of the bundle.
        graphs: record a CUDA graph after the first frame.

    Raises:
        BackendError: more anchors than the kernels have room for; other numbers of proposals; no compiler for the
            kernels; the driver's complaints.
    """

    def __init__(self, networks: Networks, spec: ModelSpec, settings: TrackerSettings, *, graphs: bool = True) -> None:
        targets, count = networks.targets, settings.num_candidates
        if networks.candidates != count:
            raise BackendError(f"the settings ask for {count} proposals; these networks are for {networks.candidates}")
        self.networks, self.stream, self.targets, self.graphs = networks, networks.stream, targets, graphs
        self.buffer: FrameBuffer | None = None
        self._spec, self._settings = spec, settings
        device = networks.device
        self._module = device.module(nvrtc.compiled("frame", f"sm_{device.capability}"))
        self._states = device.pinned((targets,), kernels.STATE)
        self._results = device.pinned((targets,), kernels.RESULT)
        sizes = {"states": kernels.STATE.itemsize, "results": kernels.RESULT.itemsize, "counts": 4}
        sizes |= {"indices": 4 * count, "frame_boxes": 16 * count, "coarse_scores": 4 * count}
        self._memory: dict[str, Memory] = {name: device.memory(size * targets) for name, size in sizes.items()}
        self._memory["settings"] = device.memory(kernels.SETTINGS.itemsize)
        record = device.pinned((1,), kernels.SETTINGS)
        record[:] = kernels.settings_record(spec, settings)
        self.stream.upload(record, self._at("settings"))
        self.stream.wait()
        self._given: Boxes = np.zeros((targets, 4))
        self._there: Boxes | None = None
        """The boxes in the device's states; None: not known."""
        self._steps: list[Callable[[], None]] = []
        self._launch: Callable[[], None] | None = None

    def prepare(self, buffer: FrameBuffer) -> None:
        """Work on the frames of this place from now on. A graph made for another one is forgotten."""
        size, at, t = self._spec.crop_size, self.networks.addresses, self.targets
        states, settings = self._at("states"), self._at("settings")
        shape = (*buffer.arguments, ctypes.c_int(size))
        picture = (at["scores"], at["boxes"], states, settings)
        chosen = (at["proposals"], self._at("frame_boxes"), self._at("coarse_scores"))
        frame_size = tuple(ctypes.c_int(n) for n in buffer.shape[:2])
        fused = (
            self._at("counts"),
            self._at("coarse_scores"),
            at["proposals"],
            self._at("frame_boxes"),
            at["fine_scores"],
            at["fine_boxes"],
            *frame_size,
            settings,
            states,
            self._at("results"),
        )
        steps = [
            self._kernel(kernels.begin_launch(t), (states, settings)),
            self._kernel(kernels.sum_launch(t), (*shape, states)),
            self._kernel(kernels.crop_launch(size, targets=t), (*shape, states, at["crop"])),
            self.networks.search,
            self._kernel(kernels.select_launch(t), (*picture, self._at("indices"), self._at("counts"), *chosen)),
        ]
        if self._settings.mode != "coarse":
            steps.append(self.networks.relate)
        self._steps = [*steps, self._kernel(kernels.fuse_launch(t), fused)]
        self.buffer, self._launch = buffer, None

    def crop(self, boxes: Boxes) -> None:
        """Only the crops around ``boxes`` ``[T, 4]``, and wait for them."""
        self._place(boxes)
        for step in self._steps[:3]:  # region, mean, crop
            step()
        self.stream.wait()

    def begin(self, boxes: Boxes) -> None:
        """Put a frame's work on the stream.

        Args:
            boxes: ``[T, 4]``, the last boxes as x1, y1, x2, y2 in frame pixels; zeros where there is no target.
        """
        self._place(boxes)
        self._given, self._there = boxes.copy(), None
        (self._launch or self._work)()

    def end(self) -> NDArray[Any]:
        """Wait for it: records ``[T]`` (:data:`spm_rt.gpu.kernels.RESULT`), valid until the next frame's begin."""
        self.stream.wait()
        if self._launch is None and self.graphs:
            self._capture()
        self._there = self._results["box"].copy()
        return self._results

    def put_template(self, slot: int, template: Template) -> None:
        self.networks.put_template(slot, template)

    def _at(self, name: str) -> int:
        return self._memory[name].address

    def _place(self, boxes: Boxes) -> None:
        """Let the device's boxes be these; mostly they are, since it has put them there itself."""
        if self._there is not None and np.array_equal(self._there, boxes):
            return
        self._states["box"] = boxes
        self.stream.upload(self._states, self._at("states"))
        self.stream.wait()
        self._there = boxes.copy()

    def _kernel(self, launch: kernels.Launch, arguments: Sequence[Any]) -> Callable[[], None]:
        prepared: Prepared = self._module.prepare(launch, arguments)
        handle = self.stream.handle
        return lambda: prepared(handle)

    def _work(self) -> None:
        """A whole frame from the staged picture to the results in host memory, put on the stream."""
        for step in self._steps:
            step()
        self.stream.download(self._at("results"), self._results)

    def _capture(self) -> None:
        """Record the frame's work, do it again from the last boxes, and keep the graph if it gives the same."""
        wanted = self._results.copy()
        try:
            launch = self.networks.capture(self._work)
            self._place(self._given)
            launch()
            self.stream.wait()
            if _close(self._results, wanted):
                self._launch = launch
                return
            why = "the captured frame differs from the one launched step by step"
        except BackendError as error:
            why = str(error)
        self.graphs = False
        warnings.warn(f"CUDA graphs are not used: {why}", RuntimeWarning, stacklevel=4)
        self._results[:] = wanted
        self._there = None
        self._place(wanted["box"])


def track_result(record: Any, settings: TrackerSettings) -> TrackResult:
    """What a caller sees of one of :meth:`FrameGraph.end`'s records."""
    score = float(record["score"])
    coarse, fine = float(record["coarse_score"]), float(record["fine_score"])
    return TrackResult(xyxy_to_xywh(record["box"]), score, score >= settings.found_threshold, coarse, fine)


def _close(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two frames' records are the same, but for the last digits."""
    fields = ("box", "score", "coarse_score", "fine_score")
    near = all(np.allclose(a[name], b[name], rtol=0, atol=SAME, equal_nan=True) for name in fields)
    return near and bool((a["chosen"] == b["chosen"]).all())
