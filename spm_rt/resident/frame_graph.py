"""A frame's work on the GPU for a fixed number of targets: crop, network, proposals, fusion and next boxes.

It is recorded as one CUDA graph, and one record of 184 bytes per target comes back. :mod:`spm_rt.resident.single`
follows one target with it, :mod:`spm_rt.resident.multi` several.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.protocol import Networks
from ..errors import BackendError
from ..frame.fusion import AS_DETECTED, Extent, Rivals, extent_of
from ..frame.geometry import search_region, to_crop
from ..frame.steps import make_result
from ..frame.switches import SwitchWatch
from ..gpu import kernels
from ..gpu.capture import CapturedWork
from ..gpu.device_frames import DeviceFrame
from ..gpu.driver import Memory, Prepared
from ..gpu.kernels import nvrtc
from ..results import TrackResult
from ..settings import ModelSpec, TrackerSettings
from .frame_buffer import FrameBuffer

Boxes = NDArray[np.float64]


class FrameGraph:
    """Slots for as many targets as the networks are for. Boxes are given and returned with every frame.

    Args:
        networks: for this graph alone.
        spec, settings: of the bundle.
        graphs: record a CUDA graph after the first frame.

    Attributes:
        graphs: whether graphs are used; False too where one could not be recorded.

    Raises:
        BackendError: more anchors than the kernels have room for; other numbers of proposals; no compiler for the
            kernels; the driver's complaints.
    """

    def __init__(self, networks: Networks, spec: ModelSpec, settings: TrackerSettings, *, graphs: bool = True) -> None:
        targets, count = networks.targets, settings.num_candidates
        if networks.candidates != count:
            raise BackendError(f"the settings ask for {count} proposals; these networks are for {networks.candidates}")
        self.networks, self.stream, self.targets, self.graphs = networks, networks.stream, targets, graphs
        self.put_template = networks.put_template
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
        self.stream.upload(record, self._memory["settings"].address)
        self.stream.wait()
        self._boxes: Boxes = np.zeros((targets, 8))
        """The last boxes and the extents of the frame that was begun last."""
        self._known: Boxes | None = None
        """Those in the device's states; None: not known."""
        self._steps: list[Callable[[], None]] = []
        self._frame: CapturedWork | None = None

    def prepare(self, buffer: FrameBuffer) -> None:
        """Work on the frames of this buffer from now on. A graph recorded for another one is forgotten."""
        if self.buffer is buffer:
            return
        size, networks, t = self._spec.crop_size, self.networks.addresses, self.targets
        form = self.networks.input_form
        own = {name: memory.address for name, memory in self._memory.items()}
        states, settings = own["states"], own["settings"]
        shape = (*buffer.arguments, ctypes.c_int(size))
        searched = (networks["scores"], networks["boxes"], states, settings, own["indices"], own["counts"])
        selected = (networks["proposals"], own["frame_boxes"], own["coarse_scores"])
        fine = (networks["fine_scores"], networks["fine_boxes"])
        coarse = (own["counts"], own["coarse_scores"], networks["proposals"], own["frame_boxes"])
        frame_size = tuple(ctypes.c_int(n) for n in buffer.shape[:2])
        fused = (*coarse, *fine, *frame_size, settings, states, own["results"])
        steps = [
            self._kernel(kernels.begin_launch(t), (states, settings)),
            self._kernel(kernels.sum_launch(t), (*shape, states)),
            self._kernel(kernels.crop_launch(size, form.data, t), (*shape, states, *form.arguments, networks["crop"])),
            self.networks.search,
            self._kernel(kernels.select_launch(t), (*searched, *selected)),
        ]
        if self._settings.mode != "coarse":
            steps.append(self.networks.relate)
        self._steps = [*steps, self._kernel(kernels.fuse_launch(t), fused)]
        outputs = {name: self._results[name] for name in kernels.RESULT.names or ()}
        self._frame = CapturedWork(
            self._work, self.networks.capture, self.stream.wait, outputs, self, rewind=self._rewind, relative=False
        )
        self.buffer = buffer

    def make_template(self, frame: DeviceFrame, buffer: FrameBuffer, box: NDArray[np.float64]) -> Extent:
        """Let the networks, for one target, take their template from a frame: the target in ``box`` ``[4]``.

        Returns:
            The target's extent.
        """
        self.prepare(buffer)
        buffer.bring(frame, self.stream)
        self._place(np.append(box, np.zeros(4))[None])
        for step in self._steps[:3]:  # region, mean, crop
            step()
        self.stream.wait()
        self.networks.set_template(to_crop(box, search_region(box, self._spec))[None])
        if not self._settings.extent_correction:
            return AS_DETECTED
        for step in self._steps[3:]:
            step()
        self.stream.download(self._memory["results"].address, self._results)
        self.stream.wait()
        self._known = None
        return extent_of(box, self._results["box"][0], self._settings.extent_correction)

    def begin(self, boxes: Boxes) -> None:
        """Put a frame's work on the stream.

        Args:
            boxes: ``[T, 8]``, the last boxes as x1, y1, x2, y2 in frame pixels, and the targets' extents; zeros where
                there is no target.
        """
        assert self._frame is not None, "prepare comes first"
        self._place(boxes)
        self._boxes, self._known = boxes.copy(), None
        self._frame.begin()

    def end(self) -> NDArray[Any]:
        """Wait for it: records ``[T]`` (:data:`spm_rt.gpu.kernels.RESULT`), valid until the next frame's begin."""
        assert self._frame is not None, "prepare comes first"
        self._frame.end()
        self._known = self._boxes.copy()
        self._known[:, :4] = self._results["box"]
        return self._results

    def _place(self, boxes: Boxes) -> None:
        """Let the device's boxes and extents be these; mostly they are, since it has put the boxes there itself."""
        if self._known is not None and np.array_equal(self._known, boxes):
            return
        self._states["box"], self._states["extent"] = boxes[:, :4], boxes[:, 4:]
        self.stream.upload(self._states, self._memory["states"].address)
        self.stream.wait()
        self._known = boxes.copy()

    def _rewind(self) -> None:
        """The last boxes once more: a frame's work replaces them."""
        self._known = None
        self._place(self._boxes)
        self._known = None

    def _kernel(self, launch: kernels.Launch, arguments: Sequence[Any]) -> Callable[[], None]:
        prepared: Prepared = self._module.prepare(launch, arguments)
        handle = self.stream.handle
        return lambda: prepared(handle)

    def _work(self) -> None:
        """A whole frame from the staged picture to the results in host memory, put on the stream."""
        for step in self._steps:
            step()
        self.stream.download(self._memory["results"].address, self._results)


def track_result(record: Any, settings: TrackerSettings, extent: Extent, watch: SwitchWatch | None) -> TrackResult:
    """What a caller sees of one of :meth:`FrameGraph.end`'s records; the target's watch goes on by this frame."""
    scores = float(record["score"]), float(record["coarse_score"]), float(record["fine_score"])
    rivals = Rivals(float(record["rival_score"]), record["rivals"][: record["rival_count"]])
    return make_result(record["box"], scores, rivals, extent, settings, watch)
