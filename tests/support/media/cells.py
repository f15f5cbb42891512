"""The kinds of videos that people have, whole and damaged, and what is to come out of each.

``python -m tests.support.media.cells`` prints, for every cell, what PyAV, OpenCV and ffprobe make of it: the table in
docs/notes/sources.md.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .films import COUNT, RATE, number_of, write_film

UNEVEN = [index * index * 4 + index * 7 for index in range(COUNT)]
"""Milliseconds of frames whose distances grow."""
EVERY = tuple(range(COUNT))
Change = Callable[[bytes], bytes]


@dataclasses.dataclass(frozen=True)
class Cell:
    """A video.

    Attributes:
        film: arguments of :func:`write_film`.
        change: of the file's bytes, afterwards.
        numbers: of the frames that come out.
        times: in seconds; None: nobody knows.
        accuracy: of the times in seconds, which some containers round.
    """

    film: dict[str, Any] = dataclasses.field(default_factory=dict)
    change: Change = bytes
    numbers: Sequence[int] = EVERY
    times: Sequence[float] | None = tuple(index / RATE for index in range(COUNT))
    accuracy: float = 0.001

    def write(self, path: Path) -> Path:
        write_film(path, **self.film)
        path.write_bytes(self.change(path.read_bytes()))
        return path


def zeros(start: float, end: float) -> Change:
    """Zeros instead of a part of a file."""
    return lambda data: b"".join(
        (
            data[: int(start * len(data))],
            bytes(int(end * len(data)) - int(start * len(data))),
            data[int(end * len(data)) :],
        )
    )


def cut(end: float) -> Change:
    """A file without its last part."""
    return lambda data: data[: int(end * len(data))]


def _with_count(count: int) -> Change:
    """An AVI that states another number of frames, in both of its headers."""

    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        for place in (changed.index(b"avih") + 8 + 16, changed.index(b"strh") + 8 + 32):
            changed[place : place + 4] = count.to_bytes(4, "little")
        return bytes(changed)

    return change


def _film(codec: str = "libx264", **others: Any) -> dict[str, Any]:
    return {"codec": codec, **others}


_UNEVEN_CELL = Cell(_film(stamps=UNEVEN), times=[stamp / 1000 for stamp in UNEVEN])
_FAST = {"movflags": "faststart"}
WHOLE: dict[str, Cell] = {
    "h264.mp4": Cell(),
    "h264.mov": Cell(),
    "h264.mkv": Cell(),
    "h264.flv": Cell(),
    "h264.ts": Cell(),
    "h264.avi": Cell(),
    "without_b.mp4": Cell(_film(options={"bf": "0"})),
    "hevc.mp4": Cell(_film("libx265")),
    "hevc_10_bit.mkv": Cell(_film("libx265", pixels="yuv420p10le")),
    "h264_444.mp4": Cell(_film(pixels="yuv444p")),
    "vp8.webm": Cell(_film("libvpx")),
    "vp9.webm": Cell(_film("libvpx-vp9")),
    "vp9_alpha.webm": Cell(_film("libvpx-vp9", pixels="yuva420p")),
    "av1.webm": Cell(_film("libsvtav1")),
    "av1.mp4": Cell(_film("libsvtav1")),
    "mpeg4.avi": Cell(_film("mpeg4")),
    "mpeg4.mp4": Cell(_film("mpeg4")),
    "mjpeg.avi": Cell(_film("mjpeg", pixels="yuvj420p")),
    "mjpeg.mov": Cell(_film("mjpeg", pixels="yuvj420p")),
    "ffv1.mkv": Cell(_film("ffv1")),
    "mpeg2.ts": Cell(_film("mpeg2video")),
    "mpeg2.mpg": Cell(_film("mpeg2video")),
    "wmv2.wmv": Cell(_film("wmv2")),
    "h263.3gp": Cell(_film("h263", size=(176, 144))),
    "prores.mov": Cell(_film("prores", pixels="yuv422p10le")),
    "vp8.ogv": Cell(_film("libvpx", form="ogg")),
    "animated.gif": Cell(_film("gif", pixels="rgb8"), accuracy=0.006),
    "animated.png": Cell(_film("apng", pixels="rgb24", form="apng")),
    "raw.h264": Cell(),
    "raw.hevc": Cell(_film("libx265")),
    "fragmented.mp4": Cell(_film(container={"movflags": "frag_keyframe"})),
    "fragmented_empty_index.mp4": Cell(_film(container={"movflags": "frag_keyframe+empty_moov"})),
    "uneven.mp4": _UNEVEN_CELL,
    "uneven.mkv": _UNEVEN_CELL,
    "uneven.flv": _UNEVEN_CELL,
    "uneven.ts": _UNEVEN_CELL,
    "uneven.webm": dataclasses.replace(_UNEVEN_CELL, film=_film("libvpx-vp9", stamps=UNEVEN)),
    "odd_size.webm": Cell(_film("libvpx-vp9", size=(161, 121))),
    "odd_size.mkv": Cell(_film("ffv1", size=(161, 121))),
    "edit_list.mp4": Cell(
        _film(delay=250, container={"avoid_negative_ts": "disabled"}),
        numbers=EVERY[6:],
        times=tuple(index / RATE for index in range(COUNT - 6)),
    ),
    "no_count.webm": Cell(_film("libvpx-vp9", container={"live": "1"})),
    "count_too_high.avi": Cell(_film("mpeg4"), _with_count(99)),
    "count_too_low.avi": Cell(_film("mpeg4"), _with_count(7)),
    "joined.ts": Cell(
        change=lambda data: data + data, numbers=EVERY * 2, times=tuple(index / RATE for index in range(2 * COUNT))
    ),
    "sound_lasts_longer.mov": Cell(_film(sound=3.0)),
    "sound_lasts_longer.mkv": Cell(_film(sound=3.0)),
}
"""Nothing is wrong with these."""

DAMAGED: dict[str, Cell] = {
    "zeros.mp4": Cell(_film(container=_FAST), zeros(0.45, 0.6)),
    "zeros_index_at_end.mp4": Cell(change=zeros(0.45, 0.6)),
    "zeros_fragmented.mp4": Cell(_film(container={"movflags": "frag_keyframe"}), zeros(0.45, 0.6)),
    "zeros_h264.mkv": Cell(change=zeros(0.45, 0.6)),
    "zeros_ffv1.mkv": Cell(_film("ffv1"), zeros(0.45, 0.6)),
    "zeros.ts": Cell(change=zeros(0.45, 0.6)),
    "zeros.flv": Cell(change=zeros(0.45, 0.6)),
    "zeros_mpeg4.avi": Cell(_film("mpeg4"), zeros(0.45, 0.6)),
    "zeros_mjpeg.avi": Cell(_film("mjpeg", pixels="yuvj420p"), zeros(0.45, 0.6)),
    "zeros_av1.mp4": Cell(_film("libsvtav1", container=_FAST), zeros(0.45, 0.6)),
    "zeros.h264": Cell(change=zeros(0.45, 0.6)),
    "cut.mp4": Cell(_film(container=_FAST), cut(0.6)),
    "cut_fragmented.mp4": Cell(_film(container={"movflags": "frag_keyframe"}), cut(0.6)),
    "cut.mkv": Cell(change=cut(0.6)),
    "cut.webm": Cell(_film("libvpx-vp9"), cut(0.6)),
    "cut.flv": Cell(change=cut(0.6)),
    "cut.avi": Cell(_film("mjpeg", pixels="yuvj420p"), cut(0.6)),
    "cut.gif": Cell(_film("gif", pixels="rgb8"), cut(0.6)),
    "cut.wmv": Cell(_film("wmv2"), cut(0.6)),
}
"""Something of these is missing. Where the middle is, what comes behind it can be read."""


@functools.cache
def has_ffprobe() -> bool:
    return shutil.which("ffprobe") is not None


def count_frames(path: Path) -> int:
    """Frames that ffprobe decodes."""
    command = ["ffprobe", "-v", "quiet", "-count_frames", "-select_streams", "v:0", "-of", "csv=p=0"]
    command += ["-show_entries", "stream=nb_read_frames", f"file:{path}"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.split()
    return int(lines[0].strip(",")) if lines else 0


def main() -> None:
    """Print the table."""
    from spm_rt.errors import SpmError
    from spm_rt.media.sources import open_source

    print("| video | frames | PyAV | OpenCV | ffprobe |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, cell in {**WHOLE, **DAMAGED}.items():
            path = cell.write(Path(folder) / name)
            columns = []
            for reader in ("pyav", "opencv"):
                try:
                    with open_source(path, reader=reader) as source:
                        frames = [(number_of(frame.picture), frame.time) for frame in source]
                        report = source.report()
                    columns.append(_said(cell, frames, report, whole=name in WHOLE))
                except SpmError:
                    columns.append("not opened")
            counted = count_frames(path) if has_ffprobe() else "-"
            print(f"| `{name}` | {len(cell.numbers)} | {' | '.join(columns)} | {counted} |")


def _said(cell: Cell, frames: list[tuple[int, float | None]], report: Any, *, whole: bool) -> str:
    """What a reader gave, and what it said about it."""
    words = [str(len(frames))]
    if whole and [number for number, _ in frames] != list(cell.numbers):
        words.append("wrong frames")
    times = [time for _, time in frames]
    if whole and len(times) == len(cell.times or ()):
        known = [time is not None for time in times]
        close = all(known) and all(
            abs(a - b) <= cell.accuracy for a, b in zip(times, cell.times or (), strict=True) if a is not None
        )
        words += [] if close else ["no times" if not all(known) else "wrong times"]
    if not whole:
        words.append("says so" if report.damaged else "does not say so")
    elif report.damaged:
        words.append("called damaged")
    return ", ".join(words)


if __name__ == "__main__":
    main()
