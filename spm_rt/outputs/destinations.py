"""Where outputs go: what cannot be written, is the source or another output is refused before anything is touched."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import SourceError
from ..files import standard_stream
from ..media.pictures import files_of_pattern, picture_files, would_be_read
from ..media.sources import path_of_url
from .base import KINDS, STANDARD_OUTPUT, Request, label, naming, suffix_of
from .sheet import PICTURE_SUFFIXES
from .video import VIDEO_SUFFIXES

LINES = ("csv", "jsonl", "mot", "otb")
"""Kinds that consist of lines, which can go to standard output."""
_SUFFIXES = {"video": ("a video", VIDEO_SUFFIXES), "sheet": ("a picture", PICTURE_SUFFIXES)}
"""Kinds whose names say what is written: what they are, and how their names end."""


def check_destinations(requests: Sequence[Request], source: str, bundle: str, targets: Sequence[str]) -> None:
    """Refuse what cannot work; nothing is written for that.

    Raises:
        SourceError: a kind or suffix that is not known, a folder that is not there, a path that is the source or one of
            its pictures, or would be one, the bundle or one of its files, or two outputs in one file, whatever links
            and spellings are between them.
    """
    taken: dict[object, str] = {}
    if source.lower().startswith("file://"):
        source = path_of_url(source)
    read: dict[object, str] = {_inode(path) or _place(path): "the source" for path in _files_of(source)}
    read.update((_inode(path), "a file of the bundle") for path in _files_of_bundle(bundle))
    read.pop(None, None)
    for request in requests:
        if request.kind not in KINDS:
            raise SourceError(f"{request.kind}: no kind of output; there are {', '.join(KINDS)}")
        _check_name(request)
        for path in paths_of(request, targets):
            _check_place(path)
            for identity in _identities(path):
                if identity in read:
                    raise SourceError(f"{label(path)}: this is {read[identity]}; give the output another name")
                if identity in taken:
                    raise SourceError(
                        f"{label(path)}: two outputs cannot be one file ({label(taken[identity])} is it too)"
                    )
                taken[identity] = path
            if _is_many(source) and path != STANDARD_OUTPUT and would_be_read(source, path):
                raise SourceError(
                    f"{label(path)}: the next run on {label(source)} would take this for a frame; write it elsewhere"
                )


def paths_of(request: Request, targets: Sequence[str]) -> list[str]:
    """The files of an output: one, or for OTB one for each target, ``boxes.rabbit.txt`` for ``boxes.txt``."""
    if request.kind != "otb" or len(targets) == 1:
        return [request.path]
    if request.path == STANDARD_OUTPUT:
        raise SourceError(f"-: OTB has one file for each of {len(targets)} targets, which cannot go to standard output")
    base, suffix = os.path.splitext(request.path)
    plain = all(re.fullmatch(r"[\w-][\w.-]{0,63}", name) for name in targets)
    names = targets if plain else [str(k) for k in range(1, len(targets) + 1)]
    return [f"{base}.{name}{suffix}" for name in names]


def _check_name(request: Request) -> None:
    kind, path = request.kind, request.path
    if request.resume_after is not None and kind != "jsonl":
        raise SourceError(f"{kind}: only jsonl goes on at the end of a file")
    if not path:
        raise SourceError(f"{kind}: the name of the output is empty")
    if path == STANDARD_OUTPUT:
        if kind not in LINES:
            raise SourceError(f"-: {KINDS[kind].split(':')[0]} cannot go to standard output; give it a name")
        return
    called, suffixes = _SUFFIXES.get(kind, ("", ()))
    if suffixes and suffix_of(path) not in suffixes:
        raise SourceError(f"{label(path)}: the name of {called} ends in {', '.join(suffixes)}")


def _check_place(path: str) -> None:
    if path == STANDARD_OUTPUT:
        return
    with naming(path):
        try:
            there = os.stat(path)
        except FileNotFoundError:
            there = None
        if path.endswith(("/", os.sep)) or (there and stat.S_ISDIR(there.st_mode)):
            raise SourceError(f"{label(path)}: this is a folder; give the file a name")
        folder = os.path.dirname(os.path.realpath(path))
        if not there and not os.path.isdir(folder):
            raise SourceError(f"{label(path)}: there is no folder {label(folder)}")


def _identities(path: str) -> Iterator[object]:
    """What two paths have in common if they lead to the same file, there or not."""
    if path == STANDARD_OUTPUT or (stream := standard_stream(path)) == 1:
        yield "standard output"
        return
    if stream is not None:
        return
    there = _inode(path)
    if there:
        if stat.S_ISCHR(os.stat(path).st_mode):  # any number of outputs fit into /dev/null
            return
        yield there
    yield _place(path)


def _place(path: str | os.PathLike[str] | int) -> object:
    """Where a file is, or would be, when all links are followed."""
    if isinstance(path, int):
        return None
    folder, name = os.path.split(os.path.realpath(path))
    if _ignores_case(folder):
        name = unicodedata.normalize("NFC", name).casefold()
    return _inode(folder), name


def _inode(path: str | int | os.PathLike[str]) -> tuple[int, int] | None:
    try:
        there = os.stat(path)
    except (OSError, ValueError):
        return None
    return there.st_dev, there.st_ino


def _is_file(descriptor: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _ignores_case(folder: str) -> bool:
    """Whether a folder is found under another spelling, as on macOS and Windows."""
    other = folder.swapcase()
    return other != folder and _inode(other) is not None and _inode(other) == _inode(folder)


def _files_of_bundle(bundle: str) -> list[str]:
    """A packed bundle, or the files in a bundle's folder, some of which may be links."""
    try:
        return [bundle, *(entry.path for entry in os.scandir(bundle))] if os.path.isdir(bundle) else [bundle]
    except OSError:
        return []


def _files_of(source: str) -> Sequence[Path | int]:
    """The files that a source is read from, standard input by its descriptor; none for cameras and streams."""
    if not source:
        return []
    if source == STANDARD_OUTPUT:  # a pipe and a terminal are no output's place, but `- < clip.mp4` is a file
        return [0] if _is_file(0) else []
    try:
        if os.path.isdir(source):
            return picture_files(source)
        if os.path.exists(source):
            return [Path(source)]
        return files_of_pattern(source) if _is_many(source) else []
    except (SourceError, OSError, ValueError):
        return []


def _is_many(source: str) -> bool:
    """Whether a source is a folder or a pattern, which takes up every file of certain names."""
    try:
        there, folder = os.path.exists(source), os.path.isdir(source)
    except ValueError:
        return False
    return folder or (not there and "://" not in source and bool(re.search(r"%0?[0-9]*d|[*?\[]", source)))
