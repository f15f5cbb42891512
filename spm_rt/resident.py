"""A tracker whose frame never leaves the GPU: crop, network, proposals, fusion and the next box are one graph launch.

What comes back per frame is one record of 48 bytes. The kernels (:mod:`spm_rt.kernels`) compute what the steps of
:class:`~spm_rt.tracker.Tracker` compute, which stays the readable reference that this one is tested against; there on a
stand-in for the driver that runs the kernels on the host, since no GPU was at hand (docs/gpu.md).
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import kernels
from .backends.cuda_driver import Device, Memory, Prepared, Stream
from .crop import check_frame
from .device_frames import DeviceFrame, device_frame, is_device_array
from .errors import BackendError, FrameError, NotInitializedError
from .geometry import search_region, to_crop, xyxy_to_xywh
from .kernels import nvrtc
from .settings import ModelSpec, TrackerSettings
from .tracker import Box, TrackResult, check_box

SAME = 1e-4
"""Largest difference, in pixels and score, between a captured frame and the same one launched step by step."""


class Networks(Protocol):
    """The three graphs for one target on fixed device addresses; work goes on ``stream``."""

    device: Device
    stream: Stream
    addresses: Mapping[str, int]
    """float32: ``crop`` [3, S, S], ``scores`` [N], ``boxes`` [N, 4], ``proposals`` [K, 4], ``fine_scores`` [K],
    ``fine_boxes`` [K, 4], with K = ``num_candidates``"""

    def set_template(self, box: NDArray[np.float32]) -> None:
        """Take what is in ``crop`` as the template; ``box`` ``[1, 4]`` is the target in crop pixels."""

    def search(self) -> None:
        """``crop`` -> ``scores``, ``boxes``."""

    def relate(self) -> None:
        """``proposals`` -> ``fine_scores``, ``fine_boxes``."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record work as a graph; what it gives launches it. A BackendError where that cannot be done."""


class ResidentTracker:
    """Follows one object through frames on the GPU, or through host frames that it uploads whole.

    ::

        tracker = ResidentTracker(backend.networks(), bundle.spec, bundle.settings)
        tracker.init(frame, (x, y, width, height))
        result = tracker.update(next_frame)

    Frames are uint8, BGR, BGRA or grey: numpy arrays, or anything with ``__cuda_array_interface__`` on the same GPU.
    ``TrackResult.candidates`` is always None. One tracker belongs to one thread.

    Raises:
        BackendError: more anchors than the kernels have room for; no compiler for the kernels; the driver's complaints.
    """

    def __init__(
        self, networks: Networks, spec: ModelSpec, settings: TrackerSettings, *, graphs: bool = True
    ) -> None:
        self.networks, self.spec, self.settings, self.graphs = networks, spec, settings, graphs
        device, count = networks.device, settings.num_candidates
        self._stream = networks.stream
        self._module = device.module(nvrtc.compiled("frame", f"sm_{device.capability}"))
        self._state_host = device.pinned((1,), kernels.STATE)
        self._result_host = device.pinned((1,), kernels.RESULT)
        sizes = {"state": 96, "settings": 80, "result": 48, "indices": 4 * count, "count": 4}
        sizes |= {"frame_boxes": 16 * count, "coarse_scores": 4 * count}
        self._memory: dict[str, Memory] = {name: device.memory(size) for name, size in sizes.items()}
        record = device.pinned((1,), kernels.SETTINGS)
        record[:] = kernels.settings_record(spec, settings)
        self._stream.upload(record, self._at("settings"))
        self._stream.wait()
        self._box: NDArray[np.float64] | None = None
        self._frame: _Staging | None = None
        self._steps: list[Callable[[], None]] = []
        self._launch: Callable[[], None] | None = None

    @property
    def box(self) -> Box:
        """The last box, ``x, y, width, height``."""
        if self._box is None:
            raise NotInitializedError("no box yet: call init(frame, box) first")
        return xyxy_to_xywh(self._box)

    def init(self, frame: Any, box: Sequence[float]) -> None:
        """Start (again) on a frame; see :meth:`spm_rt.Tracker.init`."""
        given = _facts(frame)
        start = check_box(box, (given.height, given.width))
        staging = self._frame
        if staging is None or staging.shape != (given.height, given.width, given.channels):
            staging = _Staging(self.networks.device, given.height, given.width, given.channels)
            self._prepare(staging)
        self._set_box(start)
        staging.bring(given, self._stream)
        for step in self._steps[:3]:  # region, mean, crop
            step()
        self._stream.wait()
        self.networks.set_template(to_crop(start, search_region(start, self.spec))[None])
        self._box = start

    def update(self, frame: Any) -> TrackResult:
        """Find the target in the next frame; see :meth:`spm_rt.Tracker.update`."""
        if self._box is None or self._frame is None:
            raise NotInitializedError("update before init: call init(frame, box) with the target's first box")
        given = _facts(frame)
        if (given.height, given.width, given.channels) != self._frame.shape:
            was, now = self._frame.shape, (given.height, given.width, given.channels)
            raise FrameError(f"the frame's shape changed from {was} to {now}; call init again")
        self._frame.bring(given, self._stream)
        if self._launch is not None:
            self._launch()
            self._stream.wait()
        else:
            self._work()
            self._stream.wait()
            if self.graphs:
                self._capture(self._box)
        result = self._result_host[0]
        self._box = result["box"].copy()
        score = float(result["score"])
        found = score >= self.settings.found_threshold
        coarse, fine = float(result["coarse_score"]), float(result["fine_score"])
        return TrackResult(xyxy_to_xywh(result["box"]), score, found, coarse, fine)

    def _at(self, name: str) -> int:
        return self._memory[name].address

    def _set_box(self, box: NDArray[np.float64]) -> None:
        self._state_host["box"] = box
        self._stream.upload(self._state_host, self._at("state"))
        self._stream.wait()

    def _prepare(self, staging: _Staging) -> None:
        """The frame's steps for frames of one shape. A graph made for another shape is forgotten."""
        size, at = self.spec.crop_size, self.networks.addresses
        state, settings = self._at("state"), self._at("settings")
        shape = (*staging.arguments, ctypes.c_int(size))
        picture = (at["scores"], at["boxes"], state, settings)
        chosen = (at["proposals"], self._at("frame_boxes"), self._at("coarse_scores"))
        frame_size = tuple(ctypes.c_int(n) for n in staging.shape[:2])
        fused = (self._at("count"), self._at("coarse_scores"), at["proposals"], self._at("frame_boxes"),
                 at["fine_scores"], at["fine_boxes"], *frame_size, settings, state, self._at("result"))
        steps = [
            self._kernel(kernels.begin_launch(), (state, settings)),
            self._kernel(kernels.sum_launch(), (*shape, state)),
            self._kernel(kernels.crop_launch(size), (*shape, state, at["crop"])),
            self.networks.search,
            self._kernel(kernels.select_launch(), (*picture, self._at("indices"), self._at("count"), *chosen)),
        ]
        if self.settings.mode != "coarse":
            steps.append(self.networks.relate)
        self._steps = [*steps, self._kernel(kernels.fuse_launch(), fused)]
        self._frame, self._launch = staging, None

    def _kernel(self, launch: kernels.Launch, arguments: Sequence[Any]) -> Callable[[], None]:
        prepared: Prepared = self._module.prepare(launch, arguments)
        handle = self._stream.handle
        return lambda: prepared(handle)

    def _work(self) -> None:
        """A whole frame from the staged picture to the result in host memory, put on the stream."""
        for step in self._steps:
            step()
        self._stream.download(self._at("result"), self._result_host)

    def _capture(self, last: NDArray[np.float64]) -> None:
        """Record the frame's work, do it again from the last box, and keep the graph if it gives the same."""
        wanted = self._result_host.copy()
        try:
            launch = self.networks.capture(self._work)
            self._set_box(last)
            launch()
            self._stream.wait()
            if _close(self._result_host[0], wanted[0]):
                self._launch = launch
                return
            why = "the captured frame differs from the one launched step by step"
        except BackendError as error:
            why = str(error)
        self.graphs = False
        warnings.warn(f"CUDA graphs are not used: {why}", RuntimeWarning, stacklevel=3)
        self._result_host[:] = wanted
        self._set_box(wanted["box"][0])


class _Staging:
    """Where every frame lies when the graph reads it: a graph's addresses cannot change from frame to frame."""

    def __init__(self, device: Device, height: int, width: int, channels: int) -> None:
        self.shape = (height, width, channels)
        self._memory = device.memory(height * width * channels)
        self._pinned: NDArray[np.uint8] | None = None
        self._device = device
        row = width * channels
        self.arguments = (
            self._memory.address, ctypes.c_longlong(row), ctypes.c_longlong(channels),
            *(ctypes.c_int(n) for n in self.shape),
        )

    def bring(self, given: DeviceFrame, stream: Stream) -> None:
        """Copy a frame here: from the host by way of pinned memory, or on the device."""
        height, width, channels = self.shape
        if isinstance(given.owner, np.ndarray):
            if self._pinned is None:
                self._pinned = self._device.pinned(self.shape, np.uint8)
            np.copyto(self._pinned, given.owner.reshape(self.shape))
            stream.upload(self._pinned, self._memory.address)
            return
        if given.pixel_step != channels:
            raise FrameError("a frame on the GPU must have its pixels side by side (make it contiguous first)")
        if given.stream is not None:
            stream.after(given.stream)
        stream.copy_rows(given.address, given.row_step, self._memory.address, width * channels, height)


def _facts(frame: Any) -> DeviceFrame:
    """A frame's description, of one on the device or of a uint8 one on the host."""
    if is_device_array(frame):
        return device_frame(frame)
    checked = check_frame(frame)
    if checked.dtype != np.uint8:
        raise FrameError(f"frame has type {checked.dtype}; the resident tracker takes uint8")
    height, width, channels = checked.shape
    return DeviceFrame(0, height, width, channels, width * channels, channels, None, checked)


def _close(a: Any, b: Any) -> bool:
    """Whether two results are the same, but for the last digits."""
    fields = ("box", "score", "coarse_score", "fine_score")
    near = all(np.allclose(a[name], b[name], rtol=0, atol=SAME, equal_nan=True) for name in fields)
    return bool(near and a["chosen"] == b["chosen"])
