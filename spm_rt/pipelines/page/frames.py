"""Any frame of a source, again and again: for the tracker the exact picture, for the page a JPEG."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator

import cv2
import numpy as np

from ...errors import SourceError
from ...media.protocol import Picture, SourceFrame
from ...media.sources import Source, open_source

LARGEST = 1280
"""Longer side of pictures for the page, in pixels."""
_JPEG, _RECORDED = 85, 95
"""Quality of pictures for the page, and of frames of a live source, which cannot be read again."""


def encode_jpeg(picture: Picture, quality: int = _JPEG, largest: int | None = LARGEST) -> bytes:
    """A picture as JPEG, made smaller if its longer side is over ``largest``."""
    side = max(picture.shape[:2])
    if largest is not None and side > largest:
        size = [max(1, round(n * largest / side)) for n in picture.shape[1::-1]]
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


class Spool:
    """JPEG pictures by number, in one temporary file that vanishes with the process.

    Args:
        most: bytes that it may hold.
    """

    def __init__(self, most: int) -> None:
        self._file = tempfile.TemporaryFile(prefix="spm_page.")  # noqa: SIM115 - as long as the object
        self._places: dict[int, tuple[int, int]] = {}
        self._size, self._most = 0, most
        self._lock = threading.Lock()

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def __len__(self) -> int:
        return len(self._places)

    def put(self, number: int, encoded: bytes) -> bool:
        """Keep a picture; False where there is no room for it, also on the disk."""
        with self._lock:
            if number in self._places:
                return True
            if self._size + len(encoded) > self._most:
                return False
            try:
                self._file.seek(self._size)
                self._file.write(encoded)
                self._file.flush()
            except OSError:
                self._most = self._size
                return False
            self._places[number] = (self._size, len(encoded))
            self._size += len(encoded)
            return True

    def get(self, number: int) -> bytes | None:
        """A picture; None where it is not kept."""
        place = self._places.get(number)
        if place is None:
            return None
        with self._lock:
            self._file.seek(place[0])
            return self._file.read(place[1])

    def close(self) -> None:
        """Give the disk its room back."""
        self._file.close()


class Frames:
    """Frames of a file or a folder by their position: 0 is the first one that can be read.

    Attributes:
        rate: frames per second; None where the source does not say.
        live: frames come at their own pace; see :class:`LiveFrames`.
        end: number of frames, once it is known; before, what the source states or None.
        ended: whether ``end`` is known for sure.
        note: what went wrong while reading, for the user.
    """

    live = False

    def __init__(self, source: str, room: int) -> None:
        self._source = source
        self._spool = Spool(room)
        self._view = threading.Lock()
        with open_source(source) as opened:
            self.rate, self.end = opened.frame_rate, opened.expected
        self.ended, self.note = False, ""
        self._viewer = self.cursor()

    def cursor(self) -> Cursor:
        """Something to read frames with, for one thread."""
        return Cursor(self)

    def jpeg(self, position: int) -> bytes | None:
        """A frame for the page; None behind the end."""
        kept = self._spool.get(position)
        if kept is not None:
            return kept
        with self._view:
            frame = self._viewer.at(position)
            return None if frame is None else self._spool.get(position) or encode_jpeg(frame.picture)

    def first(self) -> SourceFrame:
        """The first frame.

        Raises:
            SourceError: no frame can be read.
        """
        with self._view:
            frame = self._viewer.at(0)
        if frame is None:
            raise SourceError(self.note or "no frame can be read")
        return frame

    def wait(self, position: int, seconds: float) -> bool:
        """Wait until a frame is there; a file's always is."""
        return True

    def close(self) -> None:
        """Let go of everything."""
        with self._view:
            self._viewer.close()
        self._spool.close()

    def _keep(self, position: int, picture: Picture) -> None:
        if position not in self._spool:
            self._spool.put(position, encode_jpeg(picture))

    def _finish(self, count: int, note: str = "") -> None:
        self.end, self.ended = count, True
        self.note = self.note or note


class Cursor:
    """Reads forward through a source; begins again for what lies behind it."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._last: SourceFrame | None = None
        self._position = -1
        self._opened: Source | None = None
        self._rest: Iterator[SourceFrame] = iter(())

    def at(self, position: int) -> SourceFrame | None:
        """A frame; None behind the end, which may be a damaged spot (``Frames.note``)."""
        if position < self._position or self._opened is None:
            self.close()
            self._opened = open_source(self._frames._source)
            self._rest = iter(self._opened)
        while self._position < position:
            try:
                frame = next(self._rest, None)
            except SourceError as error:
                self._frames._finish(self._position + 1, str(error))
                return None
            if frame is None:
                self._frames._finish(self._position + 1, "; ".join(self._opened.report().notes))
                return None
            self._last, self._position = frame, self._position + 1
            self._frames._keep(self._position, frame.picture)
        return self._last

    def close(self) -> None:
        """Let go of the source."""
        if self._opened is not None:
            self._opened.close()
        self._opened, self._last, self._position = None, None, -1


class LiveFrames(Frames):
    """Frames of a stream or a camera: recorded as they come, tracked and shown from the record.

    The record is bounded; when it is full, the stream is let go. Every frame of it is tracked, so a machine that is
    slower than the stream falls behind, and the page says by how much.
    """

    live = True

    def __init__(self, source: str, room: int) -> None:
        self._source, self._spool = source, Spool(room)
        self._new = threading.Condition()
        self._stop = False
        self._about: list[tuple[int, float | None]] = []
        self._opened = open_source(source)
        self.rate, self.end, self.ended, self.note = self._opened.frame_rate, 0, False, ""
        self._thread = threading.Thread(target=self._record, name="spm-page-record", daemon=True)
        self._thread.start()

    def _record(self) -> None:
        why = "the stream has ended"
        try:
            for frame in self._opened:
                if self._stop:
                    break
                if not self._spool.put(len(self._about), encode_jpeg(frame.picture, _RECORDED, None)):
                    why = "the recording is full (--record-mb): what was recorded stays"
                    break
                with self._new:
                    self._about.append((frame.index, frame.time))
                    self.end = len(self._about)
                    self._new.notify_all()
        except SourceError as error:
            why = str(error)
        finally:
            with contextlib.suppress(SourceError, OSError):
                self._opened.close()
            with self._new:
                self._finish(len(self._about), why)
                self._new.notify_all()

    def cursor(self) -> Cursor:
        return RecordCursor(self)

    def jpeg(self, position: int) -> bytes | None:
        return self._spool.get(position)

    def first(self) -> SourceFrame:
        frame = self.cursor().at(0)
        if frame is None:
            raise SourceError(self.note)
        return frame

    def wait(self, position: int, seconds: float) -> bool:
        with self._new:
            self._new.wait_for(lambda: len(self._about) > position or self.ended, seconds)
            return len(self._about) > position

    def close(self) -> None:
        self._stop = True
        self._thread.join(15)
        self._spool.close()


class RecordCursor(Cursor):
    """Reads frames of a live source from its record."""

    def at(self, position: int) -> SourceFrame | None:
        live = self._frames
        assert isinstance(live, LiveFrames)
        live.wait(position, 15.0)
        encoded = live._spool.get(position)
        if encoded is None:
            return None
        picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        index, time = live._about[position]
        return SourceFrame(np.asarray(picture, np.uint8), index, time, None)


def open_frames(source: str, live: bool, room: int) -> Frames:
    """The frames of a source, whose first one can be read.

    Args:
        source: as :func:`spm_rt.media.sources.open_source` takes it.
        live: a stream or a camera.
        room: bytes that pictures of it may take on the disk.

    Raises:
        SourceError: no frame can be read.
    """
    frames = (LiveFrames if live else Frames)(source, room)
    try:
        frames.first()
    except BaseException:
        frames.close()
        raise
    return frames
