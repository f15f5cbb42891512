"""Pictures from PyAV's frames, in memory that is used again."""

from __future__ import annotations

from typing import Any

import numpy as np

from .protocol import Picture

_MOST_KEPT = (32 << 20) - (8 << 10)
"""Bytes of the largest block whose memory glibc keeps when it is freed."""


class Converter:
    """Makes BGR pictures of PyAV's frames, turned upright as the video's display matrix says.

    Colors are those that the frame states (matrix and range; BT.601 and studio range where it does not), and the
    scaler is the one that OpenCV uses: the pixels are the same.
    """

    def __init__(self, av: Any) -> None:
        self._scaler = av.video.reformatter.VideoReformatter()  # frame.reformat would make one for each frame
        self._side_data = av.sidedata.sidedata.SideDataContainer
        # glibc keeps a freed block for the next ones if one as large has been freed before; others it gives back to the
        # system, which clears their pages anew for each frame. FFmpeg's blocks, being aligned, never count as large as
        # the next one, so one is freed here that counts. Nothing is written to it.
        np.empty(_MOST_KEPT, np.uint8)

    def __call__(self, frame: Any) -> Picture:
        """The picture of a frame: the frame's own memory, unless its rows are padded or it is turned."""
        converted = self._scaler.reformat(frame, format="bgr24", interpolation="BICUBIC", threads=1)
        plane, height, width = converted.planes[0], converted.height, converted.width
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, : 3 * width]
        picture: Picture = rows.reshape(height, width, 3)
        # Not frame.side_data: the frame and it would hold each other, until somebody collects garbage.
        matrix = self._side_data(frame).get("DISPLAYMATRIX")
        return np.ascontiguousarray(_upright(picture, matrix))


def _upright(picture: Picture, matrix: Any) -> Picture:
    """A picture turned and mirrored by the quarter turns that are nearest to a display matrix, nine int32 by rows."""
    if matrix is None:
        return picture
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(b) > abs(a):
        picture, a, d = picture.transpose(1, 0, 2), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
