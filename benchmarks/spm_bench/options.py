"""Options that several commands have, and what each command gives back to be printed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

from spm_rt.machine import usable_cores
from spm_rt.terminal import WHICH_BUNDLE, default_bundle, parse_box, positive_int, real_number, whole_number

clip_length = whole_number(2)
"""A number of frames to which clips may be cut: the first and at least one more."""
Parser = argparse.ArgumentParser


class Outcome(NamedTuple):
    """What a command came to."""

    report: dict[str, Any]
    """as ``--json`` prints it"""
    text: Callable[[], str]
    """the same for people"""
    passed: bool = True
    """exit status 0, or else 1"""
    message: str = ""
    """why not, if the text does not say it"""


def default_threads() -> int:
    """Two, the number with which figures are quoted; one where the process may use one core only."""
    return min(2, usable_cores())


def add_bundle(parser: Parser) -> None:
    what = f"the bundle's folder, or its packed file {WHICH_BUNDLE}"
    parser.add_argument("bundle", nargs="?", default=default_bundle(), help=what)


def add_number(
    parser: Parser, names: str, default: float, what: str, metavar: str = "N", kind: Any = positive_int
) -> None:
    """A number with a default that its help names; by default a whole one of 1 or more."""
    what = f"{what} (default {default})"
    parser.add_argument(*names.split(), type=kind, default=default, metavar=metavar, help=what)


def add_several(
    parser: Parser, name: str, default: Any, what: str, metavar: str = "N", kind: Any = positive_int
) -> None:
    """An option with several values; by default whole numbers of 1 or more."""
    parser.add_argument(name, nargs="+", type=kind, default=default, metavar=metavar, help=what)


def add_backends(parser: Parser, what: str) -> None:
    """``--backend`` with several names; ``what`` says what for, and which."""
    add_several(parser, "--backend", ["auto"], f"{what}, ... (default: auto)", "NAME[:PRECISION][@BUNDLE]", str)


def add_clips(parser: Parser, clips: str = "folder of clips with ground truth") -> None:
    """The folder of clips, and how many frames of each."""
    parser.add_argument("clips", help=clips)
    add_frame_limit(parser)


def add_frame_limit(parser: Parser) -> None:
    parser.add_argument("--frames", type=clip_length, metavar="N", help="at most so many frames of each clip")


def add_default_bundle(parser: Parser) -> None:
    """One bundle and one backend, both with a default."""
    parser.add_argument("--bundle", default=default_bundle(), help=f"the bundle's folder {WHICH_BUNDLE}")
    parser.add_argument("--backend", default="auto", metavar="NAME[:PRECISION]", help="what runs it (default: auto)")


def add_clip_options(parser: Parser) -> None:
    parser.add_argument("--clip", metavar="VIDEO|FOLDER", help="what to track in (default: the shipped clip)")
    parser.add_argument("--box", type=parse_box, metavar="X,Y,W,H", help="the target in the clip's first frame")


def add_measurement(parser: Parser, frames: int, what: str, block: int = 10) -> None:
    """The clip, how many frames are counted (``what`` says per what), and how contestants take turns."""
    add_clip_options(parser)
    add_number(parser, "--frames", frames, f"frames counted {what}")
    add_number(parser, "--block", block, "frames counted per turn")
    add_number(parser, "--pause", 0.1, "between turns", "SECONDS", real_number())
    paced = "frames per second in which they come, as from a camera; 0: each as soon as the last one is done"
    add_number(parser, "--pace", 0.0, paced, "FPS", real_number())
    beside = "processes of one thread each that compute all the time, to share the machine with"
    add_number(parser, "--neighbours", 0, beside, kind=whole_number(0, 64))


def add_run_options(parser: Parser) -> None:
    files = "torch: cm_stage.pt fm_stage.pt, or one .safetensors (default: the shipped weights)"
    add_several(parser, "--checkpoint", [], f"the bundle's checkpoint, for {files}", "FILE", str)
    calls = "threads per inference call, the same for all (default: 2, or 1 on one core)"
    parser.add_argument("--threads", type=positive_int, default=default_threads(), metavar="N", help=calls)
    add_output(parser)


def add_output(parser: Parser) -> None:
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default cpu)")
    add_json(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress")


def add_json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")


def add_out(parser: Parser, what: str) -> None:
    parser.add_argument("--out", metavar="FOLDER", help=what)
