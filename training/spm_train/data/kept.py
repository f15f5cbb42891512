"""Pictures that are decoded once, and shared by all processes that prepare samples."""

from __future__ import annotations

import mmap
import multiprocessing
from collections.abc import Sequence

import numpy as np

from .readers import Collection, Image, Instance


class KeptPictures:
    """A reader whose pictures stay in memory once they are decoded, as many as fit.

    The memory is shared by processes that are forked afterwards, whichever of them decodes a picture, and is taken
    from the system as it fills.

    Args:
        reader: the pictures; those whose size it does not know are decoded each time.
        room: bytes, 0 or more.
    """

    def __init__(self, reader: Collection, room: int) -> None:
        self._reader = reader
        places: dict[int, int] = {}
        self.size = 0
        for index, (width, height) in sorted(reader.sizes.items()):
            if self.size + 3 * width * height <= room:
                places[index] = self.size
                self.size += 3 * width * height
        pixels = np.frombuffer(mmap.mmap(-1, max(1, self.size)), np.uint8)
        self._views = {
            index: pixels[place : place + 3 * width * height].reshape(height, width, 3)
            for index, place in places.items()
            for width, height in [reader.sizes[index]]
        }
        self._shown = {index: view.view() for index, view in self._views.items()}
        for shown in self._shown.values():
            shown.flags.writeable = False
        self._there = np.frombuffer(mmap.mmap(-1, max(places, default=0) + 1), np.uint8)
        self._lock = multiprocessing.get_context("fork").Lock()
        self._seen: set[int] = set()

    @property
    def name(self) -> str:
        return self._reader.name

    @property
    def instances(self) -> Sequence[Instance]:
        return self._reader.instances

    def picture(self, index: int) -> Image:
        """Picture ``index``, not to be written to."""
        view = self._views.get(index)
        if view is None:
            return self._reader.picture(index)
        if index not in self._seen:
            # The lock orders what one process writes and another reads; each process takes it once for a picture.
            with self._lock:
                is_there = bool(self._there[index])
            if not is_there:
                picture = self._reader.picture(index)
                if picture.shape != view.shape:
                    return picture
                with self._lock:
                    view[...] = picture
                    self._there[index] = 1
            self._seen.add(index)
        return self._shown[index]
