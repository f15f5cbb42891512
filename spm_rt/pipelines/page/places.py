"""Which files and streams the page may open: those below the folders of the command line, and no others."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import SourceError
from ...files import shown
from ...media.pictures import SUFFIXES
from ...media.sources import is_camera

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts"),
    *(".wmv", ".flv", ".3gp", ".ogv", ".y4m", ".mxf", ".gif"),
)
"""Of files that are offered. Playlists are none: what they name may lie anywhere."""
MOST_LISTED, DEEPEST = 500, 6


class OutsideError(SourceError):
    """A path that leads out of the folders that were given."""

    status = 403


class Places:
    """What was given on the command line, by number: folders, single files, streams, cameras.

    Args:
        given: as on the command line.
        uploads: the folder for what is sent by the browser.
        most_upload: bytes that fit into it, all files together.

    Raises:
        SourceError: one of them is neither there nor a stream.
    """

    def __init__(self, given: Sequence[str], uploads: Path, most_upload: int) -> None:
        self.most_upload = most_upload
        self._uploads = uploads
        self._room = threading.Lock()
        self._folders: list[Path] = []
        self._single: list[str] = []
        for name in given:
            if os.path.isdir(name):
                self._folders.append(Path(os.path.realpath(name)))
            elif os.path.isfile(name):
                self._single.append(os.path.realpath(name))
            elif re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name) or is_camera(name) or name.startswith("/dev/video"):
                self._single.append(name)
            else:
                raise SourceError(f"{shown(name)}: no such file or folder, and no address of a stream")
        self._folders.append(Path(os.path.realpath(uploads)))

    def sources(self) -> list[dict[str, Any]]:
        """What can be opened: ``place`` and ``path`` to ask for it, ``name``, ``folder`` and ``kind`` to show."""
        singles = [
            {"place": -1 - k, "path": "", "name": shown_name(name), "folder": "", "kind": kind_of(name)}
            for k, name in enumerate(self._single)
        ]
        found = list(singles)
        for number, folder in reversed(list(enumerate(self._folders))):
            title = "uploads" if number == len(self._folders) - 1 else folder.name
            for path in _candidates(folder):
                if len(found) >= MOST_LISTED:
                    return found
                try:
                    name = self.resolve(number, path)
                except SourceError:
                    continue
                parent, last = os.path.split(path.removesuffix("/img"))
                about = {"name": last or title, "folder": f"{title}/{parent}" if parent else title}
                found.append({"place": number, "path": path, **about, "kind": kind_of(name)})
        return found

    def resolve(self, place: int, path: str) -> str:
        """The source behind a place and a path below it.

        Raises:
            OutsideError: the path leads out of its folder: ``..``, an absolute path, a link.
            SourceError: there is nothing, or nothing that can be opened.
        """
        if -len(self._single) <= place < 0:
            return self._single[-1 - place]
        if not 0 <= place < len(self._folders) or "\0" in path:
            raise SourceError("no such place")
        folder = self._folders[place]
        real = os.path.realpath(folder / path)
        if os.path.commonpath([real, folder]) != str(folder):
            raise OutsideError(f"{shown(path)}: outside the folders that the page was started with")
        if os.path.isdir(real) or (os.path.isfile(real) and _suffix(real) in (*VIDEO_SUFFIXES, *SUFFIXES)):
            return real
        raise SourceError(f"{shown(path)}: no such video, picture or folder")

    def upload_path(self, name: str, size: int) -> Path:
        """Where an uploaded file of ``size`` bytes goes.

        Raises:
            SourceError: it is no video, or too large for the room that is left.
        """
        clean = re.sub(r"[^\w.() -]+", "_", os.path.basename(name.replace("\\", "/"))).lstrip(".")[-100:]
        if _suffix(clean) not in VIDEO_SUFFIXES:
            raise SourceError(f"{shown(clean or name)}: no video ({', '.join(VIDEO_SUFFIXES)})")
        with self._room:
            held = sum(file.stat().st_size for file in self._uploads.iterdir())
            if size > self.most_upload - held:
                raise SourceError(
                    f"{shown(clean)}: {size / 1e6:.0f} MB, and there is room for {(self.most_upload - held) / 1e6:.0f} "
                    "MB of uploads; start the page with the folder of the video, or with a larger --upload-mb"
                )
        path, number = self._uploads / clean, 1
        while path.exists():
            number += 1
            path = self._uploads / f"{Path(clean).stem} {number}{_suffix(clean)}"
        return path

    def upload_address(self, path: Path) -> dict[str, Any]:
        """Place and path of an uploaded file."""
        return {"place": len(self._folders) - 1, "path": path.name}


def kind_of(name: str) -> str:
    """``stream``, ``camera``, ``pictures`` or ``video``."""
    if "://" in name:
        return "stream"
    if is_camera(name) or name.startswith("/dev/video"):
        return "camera"
    return "pictures" if os.path.isdir(name) else "video"


def shown_name(name: str) -> str:
    """A source's name as the page shows it: addresses without user and password, files without their folder."""
    return (
        re.sub(r"(?<=://)[^/@]*@", "", name) if "://" in name else os.path.basename(name.removesuffix("/img")) or name
    )


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _candidates(folder: Path) -> Iterator[str]:
    """Videos below a folder, and folders that hold pictures, in order; hidden ones and links to folders left out."""
    for where, folders, files in os.walk(folder):
        inner = os.path.relpath(where, folder)
        inner = "" if inner == "." else inner
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if inner.count(os.sep) < DEEPEST else []
        if sum(_suffix(name) in SUFFIXES and not name.startswith(".") for name in files) > 1:
            yield inner
        for name in sorted(files):
            if _suffix(name) in VIDEO_SUFFIXES and not name.startswith("."):
                yield os.path.join(inner, name)
