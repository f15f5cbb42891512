"""Films of a second that carry the number of each frame in their pixels, in whatever codec and container PyAV writes.

A test can so ask which frames arrived, in which order, not only how many.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (160, 120)  # width, height
COUNT = 24
RATE = 24
_BITS = 6
Picture = NDArray[np.uint8]


def numbered(number: int, size: tuple[int, int] = SIZE) -> Picture:
    """A BGR picture with ``number`` as a row of black and white squares, on a ramp that goes from top left down."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    picture = np.stack([60 + x * 60 // width, 80 + y * 60 // height, 90 + (x + y) * 30 // (width + height)], axis=2)
    side = width // (_BITS + 2)
    for bit in range(_BITS):
        left = side * (bit + 1)
        picture[height // 4 : height // 4 + side, left : left + side] = 235 if number >> bit & 1 else 16
    return picture.astype(np.uint8)


def number_of(picture: Picture) -> int:
    """The number that :func:`numbered` drew."""
    height, width = picture.shape[:2]
    side = width // (_BITS + 2)
    rows = slice(height // 4 + side // 4, height // 4 + 3 * side // 4)
    columns = [slice(side * (bit + 1) + side // 4, side * (bit + 1) + 3 * side // 4) for bit in range(_BITS)]
    return sum(1 << bit for bit, column in enumerate(columns) if picture[rows, column].mean() > 126)


def plain_film(path: Path, pictures: Iterable[Picture], rate: float = 25, codec: str = "MJPG") -> Path:
    """Pictures as a film that OpenCV writes."""
    first, *others = pictures
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, first.shape[1::-1])
    for picture in (first, *others):
        writer.write(picture)
    writer.release()
    return path


def write_film(
    path: Path,
    codec: str = "libx264",
    *,
    numbers: Iterable[int] = range(COUNT),
    stamps: Sequence[int] | None = None,
    size: tuple[int, int] = SIZE,
    pixels: str = "yuv420p",
    rotation: int = 0,
    sound: float = 0.0,
    delay: int = 0,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    form: str | None = None,
) -> Path:
    """A film of numbered frames.

    Args:
        path: its file.
        codec: FFmpeg's name of an encoder.
        numbers: what the frames carry.
        stamps: their times in milliseconds; by default ``RATE`` a second.
        size: width and height.
        pixels: FFmpeg's name of a pixel format.
        rotation: degrees, counter-clockwise, by which a player turns it.
        sound: seconds of silence beside the pictures, as the first stream.
        delay: milliseconds that are taken off all stamps when they are written: those below zero are to be hidden.
        options: of the encoder.
        container: options of the container.
        form: FFmpeg's name of the container where the file's suffix does not say it.
    """
    import av

    with _same_priority(), av.open(str(path), "w", format=form, container_options=container or {}) as film:
        # All streams before the first packet: FFmpeg aborts otherwise.
        audio = film.add_stream("pcm_s16le", rate=8000, layout="mono") if sound else None
        stream: Any = film.add_stream(codec, rate=RATE, options={**_DEFAULTS.get(codec, {}), **(options or {})})
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = Fraction(1, 1000) if stamps else Fraction(1, RATE)
        stream.codec_context.gop_size = 8
        if codec in ("libx264", "mpeg4"):
            # As many threads on every machine: what these two encode depends on their number.
            stream.codec_context.thread_count = 3
        if rotation:
            stream.set_display_rotation(rotation)
        if audio:
            film.mux(_silence(audio, sound))
        for index, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(numbered(number, size), format="bgr24").reformat(format=pixels)
            frame.pts, frame.time_base = stamps[index] if stamps else index, stream.codec_context.time_base
            _write(film, stream.encode(frame), delay)
        _write(film, stream.encode(None), delay)
    return path


@contextlib.contextmanager
def _same_priority() -> Iterator[None]:
    """SVT-AV1 makes the thread that calls it a real-time one if it may: what a test then started kept it waiting."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


_DEFAULTS = {
    "libx264": {"preset": "ultrafast", "bf": "2", "crf": "18"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:crf=18"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "b": "1M"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "b": "1M"},
    "libsvtav1": {"preset": "12", "crf": "25"},
    "mpeg4": {"b": "2M"},
    "mjpeg": {"qmin": "2", "qmax": "2"},
}


def _write(film: Any, packets: Iterable[Any], delay: int) -> None:
    for packet in packets:
        if delay:
            shift = int(Fraction(delay, 1000) / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        film.mux(packet)


def _silence(stream: Any, seconds: float) -> list[Any]:
    """Packets of silence."""
    import av

    frame = av.AudioFrame.from_ndarray(np.zeros((1, int(8000 * seconds)), np.int16), format="s16", layout="mono")
    frame.sample_rate = 8000
    return [*stream.encode(frame), *stream.encode(None)]
