"""Videos that were just written: whether they can be read to their end, and MP4 as browsers like it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2

from ..media.pyav import import_pyav


def count_frames(path: Path) -> int:
    """Frames of a video that can be read.

    With PyAV the packets are counted and the last ones decoded; what cannot be decoded there is counted frame by frame.
    """
    try:
        av = import_pyav()
    except ImportError:
        return _count_by_opencv(path)
    try:
        stamps = []
        with av.open(os.fspath(path)) as container:
            stream = container.streams.video[0]
            stamps = [packet.pts for packet in container.demux(stream) if packet.size]
        if not stamps:
            return 0
        last = max(stamp for stamp in stamps if stamp is not None)
        with av.open(os.fspath(path)) as container:
            container.seek(last, stream=container.streams.video[0])
            decoded = [frame.pts for frame in container.decode(video=0)]
        if decoded and decoded[-1] == last:
            return len(stamps)
    except (av.error.FFmpegError, OSError, ValueError, IndexError):
        pass
    return _count_by_decoding(path)


def _count_by_decoding(path: Path) -> int:
    av = import_pyav()
    count = 0
    try:
        with av.open(os.fspath(path)) as container:
            for _ in container.decode(video=0):
                count += 1
    except (av.error.FFmpegError, OSError, ValueError, IndexError):
        pass
    return count


def _count_by_opencv(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return count


def put_index_in_front(fragmented: Path, into: Path) -> None:
    """Copy an MP4 file in fragments into one with a single index, in front of the frames.

    Raises:
        OSError: disk full and the like.
    """
    av = import_pyav()
    try:
        with av.open(os.fspath(fragmented)) as source:
            options = {"movflags": "faststart"}
            with av.open(os.fspath(into), "w", format="mp4", options=options) as target:
                stream = source.streams.video[0]
                copied: Any = target.add_stream_from_template(stream)
                for packet in source.demux(stream):
                    if packet.size:
                        packet.stream = copied
                        target.mux(packet)
    except (av.error.FFmpegError, ValueError) as error:
        raise OSError(0, getattr(error, "strerror", None) or str(error)) from error
