"""``spm-track``: see the tracker work on a video, a folder of pictures or a camera."""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .backends import BACKENDS, chosen_because
from .errors import SourceError
from .files import written_whole
from .media.drawing import FOUND, annotate, contact_sheet, draw_result
from .media.video import frame_count, frame_rate, frames
from .precision import FLOATS, precision_argument
from .results import Box, TrackResult
from .settings import MODES
from .terminal import Progress, join_boxes, parse_box, run_command
from .trackers.single import Tracker

EPILOG = """examples:
  spm-track clip.mp4 --box 193,158,57,72 --out out.mp4 --sheet out.png
  spm-track frames/ --box 20,30,64,48 --csv boxes.csv            a folder of pictures, by name
  spm-track 0 --box 200,150,120,120 --frames 300 --show          the first camera, in a window

BOX is x,y,width,height in pixels of the first frame. The bundle is made once with `spm-export --out spm_alexnet`.
Exit status: 0 tracked, 1 an error (the message says what), 2 wrong usage.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command("spm-track", lambda: _main(join_boxes(arguments)))


def _main(arguments: Sequence[str]) -> int:
    options = make_parser().parse_args(arguments)
    report = run(options)
    if options.json:
        print(json.dumps(report, indent=1))
    elif not options.quiet:
        print(
            f"{report['frames']} frames at {report['fps']:.1f} per second (reading and drawing not counted), "
            f"found in {report['found']}, score {report['lowest_score']:.2f} to {report['highest_score']:.2f}"
        )
        because = report["backend_chosen_because"]
        print(f"{report['backend']}{because and f' (auto: {because})'}")
        for path in report["written"]:
            print(f"wrote {path}")
    return 0


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spm-track",
        description="Follow one object through a video.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", help="video file, folder of pictures, or camera number")
    parser.add_argument("--box", required=True, type=parse_box, metavar="X,Y,W,H", help="the target in the first frame")
    parser.add_argument(
        "--bundle",
        default=os.environ.get("SPM_RT_BUNDLE", "spm_alexnet"),
        metavar="FOLDER",
        help="what spm-export wrote (default: $SPM_RT_BUNDLE, or spm_alexnet)",
    )
    parser.add_argument("--out", metavar="VIDEO", help="write an annotated video (.mp4 or .avi)")
    parser.add_argument("--sheet", metavar="PICTURE", help="write twelve annotated frames as one picture")
    parser.add_argument("--csv", metavar="FILE", help="write frame, box, scores and found as text")
    parser.add_argument(
        "--backend",
        default="auto",
        choices=["auto", *BACKENDS],
        help="inference library (default auto: the fastest here, measured once)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default cpu)")
    parser.add_argument("--threads", type=int, help="threads per inference call (default: all usable cores)")
    parser.add_argument(
        "--precision",
        type=precision_argument,
        choices=FLOATS,
        help="bfloat16: faster on CPUs that have it (OpenVINO); float16 or bfloat16: on GPUs (pytorch)",
    )
    parser.add_argument("--mode", choices=MODES, help="which stages decide (default: as the bundle says)")
    parser.add_argument("--frames", type=int, metavar="N", help="stop after N frames (a camera goes on until Ctrl-C)")
    parser.add_argument("--show", action="store_true", help="show a window (needs an OpenCV build with one); q ends it")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary")
    return parser


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Track as the options say; returns the summary."""
    total = frame_count(options.source)
    if options.frames:
        total = min(total or options.frames, options.frames)
    tracker = Tracker.load(
        options.bundle, options.backend, options.device, threads=options.threads, precision=options.precision
    )
    if options.mode:
        tracker.settings = dataclasses.replace(tracker.settings, mode=options.mode)
    bar = Progress("tracking", total, quiet=options.quiet or options.json)
    rows: list[tuple[Box, TrackResult | None]] = []
    kept: list[tuple[int, NDArray[np.uint8]]] = []
    wanted = set(np.linspace(0, (total or 240) - 1, 12).round().astype(int).tolist())
    seconds = 0.0
    with _video_writer(options.out, frame_rate(options.source)) as write:
        for index, frame in enumerate(frames(options.source)):
            if total is not None and index >= total:
                break
            start = time.perf_counter()
            result = _track(tracker, frame, options.box, index)
            seconds += time.perf_counter() - start
            rows.append((result.box if result else options.box, result))
            drawn = annotate(frame, result) if result else draw_result(frame, options.box, "target", FOUND)
            write(drawn)
            if options.sheet and index in wanted:
                kept.append((index, drawn))
            bar.step()
            if options.show and not _show_in_window(drawn):
                break
    bar.close()
    written = [options.out] if options.out else []
    if options.csv:
        write_csv(Path(options.csv), rows)
        written.append(options.csv)
    if options.sheet:
        _write_picture(Path(options.sheet), contact_sheet([p for _, p in kept], [f"frame {i}" for i, _ in kept]))
        written.append(options.sheet)
    scores = [result.score for _, result in rows if result] or [float("nan")]
    return {
        "source": options.source,
        "frames": len(rows),
        "fps": len(rows) / seconds if seconds else 0.0,
        "found": sum(result.found for _, result in rows if result) + 1,
        "lowest_score": min(scores),
        "highest_score": max(scores),
        "backend": tracker.backend.description,
        "backend_chosen_because": chosen_because(tracker.backend),
        "last_box": list(rows[-1][0]),
        "written": written,
    }


def _track(tracker: Tracker, frame: NDArray[np.uint8], box: Box, index: int) -> TrackResult | None:
    """The result on a frame; None on the first, where the box is given."""
    if index == 0:
        tracker.init(frame, box)
        return None
    return tracker.update(frame)


def write_csv(path: Path, rows: Sequence[tuple[Box, TrackResult | None]]) -> None:
    """One line a frame; the first frame's box is the given one and has no scores."""
    with _written_file(path) as part, open(part, "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["frame", "x", "y", "width", "height", "score", "coarse_score", "fine_score", "found"])
        for index, (box, r) in enumerate(rows):
            scores = [f"{v:.6f}" for v in (r.score, r.coarse_score, r.fine_score)] if r else ["", "", ""]
            table.writerow([index, *(f"{v:.3f}" for v in box), *scores, int(r.found) if r else 1])


def _write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    with _written_file(path) as part:
        if not cv2.imwrite(str(part), picture):
            raise SourceError(f"{path}: cannot be written as a picture")


@contextlib.contextmanager
def _video_writer(out: str | None, rate: float) -> Iterator[Any]:
    """A function that takes frames; the video gets its name when all are written."""
    if not out:
        yield lambda frame: None
        return
    path = Path(out)
    codecs = {".mp4": "mp4v", ".avi": "MJPG"}
    if path.suffix.lower() not in codecs:
        raise SourceError(f"{out}: the name of a video ends in {' or '.join(codecs)}")
    writer: Any = None

    def write(frame: NDArray[np.uint8]) -> None:
        nonlocal writer
        if writer is None:
            code = cv2.VideoWriter.fourcc(*codecs[path.suffix.lower()])
            writer = cv2.VideoWriter(str(part), code, rate, (frame.shape[1], frame.shape[0]))
            if not writer.isOpened():
                raise SourceError(f"{out}: this OpenCV cannot write such a video")
        writer.write(frame)

    with _written_file(path) as part:
        try:
            yield write
        finally:
            if writer is not None:
                writer.release()
        if writer is None:
            part.unlink()


@contextlib.contextmanager
def _written_file(path: Path) -> Iterator[Path]:
    """A file that is written whole or not at all; errors of the disk are :class:`SourceError`."""
    try:
        with written_whole(path) as part:
            yield part
    except OSError as error:
        raise SourceError(f"{path}: cannot be written ({error.strerror or error})") from error


def _show_in_window(picture: NDArray[np.uint8]) -> bool:
    """Show a frame; False when the user has had enough."""
    try:
        cv2.imshow("spm-track", picture)
        return (cv2.waitKey(1) & 0xFF) not in (ord("q"), 27)
    except cv2.error as error:
        raise SourceError("--show: this OpenCV build has no windows (the headless package has none)") from error


if __name__ == "__main__":
    sys.exit(main())
