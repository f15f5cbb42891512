"""Results as one JSON file as of COCO, with videos and tracks as in TAO and YouTube-VIS."""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import SourceError
from ..files import written_whole
from ..media.drawing import Picture
from ..media.protocol import SourceFrame
from .base import Targets, label, number, reason

_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


class CocoOutput:
    """``videos`` (one), ``images`` (frames), ``tracks`` (targets), ``categories`` (one), ``annotations``.

    A target has no annotation in a frame where it was not found. Boxes are ``x, y, width, height``, the first pixel
    being 0; all ids count from 1, ``frame_index`` from 0.

    Args:
        path: of the file.
        video: name of what was tracked on.
        targets: names of all targets.
    """

    def __init__(self, path: str, video: str, targets: Sequence[str]) -> None:
        self.label, self.note, self.frames = label(path), "", 0
        self._video, self._size = video, (0, 0)
        self._tracks = {name: index for index, name in enumerate(targets, 1)}
        self._images: list[str] = []
        self._annotations: list[tuple[int, str]] = []
        self._open = contextlib.ExitStack()
        self._part = self._open.enter_context(written_whole(Path(path)))

    def write(self, frame: SourceFrame, targets: Targets, drawn: Callable[[], Picture]) -> None:
        height, width = frame.picture.shape[:2]
        self._size = self._size if self._images else (width, height)
        image = len(self._images) + 1
        name = frame.file or f"{self._video}/{frame.index + 1:06d}"
        about = {"id": image, "video_id": 1, "frame_index": frame.index, "file_name": name}
        time = None if frame.time is None else number(frame.time)
        self._images.append(json.dumps({**about, "width": width, "height": height, "time": time}))
        for target, (box, result, _) in targets.items():
            track = self._tracks.setdefault(target, len(self._tracks) + 1)
            if result is None or result.found:
                bbox = [number(value) for value in box]
                content: dict[str, Any] = {
                    "id": len(self._annotations) + 1,
                    **{"image_id": image, "video_id": 1, "track_id": track, "category_id": 1},
                    **{"bbox": bbox, "area": number(box[2] * box[3]), "iscrowd": 0},
                    "score": 1.0 if result is None else number(result.score),
                }
                self._annotations.append((image, json.dumps(content, allow_nan=False)))

    def finish(self) -> None:
        count, problem = len(self._images), ""
        while count:
            try:
                self._part.write_text(self._document(count), encoding="utf-8")
                break
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                problem = reason(error)
                count = count * 9 // 10  # what fits on the disk
        if not count:
            self._part.unlink()
        self._open.close()
        self.frames = count
        if problem:
            raise SourceError(f"{self.label}: {problem}")

    def close(self) -> None:
        self._part.unlink(missing_ok=True)
        self._open.close()

    def _document(self, count: int) -> str:
        """The first frames as a whole document."""
        width, height = self._size
        head = {
            "info": {"description": "boxes of spm_rt"},
            "licenses": [],
            "videos": [
                {
                    **{"id": 1, "name": self._video, "width": width, "height": height, "length": count},
                    **{"neg_category_ids": [], "not_exhaustive_category_ids": []},  # which TAO's toolkit looks for
                }
            ],
            "categories": [{"id": 1, "name": "target"}],
            "tracks": [
                {"id": track, "video_id": 1, "category_id": 1, "name": name} for name, track in self._tracks.items()
            ],
        }
        images = ",\n".join(self._images[:count])
        annotations = ",\n".join(text for image, text in self._annotations if image <= count)
        return f'{json.dumps(head)[:-1]},\n"images": [\n{images}\n],\n"annotations": [\n{annotations}\n]}}\n'
