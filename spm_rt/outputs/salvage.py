"""Video files whose writing broke off (disk full): what is torn at the end is cut off, the rest can be played."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_SEGMENT = 0x18538067


def cut_torn_end(path: Path, container: str) -> None:
    """Shorten a video file to what is whole in it.

    Args:
        path: of a file that was written from front to end and ended anywhere.
        container: ``mp4`` (in fragments), ``webm``, ``matroska`` or ``avi``.

    Raises:
        OSError: it cannot be read or shortened.
    """
    cutters: dict[str, Callable[[BinaryIO, int], int]] = {"mp4": _end_of_fragments, "avi": _end_of_chunks}
    with open(path, "r+b") as stream:
        size = os.fstat(stream.fileno()).st_size
        stream.truncate(cutters.get(container, _end_of_clusters)(stream, size))


def _end_of_fragments(stream: BinaryIO, size: int) -> int:
    """Where the last whole fragment (``moof`` and its ``mdat``) of an MP4 file ends."""
    place = end = 0
    while len(head := _read(stream, place, 16)) >= 8:
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:], "big")
        if length < 8 or place + length > size:
            break
        place += length
        end = place if kind != b"moof" else end
    return end


def _end_of_clusters(stream: BinaryIO, size: int) -> int:
    """Where the last whole cluster of a Matroska file ends; the file says of itself that it goes on to its end."""
    place = 0
    while (element := _element(stream, place)) and element[1] < size:
        identity, inside, length = element
        if identity == _SEGMENT:
            digits = inside - place - 4
            stream.seek(place + 4)
            stream.write(((1 << 7 * digits + 1) - 1).to_bytes(digits, "big"))  # of unknown length
            place = inside
        elif inside + length > size:
            break
        else:
            place = inside + length
    return place


def _element(stream: BinaryIO, place: int) -> tuple[int, int, int] | None:
    """Identity of a Matroska element, where its content starts, and its length."""
    head = _read(stream, place, 12)
    digits = 9 - head[0].bit_length() if head and head[0] else 9
    rest = head[digits:]
    if digits > 4 or not rest or not rest[0]:
        return None
    more = 9 - rest[0].bit_length()
    length = int.from_bytes(rest[:more], "big") & ((1 << 7 * more) - 1)
    return int.from_bytes(head[:digits], "big"), place + digits + more, length


def _end_of_chunks(stream: BinaryIO, size: int) -> int:
    """Where the last whole frame of an AVI file ends; the lists around it are said to end there."""
    around: list[int] = []
    place = 0
    while len(head := _read(stream, place, 12)) == 12:
        kind, length, inner = struct.unpack("<4sI4s", head)
        if kind == b"RIFF" or (kind == b"LIST" and inner == b"movi"):
            around = [place] if kind == b"RIFF" else [*around[:1], place]
            place += 12
        elif place + 8 + length > size:
            break
        else:
            place += 8 + length + length % 2
    end = min(place, size)
    for start in around:
        stream.seek(start + 4)
        stream.write(struct.pack("<I", end - start - 8))
    return end


def _read(stream: BinaryIO, place: int, count: int) -> bytes:
    stream.seek(place)
    return stream.read(count)
