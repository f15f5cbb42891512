"""From a frame and a region to the network's input: the only code that touches pixels.

A crop is what the release computes (docs/notes/model.md, "Crop"): one bilinear sample per crop pixel, the first and
last samples exactly on the region's edges, and everything that lies outside the frame is this frame's mean colour,
decided sample by sample. :func:`crop_exact` follows the release's float32 arithmetic step by step; :func:`crop_into` is
the fast form: the same bits where the C module was built and the frame is uint8, else OpenCV's ``remap``, which agrees
to 0.0001 grey levels (tests/runtime/frame/test_crop.py).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import FrameError
from .compiled import compiled
from .geometry import Region

_sampling: Any = compiled("_sampling", interface=1)
sample_region: Callable[..., tuple[int, int, int, int] | None] | None = getattr(_sampling, "sample_region", None)
fill_rim: Callable[..., None] | None = getattr(_sampling, "fill_rim", None)
start_sums: Callable[..., object] | None = getattr(_sampling, "start_sums", None)
finish_sums: Callable[..., tuple[int, ...]] | None = getattr(_sampling, "finish_sums", None)

Frame = NDArray[Any]

# Beyond this many frame pixels per crop pixel, gathering the two neighbours of each sample is cheaper than converting
# the whole region to float32 for cv2.remap. (cv2.warpAffine would round positions differently: errors of 0.01.)
_GATHER_FROM = 2.5

# From this many bytes on a frame's sum is worth helping threads, whose start costs up to a tenth of a millisecond; more
# than four threads do not read memory any faster.
_SHARE_FROM = 8_000_000
_MOST_THREADS = 4


def check_frame(frame: object) -> Frame:
    """``frame`` as an array ``[height, width, channels]`` of uint8 or float, or a FrameError that says what is wrong.

    Accepted: uint8 or float (0..255) arrays of shape [h, w], [h, w, 1] (grey), [h, w, 3] (BGR) or [h, w, 4] (BGRA,
    alpha is ignored), of any memory layout, at least 2 x 2 pixels. Nothing is copied.
    """
    if not isinstance(frame, np.ndarray):
        raise FrameError(f"a frame is a numpy array, not {type(frame).__name__} (unreadable file or end of video?)")
    if frame.ndim == 2:
        frame = frame[:, :, None]
    if frame.ndim != 3 or frame.shape[2] not in (1, 3, 4):
        raise FrameError(f"frame has shape {frame.shape}; [h, w], [h, w, 1], [h, w, 3] or [h, w, 4] is needed")
    if frame.shape[0] < 2 or frame.shape[1] < 2:
        raise FrameError(f"frame is {frame.shape[1]} x {frame.shape[0]} pixels; at least 2 x 2 is needed")
    if frame.dtype not in (np.uint8, np.float32, np.float64):
        raise FrameError(f"frame has type {frame.dtype}; uint8, or float32 / float64 with values 0..255, is needed")
    return frame


def sample_positions(low: float, high: float, size: int, count: int) -> NDArray[np.float32]:
    """``count`` sample positions from ``low`` to ``high`` along an axis of ``size`` pixels, float32.

    The way through normalised coordinates is the release's: its roundings decide what is still inside the frame.
    """
    last = np.float32(size - 1)
    a, b = np.float32(low) / last, np.float32(high) / last
    step = (b - a) * last / np.float32(count - 1)
    positions: NDArray[np.float32] = _numbers(count) * step
    positions += a * last
    return positions


@functools.lru_cache(maxsize=4)
def _numbers(count: int) -> NDArray[np.float32]:
    return np.arange(count, dtype=np.float32)


def crop_exact(frame: Frame, region: Region, size: int) -> NDArray[np.float32]:
    """The crop as the release computes it: BGR 0..255, float32 ``[3, size, size]``. Slow and readable."""
    height, width = frame.shape[:2]
    x = sample_positions(region.x1, region.x2, width, size)
    y = sample_positions(region.y1, region.y2, height, size)
    inside = ((y >= 0) & (y <= height - 1))[:, None] & ((x >= 0) & (x <= width - 1))[None, :]
    out = _gather(frame, np.clip(x, 0, width - 1), np.clip(y, 0, height - 1))
    _require_finite(frame, out)
    if not inside.all():
        out[~inside] = MeanColor(frame).finite()
    return np.ascontiguousarray(out.transpose(2, 0, 1))


class Scratch:
    """Memory that one tracker's crops reuse: fresh pages cost more than the sampling itself."""

    def __init__(self) -> None:
        self._memory: dict[str, NDArray[np.float32]] = {}

    def array(self, name: str, *shape: int) -> NDArray[np.float32]:
        """An array of that shape in the memory of that name, which grows where it is too small."""
        count, memory = math.prod(shape), self._memory.get(name)
        if memory is None or count > memory.size:
            memory = self._memory[name] = np.empty(count * 3 // 2, np.float32)
        return memory[:count].reshape(shape)


class MeanColor:
    """A frame's mean colour, computed when it is first asked for: several crops of a frame share one.

    The C module shares a large frame out among as many threads as OpenCV may use (``cv2.setNumThreads``), four at most.
    """

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._started: object = None
        self._value: NDArray[np.float32] | None = None

    def start(self) -> None:
        """Let helping threads begin with it, if there are any: it is going to be needed."""
        if start_sums is not None and self._value is None and self._started is None and self._frame.dtype == np.uint8:
            large = self._frame.size >= _SHARE_FROM
            threads = min(max(cv2.getNumThreads(), 1), _MOST_THREADS) if large else 1
            self._started = start_sums(self._frame, threads - 1)

    def value(self) -> NDArray[np.float32]:
        """BGR, float32 ``[3]``."""
        self.start()
        if self._value is None:
            if self._started is not None and finish_sums is not None:
                height, width = self._frame.shape[:2]
                mean = np.array([total / (height * width) for total in finish_sums(self._started)], np.float32)
                self._started = None
            else:
                mean = np.array(cv2.mean(np.ascontiguousarray(self._frame))[: self._frame.shape[2]], np.float32)
            self._value = np.repeat(mean, 3) if len(mean) == 1 else mean[:3]
        return self._value

    def finite(self) -> NDArray[np.float32]:
        """:meth:`value`, or a FrameError if it is not a colour at all."""
        mean = self.value()
        if not np.isfinite(mean).all():
            raise FrameError("the frame has NaN or infinite values: it has no mean colour for what lies outside of it")
        return mean


def crop_into(
    frame: Frame,
    region: Region,
    out: NDArray[np.float32],
    scratch: Scratch | None = None,
    mean: MeanColor | None = None,
) -> None:
    """Write the crop into ``out``, float32 ``[3, size, size]``: the fast form of :func:`crop_exact`.

    Only the pixels under the region are read; the mean colour is computed only if the region leaves the frame.
    ``scratch`` is the caller's to keep from frame to frame; it belongs to one thread. ``mean`` is this frame's.

    Raises:
        FrameError: a float frame has values that are not finite: under the region, or anywhere if its mean is needed.
    """
    height, width = frame.shape[:2]
    mean = mean or MeanColor(frame)
    if sample_region is not None and frame.dtype == np.uint8 and out.strides[2] == out.itemsize:
        if region.x1 < 0 or region.y1 < 0 or region.x2 > width - 1 or region.y2 > height - 1:
            mean.start()
        part = sample_region(frame, region.x1, region.y1, region.x2, region.y2, out)
        if part is not None and fill_rim is not None:
            fill_rim(out, part, mean.value().tolist())
        return
    size = out.shape[-1]
    x = sample_positions(region.x1, region.x2, width, size)
    y = sample_positions(region.y1, region.y2, height, size)
    left, right = _inside_range(x, width)
    top, bottom = _inside_range(y, height)
    if left < right and top < bottom:
        _sample(frame, x[left:right], y[top:bottom], out[:, top:bottom, left:right], scratch)
    if right - left < size or bottom - top < size:
        color = mean.finite()[:, None, None]
        for rim in (out[:, :top], out[:, bottom:], out[:, top:bottom, :left], out[:, top:bottom, right:]):
            rim[:] = color


def _sample(
    frame: Frame,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    out: NDArray[np.float32],
    scratch: Scratch | None,
) -> None:
    """Samples at ``x`` and ``y``, all on the frame, into ``out``, float32 ``[3, len(y), len(x)]``."""
    if max(float(x[-1] - x[0]) / max(len(x) - 1, 1), float(y[-1] - y[0]) / max(len(y) - 1, 1)) > _GATHER_FROM:
        pixels = _gather(frame, x, y)
    else:
        pixels = _remap(frame, x, y, scratch or Scratch())
    _require_finite(frame, pixels)
    if out.flags.c_contiguous:
        cv2.split(pixels, [out[0], out[1], out[2]])
    else:
        out[:] = pixels.transpose(2, 0, 1)


def _inside_range(positions: NDArray[np.float32], size: int) -> tuple[int, int]:
    """First and one past the last of the ascending positions that lie within 0..size - 1."""
    if positions[0] >= 0 and positions[-1] <= size - 1:
        return 0, len(positions)
    return int(np.searchsorted(positions, 0.0)), int(np.searchsorted(positions, np.float32(size - 1), side="right"))


def _remap(frame: Frame, x: NDArray[np.float32], y: NDArray[np.float32], scratch: Scratch) -> NDArray[np.float32]:
    """Bilinear samples at the grid of positions ``x`` and ``y``, all inside the frame: ``[y, x, 3]``."""
    x0, y0 = int(x[0]), int(y[0])
    region = frame[y0 : int(y[-1]) + 2, x0 : int(x[-1]) + 2]
    pixels = scratch.array("pixels", *region.shape[:2], 3)
    # One grey channel spreads over three; a fourth channel stays behind.
    np.copyto(pixels, region[:, :, :3], casting="same_kind")
    map_x, map_y = (scratch.array(name, len(y), len(x)) for name in ("map_x", "map_y"))
    np.copyto(map_x, x - np.float32(x0))
    np.copyto(map_y, (y - np.float32(y0))[:, None])
    # The replicated border keeps samples exactly on the last row and column what they are.
    samples = scratch.array("samples", *map_x.shape, 3)
    cv2.remap(pixels, map_x, map_y, cv2.INTER_LINEAR, dst=samples, borderMode=cv2.BORDER_REPLICATE)
    return samples


def _gather(frame: Frame, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same as :func:`_remap`, reading only the neighbours of each sample."""
    x0, y0 = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    x1, y1 = np.ceil(x).astype(np.intp), np.ceil(y).astype(np.intp)
    fx, fy = (x - x0).astype(np.float32)[None, :, None], (y - y0).astype(np.float32)[:, None, None]

    def row(index: NDArray[np.intp]) -> NDArray[np.float32]:
        line = frame[index]
        start = line[:, x0].astype(np.float32)
        return start + (line[:, x1].astype(np.float32) - start) * fx

    with np.errstate(invalid="ignore"):  # infinities of a float frame: what comes out is refused by the caller
        upper = row(y0)
        return _bgr(upper + (row(y1) - upper) * fy)


def _bgr(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Three channels from one, three or four."""
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, :3])


def _require_finite(frame: Frame, pixels: NDArray[np.float32]) -> None:
    if frame.dtype != np.uint8 and not np.isfinite(pixels).all():
        raise FrameError("the frame has NaN or infinite values near the target")
