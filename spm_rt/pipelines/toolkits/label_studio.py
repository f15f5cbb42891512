"""A machine learning backend for Label Studio: rectangles that an annotator draws in a video are followed to its end.

Label Studio asks it, while a task is open, with the regions of the video (``VideoRectangle``) and gets them back with a
keyframe for every frame behind their last one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from ...results import Box
from ...trackers.single import Tracker

Region = Mapping[str, Any]
"""A result of Label Studio: its ``value`` has ``sequence``, a list of keyframes, with boxes in percent of the frame."""
RECTANGLE = "videorectangle"


def follow_regions(pictures: Iterable[NDArray[Any]], regions: Iterable[Region], tracker: Tracker) -> list[Region]:
    """Regions with keyframes behind their last one, up to the end of the video.

    Args:
        pictures: the video's frames, the first of which is Label Studio's frame 1.
        regions: of which only rectangles of videos are followed, and given back.
        tracker: whose graphs are used.

    Returns:
        The regions. Where the target is not found, one keyframe with ``enabled`` false ends the rectangle until it is.
    """
    followed = [(region, _after(region, tracker)) for region in regions if region["type"] == RECTANGLE]
    made: list[list[dict[str, Any]]] = [[] for _ in followed]
    for number, picture in enumerate(pictures, 1):
        for (_, step), keyframes in zip(followed, made, strict=True):
            keyframes += step(number, picture)
    return [
        {**region, "value": {**region["value"], "sequence": [*region["value"]["sequence"], *keyframes]}}
        for (region, _), keyframes in zip(followed, made, strict=True)
    ]


def _after(region: Region, tracker: Tracker) -> Any:
    """A function of a frame's number and picture that gives the region's keyframes there: none or one."""
    value = region["value"]
    last = max(value["sequence"], key=lambda keyframe: keyframe["frame"])
    rate = value["framesCount"] / value["duration"] if value.get("duration") else None
    own = tracker.sibling()
    shown = True

    def step(number: int, picture: NDArray[Any]) -> Iterator[dict[str, Any]]:
        nonlocal shown
        if number < last["frame"] or not last.get("enabled", True):
            return
        if number == last["frame"]:
            own.init(picture, _pixels(last, picture))
            return
        result = own.update(picture)
        if result.found or shown:
            time = {} if rate is None else {"time": (number - 1) / rate}
            percent = _percent(result.box, picture)
            yield {"frame": number, "enabled": result.found, "rotation": 0, **percent, **time}
        shown = result.found

    return step


def _pixels(keyframe: Region, picture: NDArray[Any]) -> Box:
    height, width = picture.shape[:2]
    x, y, w, h = (float(keyframe[name]) / 100 for name in ("x", "y", "width", "height"))
    return x * width, y * height, w * width, h * height


def _percent(box: Box, picture: NDArray[Any]) -> dict[str, float]:
    height, width = picture.shape[:2]
    sizes = (width, height, width, height)
    names = ("x", "y", "width", "height")
    return {name: 100 * value / size for name, value, size in zip(names, box, sizes, strict=True)}


def make_model(bundle: str = "spm_alexnet", backend: str = "auto", *, threads: int = 0, frames: int = 0) -> Any:
    """A class for ``label_studio_ml.api.init_app(model_class=...)``.

    Args:
        bundle: what ``spm-export`` wrote; loaded now.
        backend: inference library.
        threads: per inference call; 0: all usable cores.
        frames: of a video that are read at most; 0: all.
    """
    from label_studio_ml.model import LabelStudioMLBase

    from ...media import video

    tracker = Tracker.load(bundle, backend, threads=threads or None)

    class SpmTracker(LabelStudioMLBase):  # type: ignore[misc]
        """Predictions for the regions of the annotation that is open; none without one."""

        def predict(self, tasks: list[dict[str, Any]], context: Any = None, **_: Any) -> list[dict[str, Any]]:
            tags = {name: tag for name, tag in self.parsed_label_config.items() if tag["type"] == "VideoRectangle"}
            drawn = [region for region in (context or {}).get("result") or [] if region["from_name"] in tags]
            if not drawn:
                return []
            source = tags[drawn[0]["from_name"]]["inputs"][0]["value"]
            paths = [self.get_local_path(task["data"][source]) for task in tasks]
            films = [itertools.islice(video.frames(path), frames or None) for path in paths]
            return [{"result": follow_regions(film, drawn, tracker)} for film in films]

    return SpmTracker
