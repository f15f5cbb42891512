"""What made a run's results, so that another run goes on from them only if it makes the same."""

from __future__ import annotations

import argparse
import zlib
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import __version__
from ..backends import bundle_sha256
from ..errors import SourceError
from ..files import shown
from ..media.drawing import Picture
from ..media.sources import source_name
from ..settings import to_json
from .following import Follower
from .options import KEPT, Start

_COMPARED = {"source", "width", "height", "first_frame_crc32", "options", "bundle_sha256", "settings"}
_ANEW = "or begin anew with another --jsonl FILE"


def provenance(options: Namespace, picture: Picture, follower: Follower) -> dict[str, Any]:
    """What makes the results of a run, as JSON types.

    Args:
        options: of the run.
        picture: its first frame.
        follower: what tracks.
    """
    used = {**options.given, "backend": follower.backend.name}
    return {
        "version": __version__,
        "source": source_name(options.source),
        "width": picture.shape[1],
        "height": picture.shape[0],
        "first_frame_crc32": zlib.crc32(np.ascontiguousarray(picture).data),
        "options": {name: _text(used[name]) for name in KEPT if name in used},
        "bundle_sha256": bundle_sha256(follower.backend),
        "settings": to_json(follower.settings),
    }


def take_over(options: Namespace, before: Mapping[str, Any], first: int, path: str) -> None:
    """Give a run the options of the run before it, as far as they decide the boxes.

    Args:
        options: of the run; changed.
        before: :func:`provenance` of the run before.
        first: number of its first frame.
        path: where that stands, for messages.

    Raises:
        ValueError, TypeError, KeyError: ``before`` is not what this program writes.
        SourceError: other options were given, or another source.
    """
    if not (before.keys() >= _COMPARED and isinstance(before["settings"], dict)):
        raise ValueError("what a run is compared with is missing")
    if (name := source_name(options.source)) != before["source"]:
        raise SourceError(
            f"{shown(path)}: was begun on {shown(str(before['source']))}, not on {name}; give that source, {_ANEW}"
        )
    for name, (default, parse) in KEPT.items():
        text = before["options"].get(name)
        try:
            was = default if text is None else parse(text)
        except argparse.ArgumentTypeError as error:
            raise ValueError(str(error)) from error
        now = options.given.get(name, was)
        same = now[1:] in (was[1:], (first, None)) if isinstance(now, Start) else now == was
        if not same:
            began = f"with --{name} {text}" if text is not None else f"without --{name}"
            raise SourceError(
                f"{shown(path)}: was begun {began}, not --{name} {_text(now)}; leave --{name} out, {_ANEW}"
            )
        setattr(options, name, was)
    options.start = Start(str(first), frame=first)


def check_same(now: Mapping[str, Any], before: Mapping[str, Any], path: str) -> None:
    """Refuse a run that does not make the results of the run before it.

    Args:
        now, before: :func:`provenance` of both.
        path: where the earlier one stands, for messages.

    Raises:
        SourceError: frames of another size, another first frame, another bundle or other settings.
    """
    size, was = (f"{about['width']} x {about['height']}" for about in (now, before))
    changed = [name for name, value in now["settings"].items() if before["settings"].get(name) != value]
    if size != was:
        problem = f"frames of {was} pixels, those of {now['source']} are {size} now; give the source that it was"
    elif now["first_frame_crc32"] != before["first_frame_crc32"]:
        problem = f"another first frame than {now['source']} has now; give the source that it was"
    elif now["bundle_sha256"] != before["bundle_sha256"]:
        problem = "another bundle; give the same --bundle"
    elif changed:
        name = changed[0]
        problem = f"{name} {before['settings'].get(name)}, which is {now['settings'][name]} now; give the same --bundle"
    else:
        return
    raise SourceError(f"{shown(path)}: was begun with {problem}, {_ANEW}")


def _text(value: Any) -> str:
    """An option as it is typed."""
    if isinstance(value, Start):
        return value.text
    return f"{value[0]},{value[1]}" if isinstance(value, tuple) else str(value)
