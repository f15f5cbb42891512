"""Videos and streams, read by PyAV: time stamps, damaged spots and rotation as FFmpeg knows them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

from ..errors import SourceError
from ..files import shown
from ..machine import OneProcess
from .conversion import Converter
from .damage import Evidence, stated_frames
from .protocol import Decoded, check_process
from .pyav import import_pyav

_MOST_ERRORS = 100
"""Errors of a container in a row, without a packet between them, after which nothing more is to be expected."""
_MOST_REORDERED = 16
"""Frames by which a packet may lie behind another one without a new beginning: no codec reorders more."""
_HIGHEST_GUESS = 240
"""Frames per second above which FFmpeg's guess is the resolution of uneven time stamps, no rate."""
_INDEX_AT_ITS_END = (
    "an MP4 or QuickTime video with its index at the end cannot be read from a pipe: give the file's name, or pipe it "
    "as `ffmpeg -i FILE -c copy -f matroska -`"
)


class ContainerReader(OneProcess):
    """The video of a file, a pipe or a URL.

    Args:
        source: a path or URL for FFmpeg, or a binary stream with ``read``.
        name: what messages call it.
        live: frames come at their own pace: each is given out at once.
        timeout: seconds to wait for data; None: as long as it takes.

    Raises:
        SourceError: it cannot be opened, or there is no video in it.
    """

    def __init__(self, source: Any, name: str, *, live: bool, timeout: float | None) -> None:
        super().__init__()
        av = import_pyav()
        self.live = live
        self._errors = self._missing = 0
        self.notes: list[str] = []
        self._av, self._timeout = av, timeout
        self._pipe = None if isinstance(source, str) else _Pipe(source)
        options = {"rtsp_flags": "prefer_tcp"} if str(source).startswith("rtsp") else {}
        began = time.monotonic()
        try:
            self._container: Any = av.open(
                self._pipe or source, "r", options=options, timeout=timeout, metadata_errors="replace"
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            if self._pipe:
                self._pipe.close()
            self._raise_interrupt()
            waited = timeout is not None and time.monotonic() - began >= timeout  # RTSP calls that invalid data
            reason = self._no_data() if waited else self._reason(error)
            if isinstance(source, str) and _lacks_its_index(source):
                reason = "its index, which is written last, is missing: the recording was cut off"
            raise SourceError(f"{shown(name)}: cannot be opened as a video ({reason})") from error
        self._stream: Any = self._find_video(name)
        # Decoding several frames at a time keeps some back, which a live stream must not.
        self._stream.thread_type = "SLICE" if live else "AUTO"
        # Not as many as there are cores: which frames come out behind a damaged spot depends on their number, and
        # shall be the same on every machine.
        self._stream.codec_context.thread_count = 2
        self._convert = Converter(av)
        self._evidence = Evidence(self._container, self._stream)
        self.frame_rate = self._rate()
        self._stated = stated_frames(self._container, self._stream)
        self.expected = self._stated or self._estimate()

    @property
    def unreadable(self) -> int:
        return max(self._missing, self._errors)

    @property
    def damaged(self) -> bool:
        return self._evidence.damaged or self.unreadable > 0

    def __iter__(self) -> Iterator[Decoded]:
        clock = _Clock(self._stream, by_decoding="avi" in self._evidence.kinds)
        read = 0
        for packet in self._packets():
            check_process(self)
            for frame in self._decode(packet):
                time, step = clock.read(frame, read)
                self._missing += self._evidence.see_step(step) if step else 0
                yield Decoded(read + self._missing, time, None, lambda frame=frame: self._convert(frame))  # type: ignore[misc]
                read += 1
        self._compare(read)
        if not read and self._pipe and not self._pipe.seekable and "mp4" in self._container.format.name:
            self.notes = [_INDEX_AT_ITS_END]

    def close(self) -> None:
        if self.elsewhere:
            return
        self._container.close()
        if self._pipe:
            self._pipe.close()

    def _find_video(self, name: str) -> Any:
        """The stream that players show; a picture on the cover of a piece of music is none."""
        stream: Any = self._container.streams.best("video")
        covers = self._av.stream.Disposition.attached_pic
        if stream is None or stream.disposition & covers or stream.codec_context is None:
            self.close()
            no_decoder = stream is not None and stream.codec_context is None
            reason = "this PyAV has no decoder for its video" if no_decoder else "there is no video in it"
            raise SourceError(f"{shown(name)}: {reason}")
        return stream

    def _rate(self) -> float | None:
        """Frames per second on average. Of a raw stream FFmpeg says 25, whatever the stream's own header says."""
        stream, raw = self._stream, self._evidence.kinds & {"h264", "hevc"}
        rate = stream.codec_context.framerate if raw else stream.average_rate
        if not rate and stream.guessed_rate and stream.guessed_rate <= _HIGHEST_GUESS:
            rate = stream.guessed_rate
        return float(rate) if rate else None

    def _packets(self) -> Iterator[Any]:
        """Packets of the video, from behind damaged spots as well; None at the end, for what the decoder still has."""
        errors, restarts = 0, _Restarts()
        partial: Any = None
        while errors < _MOST_ERRORS:
            try:
                for packet in self._container.demux():
                    self._raise_interrupt()
                    if not packet.size:  # it would end the decoder
                        continue
                    errors = 0
                    self._evidence.see_packet(packet)
                    if packet.stream != self._stream or _is_header(packet):
                        continue
                    if partial:
                        yield partial
                    if restarts.follow(packet):
                        self._evidence.restarts += 1
                        self.notes.append(f"time stamps start anew at {float(packet.dts * packet.time_base):.2f} s")
                    partial = packet if packet.is_corrupt and not self._evidence.in_segments else None
                    if not partial:
                        yield packet
                break
            except self._av.error.InvalidDataError:
                self._evidence.see_error()
                errors += 1
            except self._av.error.FFmpegError as error:
                self._evidence.see_error()
                self.notes.append(f"it broke off: {self._reason(error)}")
                break
        self._raise_interrupt()
        # The last packet of a file that was cut off is left out: the error that it gives would cost whole frames, which
        # the decoder has kept back and does not give out after an error.
        self._errors += partial is not None
        yield None

    def _decode(self, packet: Any) -> list[Any]:
        try:
            frames: list[Any] = self._stream.codec_context.decode(packet)
        except EOFError:
            return []
        except self._av.error.FFmpegError:
            self._evidence.see_error()
            self._errors += 1
            return []
        return frames

    def _estimate(self) -> int | None:
        """Frames by length and rate: good enough for a bar."""
        if not self._stream.average_rate or not self._container.duration:
            return None
        return round(self._container.duration / self._av.time_base * self._stream.average_rate) or None

    def _compare(self, read: int) -> None:
        """What was met with what is stated, at the end."""
        self._missing = max(self._missing, self._stated - read)
        self._evidence.damaged |= self.unreadable > 0
        self.notes += self._evidence.at_the_end()
        if not self.damaged:
            self.expected = read

    def _raise_interrupt(self) -> None:
        if self._pipe and self._pipe.interrupt:
            raise self._pipe.interrupt

    def _no_data(self) -> str:
        return f"no data for {self._timeout:g} seconds"

    def _reason(self, error: Exception) -> str:
        if isinstance(error, self._av.error.ExitError):
            return self._no_data()
        return str(getattr(error, "strerror", None) or error)


def _is_header(packet: Any) -> bool:
    """Whether a packet is no frame, but in front of those of another Ogg stream in the same file."""
    codec = packet.stream.codec_context.name
    if codec == "theora":
        return bool(bytes(packet)[0] & 0x80)
    return codec.startswith(("vp8", "libvpx")) and bytes(packet)[:5] == b"OVP80"


def _lacks_its_index(source: str) -> bool:
    """Whether an MP4 or QuickTime file, which did not open, was never finished."""
    try:
        with open(source.removeprefix("file:"), "rb") as file:
            return file.read(12)[4:8] == b"ftyp"
    except OSError:
        return False


class _Pipe:
    """Reads what is there as soon as it is there; an interrupt while it waits, which FFmpeg would swallow, is kept."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._read = getattr(stream, "read1", stream.read)
        self.interrupt: BaseException | None = None
        self.seekable = bool(stream.seekable())
        if self.seekable:
            self.seek, self.tell = stream.seek, stream.tell

    def read(self, count: int) -> bytes:
        try:
            return bytes(self._read(count) or b"")
        except BaseException as error:
            self.interrupt = error
            return b""

    def close(self) -> None:
        buffer = getattr(sys.stdin, "buffer", None)
        if self._stream is not buffer and self._stream is not getattr(buffer, "raw", None):
            self._stream.close()


class _Restarts:
    """Moves time stamps behind those before them where a stream starts anew, as in files joined by ``cat``."""

    def __init__(self) -> None:
        self._shift = 0
        self._dts: int | None = None
        self._pts = 0

    def follow(self, packet: Any) -> bool:
        """Move a packet; whether the stream starts anew at it.

        Where it does, there is a key frame as a rule. Other packets may go back a little: behind such a place, FFmpeg
        gives those of Matroska with their times of presentation as those of decoding.
        """
        if packet.dts is None:
            return False
        duration, anew = max(packet.duration or 0, 1), False
        pts = packet.dts if packet.pts is None else packet.pts
        if self._dts is not None:
            back = self._dts - packet.dts - self._shift
            if back > (0 if packet.is_keyframe else _MOST_REORDERED * duration):
                self._shift, anew = duration + max(self._dts - packet.dts, self._pts - pts), True
        packet.dts += self._shift
        if packet.pts is not None:
            packet.pts += self._shift
        self._dts, self._pts = max(packet.dts, self._dts or packet.dts), max(pts + self._shift, self._pts)
        return anew


class _Clock:
    """Times of frames in seconds since the first, each later than the one before."""

    def __init__(self, stream: Any, *, by_decoding: bool) -> None:
        self._stream, self._by_decoding = stream, by_decoding
        self._start: float | None = None
        self._last = self._step = 0.0

    def read(self, frame: Any, number: int) -> tuple[float | None, float | None]:
        """A frame's time, and how long after the frame before it; None where nobody knows."""
        stamp = frame.dts if self._by_decoding else frame.pts
        if stamp is not None:
            now = float(stamp * self._stream.time_base)
        elif self._start is not None:
            now = self._start + self._last + self._step
        elif rate := self._stream.codec_context.framerate:
            return number / float(rate), None
        else:
            return None, None
        if self._start is None:
            self._start = now
            return 0.0, None
        # Behind a damaged spot, decoders give frames out of order.
        step = max(now - self._start - self._last, 0.001)
        self._last, self._step = self._last + step, step
        return self._last, step
