"""Readers of packed sets: many JPEG files one after the other in one file, with boxes in JSON beside it.

``PackedStills`` reads ``images.bin`` and ``index.jsonl``, ``PackedVideo`` reads ``frames.bin`` and ``tracks.json``;
docs/guide/train.md has both formats. The pictures are mapped, not loaded: workers share one copy in the page cache.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from spm_rt.errors import SourceError
from spm_rt.media.pictures import decode_picture

from .readers import Collection, Image, corners, read_text


class _Packed(Collection):
    """Pictures at offsets of one file."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name)
        self.spans: list[tuple[int, int]] = []
        if not path.is_file() or path.stat().st_size == 0:
            raise SourceError(f"{path}: no such file, or empty")
        self._path = path
        self._data = np.memmap(path, np.uint8, mode="r")

    def picture(self, index: int) -> Image:
        offset, length = self.spans[index]
        where = f"{self._path}: picture {index} at byte {offset}"
        if offset < 0 or length <= 0 or offset + length > len(self._data):
            raise SourceError(f"{where} lies outside the file")
        return decode_picture(np.asarray(self._data[offset : offset + length]), where)


class PackedStills(_Packed):
    """Photographs with boxes: every object is an instance with one picture."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder.name, folder / "images.bin")
        index = folder / "index.jsonl"
        for number, line in enumerate(read_text(index).splitlines(), start=1):
            try:
                entry: dict[str, Any] = json.loads(line)
                picture = len(self.spans)
                self.spans.append((int(entry["offset"]), int(entry["length"])))
                self.sizes[picture] = (int(entry["size"][0]), int(entry["size"][1]))
                group = f"{entry['source']}@{entry['offset']}"
                for item in entry["objects"]:
                    name = str(entry.get("data_set", self.name))
                    self.add(str(item["category"]), group, name, [picture], [corners(item["box"])])
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise SourceError(f"{index}, line {number}: not in the format of a packed index ({error!r})") from error
        self.check(folder)


class PackedVideo(_Packed):
    """Clips with a box on every kept frame: every track is an instance; frames without a box are left out."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder.name, folder / "frames.bin")
        path = folder / "tracks.json"
        try:
            clips = json.loads(read_text(path))["clips"]
            for clip in clips:
                first = len(self.spans)
                self.spans += [(int(offset), int(length)) for offset, length in clip["frames"]]
                size = int(clip["size"][0]), int(clip["size"][1])
                self.sizes |= dict.fromkeys(range(first, len(self.spans)), size)
                for track in clip["tracks"]:
                    seen = [(first + i, corners(box)) for i, box in enumerate(track["boxes"]) if box is not None]
                    if seen:
                        names = str(track["category"]), str(clip["name"]), str(clip["data_set"])
                        self.add(*names, *zip(*seen, strict=True))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise SourceError(f"{path}: not in the format of packed tracks ({error!r})") from error
        self.check(folder)
