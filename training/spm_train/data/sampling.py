"""Training samples: a template crop, a search crop, and where things are in it.

Every sample is a pure function of (seed, number): workers need no state, a run that was killed goes on with exactly
the samples it would have seen, and any sample can be looked at again.

Samples come in twos of one category (numbers 2 m and 2 m + 1). The trainer compares each search crop with its own
template (pairs of one instance) and with another sample's template as well: the other half of its two (pairs of one
category) and a neighbour's (pairs of different categories). That gives the paper's 2 : 1 : 1 at the price of the
first half.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from spm_rt.errors import SourceError
from spm_rt.settings import ModelSpec

from ..config import SamplingConfig
from .augment import box_around, change_colors, cover, lower_detail, put, soften, surround, to_grey
from .crop import Window, cut, window_around
from .readers import Boxes, Image, Instance, Reader, is_held_out

MAX_OTHERS = 4
"""Boxes of other objects kept per search crop."""


class Sample(NamedTuple):
    """One pair; boxes in pixels of the full 271 x 271 crop."""

    template: Image
    """[template_side, template_side, 3] BGR"""
    search: Image
    """[search_side, search_side, 3] BGR"""
    template_box: Boxes
    """[4]"""
    box: Boxes
    """[4], the target in the search crop"""
    others: Boxes
    """[MAX_OTHERS, 4], other objects in the search crop; unused rows are NaN"""
    same: np.ndarray
    """[MAX_OTHERS] bool: the other object is of the target's category"""
    category: int
    instance: int


_Others = list[tuple[Boxes, bool]]
"""Boxes ``[4]`` of other objects in pixels of the full crop, each with whether it is of the target's category."""


class _Entry(NamedTuple):
    reader: int
    instance: Instance
    category: int


class PairSampler(Dataset[Sample]):
    """Draws samples from several readers. ``held_out`` picks the validation part instead of the training part."""

    def __init__(
        self, readers: Sequence[Reader], config: SamplingConfig, spec: ModelSpec, seed: int, held_out: bool = False
    ) -> None:
        self.readers, self.config, self.spec, self.seed = list(readers), config, spec, seed
        every = config.held_out_every
        names: dict[str, int] = {}
        self.entries: list[_Entry] = []
        self._in_picture: dict[tuple[int, int], list[int]] = defaultdict(list)
        for number, reader in enumerate(self.readers):
            for instance in reader.instances:
                if is_held_out(instance.group, every) != held_out:
                    continue
                category = names.setdefault(instance.category, len(names))
                for picture in instance.pictures:
                    self._in_picture[number, picture].append(len(self.entries))
                self.entries.append(_Entry(number, instance, category))
        if not self.entries:
            part = "held-out part" if held_out else "training part"
            raise SourceError(f"nothing to draw from: the {part} of {[r.name for r in self.readers]} is empty")
        self.categories = list(names)
        self._by_category: dict[int, list[int]] = defaultdict(list)
        by_set: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for i, entry in enumerate(self.entries):
            self._by_category[entry.category].append(i)
            by_set[entry.instance.data_set][entry.instance.group].append(i)
        unknown = sorted(set(config.weights) - set(by_set))
        if unknown and not held_out:
            raise SourceError(
                f"weights given for data sets that are not there: {', '.join(unknown)} "
                f"(there are: {', '.join(sorted(by_set))})"
            )
        self.set_names = sorted(by_set)
        self._groups = [list(by_set[name].values()) for name in self.set_names]
        shares = [config.weights.get(name, math.sqrt(len(by_set[name]))) for name in self.set_names]
        if sum(shares) <= 0:
            shares = [1.0] * len(shares)
        self.shares = {name: share / sum(shares) for name, share in zip(self.set_names, shares, strict=True)}
        self._limits = list(itertools.accumulate(self.shares.values()))

    def __getitem__(self, number: int) -> Sample:
        """Sample ``number`` (0, 1, 2, ...); see the module's text for how neighbours belong together."""
        first = self._draw(np.random.default_rng((self.seed, 1, number // 2)))
        if number % 2 == 0:
            chosen = first
        else:
            rng = np.random.default_rng((self.seed, 2, number // 2))
            rivals = self._rivals(first, rng.random() < self.config.beside)
            chosen = rivals[int(rng.integers(len(rivals)))] if rivals else self._draw(rng)
        return self.make(chosen, np.random.default_rng((self.seed, 3, number)))

    def _rivals(self, first: int, beside: bool) -> list[int]:
        """Other entries of the category; ``beside``: of the same clip or picture alone, if there are any."""
        entry = self.entries[first]
        rivals = [i for i in self._by_category[entry.category] if i != first]
        near = [i for i in rivals if self.entries[i].instance.group == entry.instance.group] if beside else []
        return near or rivals

    def make(self, index: int, rng: np.random.Generator) -> Sample:
        """A sample of entry ``index``."""
        entry, augment, spec = self.entries[index], self.config.augment, self.spec
        instance, reader = entry.instance, self.readers[entry.reader]
        a, b = self._two_frames(len(instance.pictures), rng)
        flip = rng.random() < augment.mirror
        turned = int(rng.integers(2)) if rng.random() < augment.turn_round else -1
        detail = float(rng.uniform(0.22, 0.7)) if rng.random() < augment.low_detail else 1.0
        grey = rng.random() < augment.grey

        moves = self._moved_sides(rng)
        boxes_a, boxes_b = (move_sides(instance.boxes[at : at + 1], moves) for at in (a, b))

        angle = math.radians(float(rng.uniform(-15, 15))) if rng.random() < augment.template_angle else 0.0
        template_window = window_around(boxes_a[0], spec, (1.0, 1.0), angle, flip != (turned == 0))
        picture = reader.picture(instance.pictures[a])
        template = cut(picture, template_window, self.config.template_side, spec)
        template_box = template_window.to_crop(boxes_a, spec.crop_size)[0]
        is_still = len(instance.pictures) == 1
        if is_still and angle == 0 and rng.random() < augment.background:
            template, _ = self._surround(template, picture, boxes_a[0], template_window, rng)

        if b != a:
            picture = reader.picture(instance.pictures[b])
        window = self._search_window(boxes_b[0], flip != (turned == 1), rng)
        side = self.config.search_side
        search = cut(picture, window, side, spec)
        box = window.to_crop(boxes_b, spec.crop_size)[0]
        others = self._others(entry, index, instance.pictures[b], window)
        if rng.random() < (augment.background if is_still else augment.video_background):
            search, kept = self._surround(search, picture, boxes_b[0], window, rng)
            others = [(other, is_same) for other, is_same in others if _share_inside(other, kept) > 0.6]
        if rng.random() < augment.paste:
            search, pasted = self._paste(search, box, index, rng)
            others += pasted
        if rng.random() < augment.occlusion:
            patch = self._patch(int(rng.integers(len(self.entries))), rng)
            search = cover(search, box - np.float32(self._origin(side)), patch, rng)
        if detail < 1:
            template, search = lower_detail(template, detail), lower_detail(search, detail)
        template = soften(change_colors(template, rng, augment), rng, augment)
        search = soften(change_colors(search, rng, augment), rng, augment)
        if grey:
            template, search = to_grey(template), to_grey(search)
        boxes = np.full((MAX_OTHERS, 4), np.nan, np.float32)
        flags = np.zeros(MAX_OTHERS, bool)
        for i, seen in enumerate(others[-MAX_OTHERS:]):
            boxes[i], flags[i] = seen
        return Sample(template, search, template_box, box, boxes, flags, entry.category, index)

    def _draw(self, rng: np.random.Generator) -> int:
        """An entry: first a data set by its share, then one of its clips or pictures, then an object in it."""
        chosen = min(bisect.bisect_right(self._limits, float(rng.random())), len(self._groups) - 1)
        groups = self._groups[chosen]
        group = groups[int(rng.integers(len(groups)))]
        return group[int(rng.integers(len(group)))]

    def _two_frames(self, count: int, rng: np.random.Generator) -> tuple[int, int]:
        a = int(rng.integers(count))
        low, high = max(0, a - self.config.max_gap), min(count - 1, a + self.config.max_gap)
        return a, int(rng.integers(low, high + 1))

    def _moved_sides(self, rng: np.random.Generator) -> Boxes:
        """How far the box's sides move out (``[4]``, shares of its width and height): no side, or all four."""
        augment = self.config.augment
        if rng.random() >= augment.extent:
            return np.zeros(4, np.float32)
        return rng.normal(0, augment.extent_deviation, 4).clip(-0.3, 0.3).astype(np.float32)

    def _search_window(self, box: Boxes, mirror: bool, rng: np.random.Generator) -> Window:
        """A window around a last position that is off by a shift, a size and an aspect, as in tracking."""
        augment = self.config.augment
        size = np.exp(rng.normal(0, augment.scale) + rng.normal(0, augment.scale / 3, 2))
        last_size = (box[2:] - box[:2]) * np.clip(size, 0.55, 1.8)
        deviation, limit = augment.aspect, augment.aspect_limit
        if augment.wide_aspect and rng.random() < augment.wide_aspect:
            deviation, limit = augment.wide_aspect_deviation, augment.wide_aspect_limit
        stretch = math.exp(float(np.clip(rng.normal(0, deviation), -limit, limit)) / 2)
        last = box_around((box[:2] + box[2:]) / 2, last_size)
        window = window_around(last, self.spec, (stretch, 1 / stretch), 0.0, mirror)
        if rng.random() < augment.wide_shift:
            shift = rng.uniform(-augment.shift, augment.shift, 2)
        else:
            shift = np.clip(rng.normal(0, augment.shift / 4, 2), -augment.shift, augment.shift)
        pixel = window.width / self.spec.crop_size, window.height / self.spec.crop_size
        return dataclasses.replace(
            window, left=window.left + float(shift[0]) * pixel[0], top=window.top + float(shift[1]) * pixel[1]
        )

    def _others(self, entry: _Entry, index: int, picture: int, window: Window) -> _Others:
        """Other objects of the picture whose centre lies inside the search crop."""
        others: _Others = []
        for i in self._in_picture[entry.reader, picture]:
            if i == index:
                continue
            other = self.entries[i]
            at = other.instance.pictures.index(picture)
            box = window.to_crop(other.instance.boxes[at : at + 1], self.spec.crop_size)[0]
            if self._in_search_crop((box[:2] + box[2:]) / 2):
                others.append((box, other.category == entry.category))
        return others

    def _in_search_crop(self, point: np.ndarray) -> bool:
        side = self.config.search_side
        origin = self._origin(side)
        return bool((point > origin).all() and (point < origin + side).all())

    def _origin(self, side: int) -> float:
        """The first pixel, in x and y, of a crop of ``side`` pixels in the full crop."""
        return (self.spec.crop_size - side) / 2

    def _surround(
        self, crop: Image, picture: Image, box: Boxes, window: Window, rng: np.random.Generator
    ) -> tuple[Image, Boxes]:
        """The object with some of its surroundings on another picture; also what was kept, in full-crop pixels."""
        margin = (box[2:] - box[:2]) * rng.uniform(0.05, 0.9, 2)
        low = np.maximum(box[:2] - margin * rng.uniform(0.5, 1.0, 2), 0)
        high = np.minimum(box[2:] + margin * rng.uniform(0.5, 1.0, 2), np.array(picture.shape[1::-1]) - 1)
        keep = window.to_crop(np.concatenate([low, high])[None].astype(np.float32), self.spec.crop_size)[0]
        other, _ = self._any_picture(int(rng.integers(len(self.entries))), rng)
        side = max(8, int(min(other.shape[:2]) * rng.uniform(0.5, 1.0)))
        top, left = int(rng.integers(other.shape[0] - side + 1)), int(rng.integers(other.shape[1] - side + 1))
        background, inner = other[top : top + side, left : left + side], keep - np.float32(self._origin(crop.shape[0]))
        return surround(crop, inner, background, float(rng.uniform(1, 8))), keep

    def _any_picture(self, index: int, rng: np.random.Generator) -> tuple[Image, Boxes]:
        """One of the pictures of an entry, and its box ``[4]`` there."""
        entry = self.entries[index]
        number = int(rng.integers(len(entry.instance.pictures)))
        return self.readers[entry.reader].picture(entry.instance.pictures[number]), entry.instance.boxes[number]

    def _patch(self, index: int, rng: np.random.Generator) -> Image:
        """The pixels inside the box of an entry, in one of its pictures."""
        picture, box = self._any_picture(index, rng)
        x1, y1, x2, y2 = np.round(box).astype(int)
        patch = picture[max(0, y1) : max(1, y2), max(0, x1) : max(1, x2)]
        return patch if patch.size else picture

    def _paste(self, search: Image, target: Boxes, index: int, rng: np.random.Generator) -> tuple[Image, _Others]:
        """Another object beside the target, half the time one of its own category, if there is room for it."""
        category, anything = self.entries[index].category, int(rng.integers(len(self.entries)))
        rivals = self._by_category[category if rng.random() < 0.5 else self.entries[anything].category]
        other = rivals[int(rng.integers(len(rivals)))]
        if other == index:  # a copy of the target, called wrong, would teach that what looks like the target is not it
            other = anything
        if other == index:
            return search, []
        patch = self._patch(other, rng)
        size = float(np.sqrt((target[2] - target[0]) * (target[3] - target[1]))) * rng.uniform(0.6, 1.2)
        aspect = math.sqrt(patch.shape[1] / patch.shape[0])
        width, height = size * aspect, size / aspect
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.85, 1.5)
        beside_x = np.cos(angle) * reach * (width + target[2] - target[0]) / 2
        beside_y = np.sin(angle) * reach * (height + target[3] - target[1]) / 2
        center = (target[:2] + target[2:]) / 2 + np.array([beside_x, beside_y])
        box = box_around(center, np.array([width, height])).astype(np.float32)
        if _common_area(box, target) > 0.2 * (target[2:] - target[:2]).prod() or not self._in_search_crop(center):
            return search, []
        pasted = put(search, box - np.float32(self._origin(len(search))), patch)
        return pasted, [(box, self.entries[other].category == category)]


def move_sides(boxes: Boxes, moves: Boxes) -> Boxes:
    """Boxes ``[N, 4]`` with their sides moved out by shares ``[4]`` (left, top, right, bottom) of width and height."""
    sizes = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return np.asarray(boxes + sizes * moves * np.array([-1, -1, 1, 1], np.float32), np.float32)


def _share_inside(box: Boxes, frame: Boxes) -> float:
    """Share of ``box``'s area inside ``frame``, both ``[4]``."""
    return float(_common_area(box, frame) / max(1e-6, float((box[2:] - box[:2]).prod())))


def _common_area(a: Boxes, b: Boxes) -> np.float32:
    area: np.float32 = np.maximum(0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).prod()
    return area
