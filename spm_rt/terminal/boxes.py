"""Boxes as options of a command."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import sys
from collections.abc import Sequence

from ..results import Box

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_BETWEEN = r"(?:\s*[,;]\s*|\s+)"
_FOUR_NUMBERS = re.compile(rf"\s*({_NUMBER}){_BETWEEN}({_NUMBER}){_BETWEEN}({_NUMBER}){_BETWEEN}({_NUMBER})\s*")
_TWO_CORNERS = re.compile(rf"\s*({_NUMBER}){_BETWEEN}({_NUMBER})\s*(?:-|:|to)\s*({_NUMBER}){_BETWEEN}({_NUMBER})\s*")
_LABELLED = re.compile(
    rf"\s*x\s*[=:]?\s*({_NUMBER}){_BETWEEN}y\s*[=:]?\s*({_NUMBER}){_BETWEEN}"
    rf"w(?:idth)?\s*[=:]?\s*({_NUMBER}){_BETWEEN}h(?:eight)?\s*[=:]?\s*({_NUMBER})\s*"
)
_PART_OF_A_BOX = re.compile(r"[-+\d.,;eExywidthgo=:()\[\]{} ]*")
BOX_FORMS = "x,y,width,height in pixels, as in --box 193,158,57,72; or two corners, --box 193,158-250,230"


def parse_box(text: str) -> Box:
    """A box ``x, y, width, height`` in one of the forms in which people write it, for argparse.

    Four numbers between commas, semicolons or spaces, with brackets or without; two opposite corners, as in
    ``x1,y1-x2,y2``; or ``x=1 y=2 w=3 h=4``.
    """
    bare = text.strip().replace("\u2212", "-")
    if bare[:1] + bare[-1:] in ("()", "[]", "{}"):
        bare = bare[1:-1]
    if found := _FOUR_NUMBERS.fullmatch(bare) or _LABELLED.fullmatch(bare):
        x, y, width, height = map(float, found.groups())
        box = x, y, width, height
    elif corners := _TWO_CORNERS.fullmatch(re.sub(r"[()\[\]]", "", bare)):
        x1, y1, x2, y2 = map(float, corners.groups())
        box = min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)
    else:
        raise argparse.ArgumentTypeError(f"{text!r} is no box; give {BOX_FORMS}")
    if not all(map(math.isfinite, box)):
        raise argparse.ArgumentTypeError(f"{text!r}: numbers too large for a box")
    return box


def join_boxes(words: Sequence[str] | None, flag: str = "--box") -> list[str]:
    """A command's words, with the words of each box made one with their option.

    argparse takes ``--box -5,10,50,50`` for two options and ``--box 5 10 50 50`` for an option and three files.

    Args:
        words: of the command line; None for those of this process.
        flag: the option.
    """
    waiting, joined = list(sys.argv[1:] if words is None else words), []
    while waiting:
        word = waiting.pop(0)
        joined.append(word)
        if word == "--":
            return joined + waiting
        if word != flag or not waiting:
            continue
        box = waiting.pop(0)
        while waiting and not _whole(box) and _PART_OF_A_BOX.fullmatch(_unnamed(box) + waiting[0]):
            box += f" {waiting.pop(0)}"
        joined[-1] = f"{flag}={box}"
    return joined


def _whole(text: str) -> bool:
    with contextlib.suppress(argparse.ArgumentTypeError):
        return bool(parse_box(_unnamed(text)))
    return False


def _unnamed(text: str) -> str:
    """``rabbit=1,2,3,4`` without the name."""
    return text if _LABELLED.fullmatch(text) else text.rpartition("=")[2]
