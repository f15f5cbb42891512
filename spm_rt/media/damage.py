"""What tells that something of a video is missing where its decoder says nothing."""

from __future__ import annotations

import statistics
from collections import deque
from typing import Any

_ZEROS = {"h264": 16, "hevc": 16, "gif": 1024}
"""Zero bytes in a row that a codec never writes: a disk or a network left them."""
_HOLE = 256
"""Bytes between two packets of a container that are more than its own headers."""
_NEAR = 48
"""Packets between a damaged spot and the frame that comes out behind it: reordered, and kept back by threads."""
_LONGEST_GAP = 10.0
"""Seconds between two frames that may be frames that are missing; what is longer is another recording."""
_STATES_ITS_LENGTH = {"matroska", "webm", "flv", "asf"}
"""Containers with their length in a header. In others FFmpeg derives it from what is there, or they have an index."""
_BYTE_EXACT = {"matroska", "webm", "flv"}
"""Containers whose packets lie one behind the other, with a few bytes between them."""


class Evidence:
    """Looks at every packet and every frame of a video.

    Attributes:
        damaged: whether anything was found.
        restarts: places where the time stamps start anew.
        kinds: FFmpeg's names of the container.
        in_segments: it is a list of files, at the beginning of each of which FFmpeg takes the packet counts that start
            anew for a loss.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self.damaged, self.restarts = False, 0
        self.kinds = set(container.format.name.split(","))
        self.in_segments = "hls" in self.kinds
        self._stream = stream
        self._zeros = bytes(_ZEROS.get(stream.codec_context.name, 0))
        self._length = (container.duration or 0) / 1e6 if self.kinds & _STATES_ITS_LENGTH else 0.0
        self._packets, self._spot = 0, -_NEAR
        self._next_byte: int | None = None
        self._end = 0.0
        self._last_byte = b""
        self._waiting = 0
        self._corrupt = self._regular = self._irregular = self._left_out = 0
        self._steps: deque[float] = deque(maxlen=_NEAR)

    def see_error(self) -> None:
        """The container or the decoder met something that it cannot read."""
        self.damaged, self._spot = True, self._packets

    def see_packet(self, packet: Any) -> None:
        """A packet of any stream."""
        self._packets += 1
        if packet.pos is not None and self.kinds & _BYTE_EXACT:
            if self._next_byte is not None and packet.pos - self._next_byte > _HOLE:
                self._spot = self._packets
            self._next_byte = packet.pos + packet.size
        if "gif" in self.kinds:
            self._last_byte = bytes(packet)[-1:]
        if packet.is_corrupt and not self.in_segments:
            self._spot = self._packets
        if packet.stream == self._stream:
            self._see_corruption(packet)
        if self._zeros and packet.stream == self._stream and self._zeros in bytes(packet):
            self.see_error()
        if packet.pts is not None and packet.time_base:
            self._end = max(self._end, float((packet.pts + (packet.duration or 0)) * packet.time_base))

    def _see_corruption(self, packet: Any) -> None:
        """Count packets of the video that are not whole, but for the last ones before a key frame: segments of one
        recording were joined there, whose packet counts start anew.
        """
        if packet.is_keyframe:
            self._waiting = 0
        elif self._waiting:
            self._waiting -= 1
            self._corrupt += self._waiting == 0
        if packet.is_corrupt and not self.in_segments:
            self._corrupt += bool(self._waiting or packet.is_keyframe)
            self._waiting = 0 if packet.is_keyframe else 2

    def see_step(self, seconds: float) -> int:
        """Time from a frame to the next; returns how many frames are missing between them, by a damaged spot."""
        usual = statistics.median(self._steps) if self._steps else seconds
        self._steps.append(seconds)
        missing = max(round(seconds / usual) - 1, 0) if seconds < _LONGEST_GAP else 0
        if self._packets - self._spot < _NEAR:
            return missing
        self._regular, self._irregular = self._regular + (missing == 0), self._irregular + (missing > 0)
        self._left_out += missing
        return 0

    def at_the_end(self) -> list[str]:
        """What is to be said when the last packet was read."""
        # A packet on either side of a place where two streams were joined is no damage.
        self.damaged |= self._corrupt + (self._waiting > 0) > 2 * self.restarts
        usual = statistics.median(self._steps) if self._steps else 0.0
        notes = []
        if usual and self._length - self._end > 2 * usual:
            notes.append(f"it ends at {self._end:.2f} s of the {self._length:.2f} s that it states")
        if "gif" in self.kinds and self._last_byte != b";":
            notes.append("its last picture is cut off")
        self.damaged |= bool(notes)
        if not self.damaged and self._left_out and self._regular > 9 * self._irregular:
            notes.append(f"its time stamps leave room for about {self._left_out} more frames")
        return notes


def stated_frames(container: Any, stream: Any) -> int:
    """Frames that the container states, by its index if it has one; 0 where it does not say."""
    entries = stream.index_entries
    if "mov" in container.format.name:
        return sum(not entry.is_discard for entry in entries)
    # An AVI that was cut off has lost its index, which is at its end.
    return len(entries) if container.format.name == "avi" and len(entries) > 1 else int(stream.frames)
