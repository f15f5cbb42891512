"""The options of ``spm-track``, and which of them go together."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .. import __version__
from ..backends import BACKENDS
from ..media import READERS
from ..outputs import KINDS, Request
from ..precision import FLOATS, precision_argument
from ..settings import MODES
from ..terminal import WHICH_BUNDLE, default_bundle, join_boxes, real_number, whole_number
from .targets import parse_named_box, target_names

USAGE = """spm-track SOURCE --box X,Y,W,H [--out VIDEO] [--csv FILE] [more options]
       spm-track SOURCE SOURCE ... --box ... --box ... [--jsonl FILE] [--metrics-port PORT]
       spm-track SOURCE --select                  draw the box in a window
       spm-track SOURCE --first-frame out.png     a picture to read the box from"""

EPILOG = """examples:
  spm-track clip.mp4 --first-frame first.png                     where is the target? A grid to read the box from
  spm-track clip.mp4 --box 193,158,57,72 --out out.mp4 --sheet out.png
  spm-track clip.mp4 --box rabbit=193,158,57,72 --box bird=120,40,30,30 --csv boxes.csv
  spm-track frames/ --fps 30 --box 20,30,64,48 --out out.webm    a folder of pictures, in natural order
  spm-track clip.mp4 --start 0:12 --skip 2 --box ... --jsonl -   from second 12, every second frame, results at once
  spm-track clip.mp4 --box ... --jsonl boxes.jsonl --resume      go on where a run was stopped
  spm-track rtsp://camera/stream --select --jsonl log.jsonl      until Ctrl-C, which keeps what there is
  spm-track door=rtsp://camera1/x yard=clip.mp4 --box door/parcel=5,6,70,80 --box yard/cat=20,30,64,48 --jsonl -
                                                                 several sources; --metrics-port 9100 for Prometheus
  ffmpeg ... -f matroska - | spm-track - --box ... --csv -       standard input and output

BOX is x,y,width,height in pixels of the first frame that is tracked, the first pixel being 0; two corners are written
x1,y1-x2,y2. The bundle is made once with `spm-export --out spm_alexnet`.

Ctrl-C, SIGTERM, a damaged spot, a frame of another size, a full disk: what was done until then is kept, complete, and
said. Ctrl-C once more ends at once. Exit status: 0 tracked, 1 an error (the message says what) or a damaged source,
2 wrong usage, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""
OUTPUTS = {"out": "video", "sheet": "sheet", "csv": "csv", "jsonl": "jsonl", "mot": "mot", "otb": "otb", "coco": "coco"}
"""Options for results, and the kind of each."""
LINES = ("csv", "jsonl")
"""Those that take results of several sources."""


class Start(NamedTuple):
    """Where to start: at a frame, or at a time in seconds."""

    text: str
    frame: int = 0
    seconds: float | None = None


KEPT: dict[str, tuple[Any, Callable[[str], Any]]] = {
    "start": (Start("0"), lambda text: parse_start(text)),
    "skip": (1, whole_number(1)),
    "fps": (None, real_number(0, 1000, above=True)),
    "levels": (None, lambda text: parse_levels(text)),
    "backend": ("auto", str),
    "device": ("cpu", str),
    "precision": (None, str),
    "mode": (None, str),
    "recover": (None, str),
}
"""Options that decide what the boxes are: their default, and how their text is read. A run that goes on keeps them."""


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked as far as that needs no file.

    ``names`` and ``requests`` are made of them; ``given`` are those of ``KEPT`` that were typed.
    """
    parser = make_parser()
    options = parser.parse_intermixed_args(join_boxes(arguments))
    options.source = options.sources[0]
    several = len(options.sources) > 1 or options.metrics_port is not None
    if options.box and options.select:
        parser.error("--box and --select: one of the two")
    if options.resume and options.jsonl in (None, "-"):
        parser.error("--resume goes on from what --jsonl FILE has; give the same --jsonl FILE")
    if not (options.box or options.select or options.first_frame or options.resume):
        parser.error(
            "where is the target? Give --box X,Y,WIDTH,HEIGHT; or --select to draw it in a window, or "
            "--first-frame first.png for a picture to read the numbers from"
        )
    try:
        options.names = [] if several else target_names([box.name for box in options.box] or [""] * options.select)
    except ValueError as error:
        parser.error(f"--box: {error}; give each its own, as in --box rabbit=193,158,57,72")
    options.given = {name: value for name in KEPT if (value := getattr(options, name)) not in (None, "auto")}
    for name, (default, _) in KEPT.items():
        setattr(options, name, options.given.get(name, default))
    options.requests = [
        Request(kind, getattr(options, name)) for name, kind in OUTPUTS.items() if getattr(options, name) is not None
    ]
    if options.recover and (len(options.names) > 1 or options.resume):
        parser.error("--recover is for one target, and what it remembers is not in the file that --resume reads")
    if options.first_frame is not None and (options.requests or options.resume or options.show):
        parser.error("--first-frame writes one picture and tracks nothing: no outputs, --resume or --show with it")
    options.streams = _streams(parser, options) if several else []
    if options.json and any(request.path == "-" for request in options.requests):
        parser.error("--json prints a summary on standard output, where results go too (-): one of the two")
    return options


def _streams(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[Any]:
    """The sources with their boxes (:class:`spm_rt.cli.streams.sources.NamedSource`)."""
    alone = ("select", "first_frame", "resume", "show", "recover", *(name for name in OUTPUTS if name not in LINES))
    refused = [name for name in alone if getattr(options, name)]
    if refused or options.start.seconds is not None:
        option = "--" + refused[0].replace("_", "-") if refused else f"--start {options.start.text}"
        parser.error(f"{option} is for one source without --metrics-port; results of several are --csv and --jsonl")
    from .streams.sources import named_sources  # imports numpy, which other options need not wait for

    try:
        return named_sources(options.sources, options.box)
    except ValueError as error:
        parser.error(f"--box: {error}")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spm-track",
        usage=USAGE,
        description="Follow one object, or several, through a video.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"spm-rt {__version__}")
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="video file, folder of pictures, pattern (frames/%%04d.png, 'frames/*.png'), URL (rtsp, http, ...), "
        "camera number, or - for standard input; several, also as NAME=SOURCE, are followed at the same time",
    )
    _add_first_box(parser.add_argument_group("where the target is"))
    _add_frames(parser.add_argument_group("which frames"))
    _add_results(parser.add_argument_group("results (any number of them; `-`, for lines of text, is standard output)"))
    _add_tracker(parser.add_argument_group("how to track"))
    group = parser.add_argument_group("what is told")
    group.add_argument(
        "--metrics-port",
        type=whole_number(0, 65535),
        metavar="PORT",
        help="serve metrics for Prometheus on 127.0.0.1 (0: any free port); of live sources the newest frames count",
    )
    group.add_argument("--json", action="store_true", help="print a summary as JSON on standard output")
    group.add_argument("--quiet", action="store_true", help="no progress, no summary; warnings and errors only")
    return parser


def _add_first_box(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--box",
        action="append",
        default=[],
        type=parse_named_box,
        metavar="[NAME=]X,Y,W,H",
        help="the target in the first frame; again for each further target, then with names. Two corners: x1,y1-x2,y2. "
        "Of several sources: one each in their order, or named SOURCE/TARGET",
    )
    group.add_argument(
        "--select",
        action="count",
        default=0,
        help="draw the box in a window (needs an OpenCV with windows); again for each further target",
    )
    group.add_argument(
        "--first-frame",
        metavar="PICTURE",
        help="write the first frame with a grid to read a box from, and with the boxes given; track nothing",
    )


def _add_frames(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--start",
        type=parse_start,
        metavar="WHERE",
        help="number of the frame to start at, the first being 0, or a time: 12.5s, 0:12, 1:02:03",
    )
    group.add_argument("--skip", type=KEPT["skip"][1], metavar="N", help="take every Nth frame only")
    group.add_argument(
        "--frames", type=whole_number(1), metavar="N", help="stop after N frames, the first included (default: all)"
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on where an earlier run was stopped, from what it wrote to --jsonl FILE; starts anew if there is "
        "none. First frame, boxes, --skip, --fps, --levels, --backend, --device, --precision, --mode come from there",
    )
    group.add_argument(
        "--fps",
        type=KEPT["fps"][1],
        metavar="RATE",
        help="frames per second of a folder, or instead of what the source says",
    )
    group.add_argument(
        "--levels",
        type=parse_levels,
        metavar="LOW,HIGH",
        help="16-bit pictures: the values that become black and white (default: the sequence's own range)",
    )
    group.add_argument("--reader", choices=READERS, default="auto", help="what reads videos (default auto: PyAV)")


def _add_results(group: argparse._ArgumentGroup) -> None:
    for name, kind in OUTPUTS.items():
        metavar = {"out": "VIDEO", "sheet": "PICTURE"}.get(name, "FILE")
        group.add_argument(f"--{name}", metavar=metavar, help=KINDS[kind])
    group.add_argument("--show", action="store_true", help="show a window (needs an OpenCV with windows); q ends it")


def _add_tracker(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--bundle",
        default=default_bundle(),
        metavar="FOLDER",
        help=f"what spm-export wrote, or its one file of --pack {WHICH_BUNDLE}",
    )
    group.add_argument(
        "--backend",
        choices=["auto", *BACKENDS],
        help="inference library (default auto: the fastest here, measured once)",
    )
    group.add_argument("--device", help="cpu, cuda, cuda:1, ... (default cpu)")
    group.add_argument(
        "--threads", type=whole_number(1), metavar="N", help="threads per inference call (default: all usable cores)"
    )
    group.add_argument(
        "--precision",
        type=precision_argument,
        choices=FLOATS,
        help="bfloat16: faster on CPUs that have it (OpenVINO); float16 or bfloat16: on GPUs (pytorch)",
    )
    group.add_argument("--mode", choices=MODES, help="which stages decide (default: as the bundle says)")
    group.add_argument(
        "--recover",
        action="store_const",
        const="on",
        help="after a loss look for the target all over the frame; for one target, and not with --resume",
    )


def parse_start(text: str) -> Start:
    """A frame's number, or a time: ``12.5s``, ``500ms``, ``0:12``, ``1:02:03.5``, for argparse."""
    bare = text.strip()
    if re.fullmatch(r"[0-9]{1,9}", bare):
        return Start(text, frame=int(bare))
    number = r"([0-9]{1,7}(?:\.[0-9]*)?)"
    if found := re.fullmatch(rf"{number}\s*(ms|s|sec|seconds?)", bare):
        return Start(text, seconds=float(found[1]) / (1000 if found[2] == "ms" else 1))
    if found := re.fullmatch(rf"(?:([0-9]{{1,4}}):)?([0-9]{{1,4}}):{number}", bare):
        return Start(text, seconds=3600.0 * int(found[1] or 0) + 60.0 * int(found[2]) + float(found[3]))
    raise argparse.ArgumentTypeError(f"{text!r} is neither a frame's number (300) nor a time (12.5s, 0:12, 1:02:03)")


def parse_levels(text: str) -> tuple[int, int]:
    """``LOW,HIGH``, for argparse."""
    found = re.fullmatch(r"\s*([0-9]{1,5})(?:\s*[,;:-]\s*|\s+)([0-9]{1,5})\s*", text)
    low, high = (int(found[1]), int(found[2])) if found else (0, 0)
    if not low < high <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not LOW,HIGH: two values of 16-bit pictures, as in 27000,29040")
    return low, high
