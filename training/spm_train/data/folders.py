"""Readers of the public data sets' own layouts: GOT-10k, COCO and ImageNet VID."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

import numpy as np

from spm_rt.errors import SourceError
from spm_rt.media.datasets import usable
from spm_rt.media.datasets.folders import read_target, sequence_pictures
from spm_rt.media.datasets.pairing import in_order
from spm_rt.media.datasets.rows import read_lines
from spm_rt.media.pictures import read_picture

from .readers import Collection, Image, corners, read_text

MIN_SIDE = 8.0
"""Boxes with a shorter side, in pixels, are left out of COCO and VID: they hold too little to learn from."""


class _Folder(Collection):
    """Pictures that are files."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.paths: list[Path] = []

    def picture(self, index: int) -> Image:
        return read_picture(self.paths[index])


class Got10k(_Folder):
    """GOT-10k's layout: one folder per clip with ``groundtruth.txt`` (x,y,w,h per frame) beside its frames.

    Pictures, boxes and marks are read as :func:`spm_rt.media.datasets.finding.find_sequences` reads them:
    ``absence.label``, where present, takes frames out, and so does a box of no size; test sequences, which have one
    box, are left out.
    ``meta_info.ini`` gives the category. The folder may be the root of the set, its ``train`` or ``val``, or any
    folder of such clips.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root.name)
        clips = sorted(path.parent for path in root.glob("**/groundtruth.txt"))
        if not clips:
            raise SourceError(f"{root}: no groundtruth.txt in any folder below; is this the GOT-10k layout?")
        for clip in clips:
            self._read_clip(clip)
        self.check(root)

    def _read_clip(self, clip: Path) -> None:
        files = sequence_pictures(clip)
        boxes, frames = read_target(clip, frozenset(os.listdir(clip)), clip / "groundtruth.txt", files)
        seen = np.flatnonzero(usable(boxes))
        if len(boxes) == 1 < len(frames):
            self.left_out.append(f"{clip.name}: 1 box for {len(frames)} pictures, a test sequence")
        elif len(seen) == 0:
            self.left_out.append(f"{clip.name}: none of {len(boxes)} pictures has a box")
        else:
            category, size = _about(clip / "meta_info.ini")
            if size is None:
                height, width = read_picture(frames[0]).shape[:2]
                size = width, height
            first = len(self.paths)
            self.paths += frames[: len(boxes)]
            self.sizes |= dict.fromkeys(range(first, len(self.paths)), size)
            boxes[:, 2:] += boxes[:, :2]
            self.add(category, clip.name, "got10k", (first + seen).tolist(), boxes[seen])


def _about(path: Path) -> tuple[str, tuple[int, int] | None]:
    """The category that GOT-10k's ``meta_info.ini`` names, and the width and height of the clip's pictures."""
    text = "\n".join(line for _, line in read_lines(path)) if path.is_file() else ""
    category = re.search(r"^object_class:[ \t]*(.+)", text, re.MULTILINE)
    size = re.search(r"^resolution:[ \t]*\(([0-9]{1,6}), *([0-9]{1,6})\)", text, re.MULTILINE)
    return category[1] if category else "object", (int(size[1]), int(size[2])) if size else None


class Coco(_Folder):
    """COCO's layout: a JSON file of annotations, and a folder of pictures.

    Args:
        annotations: ``instances_train2017.json`` or any file of that form.
        pictures: the folder; if not given, ``../train2017`` for ``instances_train2017.json`` and so on.
    """

    def __init__(self, annotations: Path, pictures: Path | None = None) -> None:
        super().__init__(annotations.stem)
        pictures = pictures or annotations.parent.parent / annotations.stem.removeprefix("instances_")
        try:
            content = json.loads(read_text(annotations))
            names = {int(c["id"]): str(c["name"]) for c in content["categories"]}
            if not names:
                raise SourceError(f"{annotations}: no categories in it")
            number: dict[int, int] = {}
            for image in content["images"]:
                number[int(image["id"])] = len(self.paths)
                self.sizes[len(self.paths)] = (int(image["width"]), int(image["height"]))
                self.paths.append(pictures / str(image["file_name"]))
            for item in content["annotations"]:
                if item.get("iscrowd") or min(float(side) for side in item["bbox"][2:]) < MIN_SIDE:
                    continue
                picture = number[int(item["image_id"])]
                name = names[int(item["category_id"])]
                self.add(name, self.paths[picture].name, "coco", [picture], [corners(item["bbox"])])
        except SourceError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{annotations}: not in COCO's form ({error!r})") from error
        present = set(os.listdir(pictures)) if pictures.is_dir() else set()
        missing = [path for path in self.paths if path.name not in present]
        if missing:
            raise SourceError(
                f"{pictures}: {len(missing)} of {len(self.paths)} pictures are missing, the first is {missing[0].name}"
            )
        self.check(annotations)


class ImagenetVid(_Folder):
    """ImageNet VID's layout: ``Annotations/VID/**/CLIP/000000.xml`` and ``Data/VID/**/CLIP/000000.JPEG``.

    Args:
        root: the folder that holds ``Annotations`` and ``Data``.
        step: every how many frames one is kept; the full set has 1.1 million, ten a second is plenty.
    """

    def __init__(self, root: Path, step: int = 3) -> None:
        super().__init__(root.name)
        annotations = root / "Annotations"
        by_clip: dict[Path, list[Path]] = defaultdict(list)
        for folder, _, files in os.walk(annotations):
            listed = in_order(Path(folder, file) for file in files if file.endswith(".xml"))
            if listed:
                by_clip[Path(folder)] = listed[::step]
        if not by_clip:
            raise SourceError(f"{annotations}: no .xml file below; is this the ImageNet VID layout?")
        for clip in sorted(by_clip):
            self._read_clip(clip, root / "Data" / clip.relative_to(annotations), by_clip[clip])
        self.check(root)

    def _read_clip(self, clip: Path, pictures: Path, files: list[Path]) -> None:
        tracks: dict[str, list[tuple[int, list[float]]]] = defaultdict(list)
        categories: dict[str, str] = {}
        present = {Path(f).stem: f for f in os.listdir(pictures)} if pictures.is_dir() else {}
        for file in files:
            try:
                tree = ElementTree.parse(file).getroot()
                width, height = (int(tree.findtext(f"size/{k}", "")) for k in ("width", "height"))
                objects = [
                    (
                        o.findtext("trackid", "0"),
                        o.findtext("name", ""),
                        [float(o.findtext(f"bndbox/{k}", "")) for k in ("xmin", "ymin", "xmax", "ymax")],
                    )
                    for o in tree.findall("object")
                ]
            except (OSError, ElementTree.ParseError, ValueError) as error:
                raise SourceError(f"{file}: not in ImageNet VID's form ({error})") from error
            if file.stem not in present:
                raise SourceError(f"{pictures / file.stem}: the picture is missing")
            number = len(self.paths)
            self.paths.append(pictures / present[file.stem])
            self.sizes[number] = (width, height)
            for track, category, box in objects:
                if min(box[2] - box[0], box[3] - box[1]) >= MIN_SIDE:
                    tracks[track].append((number, box))
                    categories[track] = category
        for track, seen in tracks.items():
            self.add(categories[track], clip.name, "vid", *zip(*seen, strict=True))
