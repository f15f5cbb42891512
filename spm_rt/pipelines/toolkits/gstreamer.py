"""The element ``spmtrack`` for GStreamer: follows one object in raw video, and writes where it is on every buffer.

GStreamer's loader of Python elements takes it from a file like examples/spmtrack.py. It needs PyGObject and its
additions for GStreamer (Debian: python3-gst-1.0), which belong to the system's Python.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any

# GStreamer brings libunwind, which has the functions of C++ exceptions too; a library that takes some of them from
# there and some from GCC's ends the process at its first exception, as OpenVINO does. GCC's are to be found first.
with contextlib.suppress(OSError):
    ctypes.CDLL("libgcc_s.so.1", mode=ctypes.RTLD_GLOBAL)

import gi
import numpy as np
from numpy.typing import NDArray

gi.require_version("Gst", "1.0")
gi.require_version("GstBase", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, GObject, Gst, GstBase, GstVideo  # noqa: E402

from ...errors import BoxError, SpmError  # noqa: E402
from ...results import TRACKED, Box, TrackResult  # noqa: E402
from ...trackers.single import Tracker  # noqa: E402

Gst.init(None)
NAME = "spmtrack"
"""Of the element, its messages, and the parameters of its metas."""
_CAPS = Gst.Caps.from_string("video/x-raw,format={BGR,BGRx,BGRA,GRAY8}")


def _template(name: str, direction: Any) -> Any:
    return Gst.PadTemplate.new(name, direction, Gst.PadPresence.ALWAYS, _CAPS)


def _number(blurb: str) -> Any:
    return GObject.Property(type=float, default=0.0, minimum=0.0, maximum=1e6, blurb=blurb)


class SpmTrack(GstBase.BaseTransform):  # type: ignore[misc]
    """Adds a region-of-interest meta to each buffer, and posts an element message for it.

    The first buffer starts the tracker on the box of the properties ``object-initial-x``, ``-y``, ``-width`` and
    ``-height``, which are called as those of OpenCV's ``cvtracker``. The meta has whole pixels, cut at the frame's
    edges, and a parameter ``spmtrack`` that elements which convert the video do not pass on. The message, ``spmtrack``
    too, has the same fields: ``x``, ``y``, ``width``, ``height``, ``score`` (double), ``found`` (boolean), ``state``
    (string); and ``pts`` (nanoseconds, uint64). On the first buffer, the score is 1. What cannot be tracked on ends the
    stream with an error.
    """

    __gtype_name__ = "SpmTrack"
    __gstmetadata__ = ("SPM-Tracker", "Filter/Analyzer/Video", "Follows one object through a video", "spm_rt")
    __gsttemplates__ = (_template("sink", Gst.PadDirection.SINK), _template("src", Gst.PadDirection.SRC))

    bundle = GObject.Property(type=str, default="spm_alexnet", blurb="what spm-export wrote")
    backend = GObject.Property(type=str, default="auto", blurb="inference library")
    threads = GObject.Property(type=int, default=0, minimum=0, maximum=1024, blurb="per inference call; 0: all cores")
    label = GObject.Property(type=str, default="object", blurb="type of the regions of interest")
    object_initial_x = _number("left edge of the object in the first buffer, pixels")
    object_initial_y = _number("upper edge")
    object_initial_width = _number("width")
    object_initial_height = _number("height")

    def __init__(self) -> None:
        super().__init__()
        self._tracker: Tracker | None = None
        self._started = False
        self._info: Any = None

    def do_start(self) -> bool:
        """Load the bundle."""
        self._started = False
        try:
            self._tracker = Tracker.load(self.bundle, self.backend, threads=self.threads or None)
        except SpmError as error:
            self._refuse(error)
        return self._tracker is not None

    def do_stop(self) -> bool:
        """Give the tracker's memory back."""
        if self._tracker is not None:
            self._tracker.close()
            self._tracker = None
        return True

    def do_set_caps(self, incaps: Any, outcaps: Any) -> bool:
        """Keep how pixels lie in a buffer that does not say it."""
        self._info = GstVideo.VideoInfo.new_from_caps(incaps)
        return True

    def do_transform_ip(self, buffer: Any) -> Any:
        """Track on a buffer, which gets its meta."""
        assert self._tracker is not None
        try:
            with buffer.map(Gst.MapFlags.READ) as mapped:
                box, result = self._track(_pixels(mapped.data, self._info, buffer), self._tracker)
        except SpmError as error:
            self._refuse(error)
            return Gst.FlowReturn.ERROR
        left, right = (round(min(max(edge, 0), self._info.width)) for edge in (box[0], box[0] + box[2]))
        top, bottom = (round(min(max(edge, 0), self._info.height)) for edge in (box[1], box[1] + box[3]))
        meta = GstVideo.buffer_add_video_region_of_interest_meta(
            buffer, self.label, left, top, right - left, bottom - top
        )
        meta.add_param(_fields(box, result))
        said = _fields(box, result)
        said.set_value("pts", GObject.Value(GObject.TYPE_UINT64, buffer.pts))
        self.post_message(Gst.Message.new_element(self, said))
        return Gst.FlowReturn.OK

    def _track(self, frame: NDArray[np.uint8], tracker: Tracker) -> tuple[Box, TrackResult | None]:
        if self._started:
            result = tracker.update(frame)
            return result.box, result
        properties = (getattr(self, f"object_initial_{name}") for name in ("x", "y", "width", "height"))
        x, y, width, height = (float(value) for value in properties)
        if not width and not height:
            raise BoxError("no box to start on: set object-initial-x, -y, -width and -height")
        tracker.init(frame, (x, y, width, height))
        self._started = True
        return (x, y, width, height), None

    def _refuse(self, error: SpmError) -> None:
        reason = GLib.Error.new_literal(Gst.StreamError.quark(), str(error), Gst.StreamError.FAILED)
        self.post_message(Gst.Message.new_error(self, reason, type(error).__name__))


def _pixels(data: Any, info: Any, buffer: Any) -> NDArray[np.uint8]:
    """The frame in a mapped buffer, ``[height, width(, channels)]``; rows may have bytes behind their last pixel."""
    meta = GstVideo.buffer_get_video_meta(buffer) or info
    offset, stride, channels = meta.offset[0], meta.stride[0], info.finfo.pixel_stride[0]
    shape, strides = (info.height, info.width, channels), (stride, channels, 1)
    frame = np.ndarray(shape, np.uint8, data, offset, strides)
    return frame[:, :, 0] if channels == 1 else frame


def _fields(box: Box, result: TrackResult | None) -> Any:
    structure = Gst.Structure.new_empty(NAME)
    for name, value in zip(("x", "y", "width", "height"), box, strict=True):
        structure.set_value(name, float(value))
    structure.set_value("score", float(result.score) if result else 1.0)
    structure.set_value("found", bool(result.found) if result else True)
    structure.set_value("state", result.state if result else TRACKED)
    return structure
