"""Samples: where boxes end up, that a number alone decides a sample, and what is drawn how often."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from spm_rt.errors import SourceError
from spm_rt.settings import ModelSpec
from spm_train.config import AugmentConfig, SamplingConfig
from spm_train.data.crop import Window, cut, window_around
from spm_train.data.kept import KeptPictures
from spm_train.data.loading import batches
from spm_train.data.packed import PackedStills, PackedVideo
from spm_train.data.sampling import PairSampler
from tests.support.media.shapes import PLAIN

SPEC = ModelSpec()


@pytest.fixture
def sampler(stills: Path, video: Path) -> Callable[..., PairSampler]:
    def make(held_out: bool = False, **changes: object) -> PairSampler:
        config = SamplingConfig(**{"held_out_every": 0, **changes})  # type: ignore[arg-type]
        return PairSampler([PackedStills(stills), PackedVideo(video)], config, SPEC, seed=7, held_out=held_out)

    return make


@pytest.fixture
def draw(sampler: Callable[..., PairSampler]) -> PairSampler:
    return sampler()


def test_window_is_the_releases() -> None:
    # A 40 x 20 box: c = 30, s_z = sqrt(70 * 50), window side = s_z * 271 / 127.
    window = window_around([10, 20, 50, 40], SPEC)
    side = (70 * 50) ** 0.5 * 271 / 127
    assert window.width == pytest.approx(side)
    assert window.left == pytest.approx(30 - side / 2)
    assert window.to_crop(np.array([[10, 20, 50, 40]], np.float32), 271)[0].sum() / 4 == pytest.approx(135.5, abs=1e-3)


def test_cut_samples_at_the_releases_points() -> None:
    y, x = np.mgrid[0:200, 0:300]
    picture = np.stack([x / 2, y / 2, (x + y) / 4], axis=-1).astype(np.uint8)
    window = Window(20.0, 10.0, 135.0, 135.0)
    crop = cut(picture, window, 271, SPEC)
    j = np.arange(271)
    assert np.abs(crop[135, :, 0] - (20 + j * 135 / 270) / 2).max() < 1.5
    assert np.abs(crop[:, 135, 1] - (10 + j * 135 / 270) / 2).max() < 1.5
    small = cut(picture, window, 207, SPEC)
    assert np.abs(small.astype(int) - crop[32:239, 32:239]).max() <= 1
    mirrored = cut(picture, Window(20.0, 10.0, 135.0, 135.0, 0.0, True), 271, SPEC)
    assert np.abs(mirrored[:, ::-1].astype(int) - crop).max() <= 1


def test_boxes_frame_the_object(draw: PairSampler, sampler: Callable[..., PairSampler]) -> None:
    for number in range(16):
        sample = draw[number]
        assert sample.template.shape == (143, 143, 3)
        assert sample.search.shape == (207, 207, 3)
        center = (sample.template_box[:2] + sample.template_box[2:]) / 2
        assert center == pytest.approx([135.5, 135.5], abs=1e-2), "also where mirrored"
        assert (sample.box[2:] > sample.box[:2]).all()
    plain = sampler(augment=PLAIN)
    for number in range(8):
        sample = plain[number]
        assert np.abs((sample.box[:2] + sample.box[2:]) / 2 - 135.5).max() < 1
        x1, y1, x2, y2 = (sample.box - 32).astype(int)
        inside = sample.search[y1 + 20 : y2 - 20, x1 + 10 : x2 - 10].reshape(-1, 3).astype(int)
        assert (inside.max(1) - inside.min(1)).mean() > 80


@pytest.mark.parametrize("turned", [0.0, 1.0])
def test_a_changed_extent_is_the_same_in_both_crops(sampler: Callable[..., PairSampler], turned: float) -> None:
    draw = sampler(augment=dataclasses.replace(PLAIN, extent=1.0, extent_deviation=0.13, turn_round=turned))
    for reader in draw.readers:  # the objects white on black, to be found in the crops
        boxes = {p: b for i in reader.instances for p, b in zip(i.pictures, i.boxes, strict=True)}
        reader.picture = lambda number, boxes=boxes: _white(boxes[number])  # type: ignore[method-assign]
    seen = []
    for number in range(12):
        sample = draw[number]
        template = _moves(sample.template, sample.template_box)
        search = _moves(sample.search, sample.box)
        np.testing.assert_allclose(search[[2, 1, 0, 3]] if turned else search, template, atol=0.06)
        seen.append(template)
    assert np.std(seen, axis=0).min() > 0.05, "each side by itself"
    assert np.ptp(seen, axis=1).min() > 0.06, "and not all alike"


def _white(box: np.ndarray) -> np.ndarray:
    x1, y1, x2, y2 = np.round(box).astype(int)
    picture = np.zeros((72, 96, 3), np.uint8)
    picture[y1:y2, x1:x2] = 255
    return picture


def _moves(crop: np.ndarray, box: np.ndarray) -> np.ndarray:
    """How far the sides of the box lie outside what is white in the crop, as shares of that."""
    rows, columns = (np.flatnonzero(crop[..., 0].max(axis=axis) > 127) for axis in (1, 0))
    at = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) + (271 - len(crop)) / 2
    size = np.tile(at[2:] - at[:2], 2)
    return (box - at) * [-1, -1, 1, 1] / size


def test_another_object_beside_is_compared_where_there_is_one(video: Path) -> None:
    tracks = json.loads((video / "tracks.json").read_text())
    for clip in tracks["clips"]:  # two objects of one category in every clip, and clips of one category
        clip["tracks"] = [{"category": "shape", "boxes": clip["tracks"][0]["boxes"]}] * 2
    (video / "tracks.json").write_text(json.dumps(tracks))
    for beside, same_clip in ((1.0, {True}), (0.0, {True, False})):
        config = SamplingConfig(held_out_every=0, beside=beside)
        draw = PairSampler([PackedVideo(video)], config, SPEC, seed=7)
        twos = [[draw.entries[draw[2 * i + j].instance] for j in (0, 1)] for i in range(30)]
        assert all(a.instance is not b.instance for a, b in twos)
        assert {a.instance.group == b.instance.group for a, b in twos} == same_clip


def test_nothing_is_pasted_beside_itself(video: Path) -> None:
    config = SamplingConfig(held_out_every=0, augment=dataclasses.replace(PLAIN, paste=1.0))
    draw = PairSampler([PackedVideo(video)], config, SPEC, seed=7)  # every object is the only one of its category
    seen: list[int] = []
    patch = draw._patch
    draw._patch = lambda index, rng: seen.append(index) or patch(index, rng)  # type: ignore[func-returns-value, method-assign]
    for index in range(len(draw.entries)):
        seen.clear()
        for seed in range(12):
            draw.make(index, np.random.default_rng(seed))
        assert seen
        assert index not in seen


def test_a_sample_depends_on_seed_and_number_alone(draw: PairSampler, sampler: Callable[..., PairSampler]) -> None:
    second = sampler()
    second[3]
    for number in (5, 0, 11):
        for a, b in zip(draw[number], second[number], strict=True):
            np.testing.assert_array_equal(a, b)


def test_samples_come_in_twos_of_one_category(draw: PairSampler) -> None:
    twos = [(draw[2 * i], draw[2 * i + 1]) for i in range(20)]
    assert all(a.category == b.category for a, b in twos), "every category has two objects here"
    assert all(a.instance != b.instance for a, b in twos)


def test_shares_of_data_sets(sampler: Callable[..., PairSampler]) -> None:
    draw = sampler(weights={"stills": 0.0, "made up": 1.0})
    assert {draw.entries[draw[2 * i].instance].instance.data_set for i in range(20)} == {"made up"}
    with pytest.raises(SourceError, match="weights given for data sets that are not there: cars"):
        sampler(weights={"cars": 1.0})


def test_held_out_groups_are_not_trained_on(sampler: Callable[..., PairSampler]) -> None:
    train, held = sampler(held_out_every=3), sampler(held_out_every=3, held_out=True)
    assert {e.instance.group for e in train.entries}.isdisjoint(e.instance.group for e in held.entries)
    with pytest.raises(SourceError, match="training part"):
        sampler(held_out_every=1)


def test_workers_change_nothing(draw: PairSampler) -> None:
    cpu = torch.device("cpu")
    alone, helped = (list(batches(draw, 2, 0, 4, workers, cpu)) for workers in (0, 2))
    late = list(batches(draw, 2, 2, 4, 0, cpu))
    for a, b in zip(alone, helped, strict=True):
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(x, y, equal_nan=True)
    torch.testing.assert_close(late[0].search, alone[2].search)


def test_some_search_crops_are_stretched_far(sampler: Callable[..., PairSampler]) -> None:
    def aspects(**changes: float) -> np.ndarray:
        draw = sampler(augment=AugmentConfig(scale=0, **changes))
        windows = [
            draw._search_window(np.array([0, 0, 40, 40], np.float32), False, np.random.default_rng(i))
            for i in range(200)
        ]
        return np.abs(np.log([window.width / window.height for window in windows]))

    assert aspects().max() <= 0.3 + 1e-6
    assert np.allclose(aspects(), aspects(wide_aspect_limit=2.0)), "no share, no change"
    far = aspects(wide_aspect=0.4)
    assert far.max() == pytest.approx(0.9, abs=0.2)
    assert 0.1 < (far > 0.3).mean() < 0.3, "two fifths of the samples, two fifths of which pass 0.3"


class _Counting(PackedStills):
    """How often pictures were decoded, by all processes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.decoded = multiprocessing.get_context("fork").Value("i", 0)

    def picture(self, index: int) -> np.ndarray:
        with self.decoded.get_lock():
            self.decoded.value += 1
        return super().picture(index)


def test_pictures_are_decoded_once_for_all_processes(stills: Path) -> None:
    plain, counting = PackedStills(stills), _Counting(stills)
    kept = KeptPictures(counting, 10**9)
    helper = multiprocessing.get_context("fork").Process(target=lambda: [kept.picture(i) for i in range(5)])
    helper.start()
    helper.join()
    assert helper.exitcode == 0
    for index in (*range(8), 0, 7):
        np.testing.assert_array_equal(kept.picture(index), plain.picture(index))
    assert counting.decoded.value == 8
    assert not kept.picture(0).flags.writeable
    assert (kept.name, kept.instances) == (counting.name, counting.instances)


def test_pictures_that_do_not_fit_are_decoded_each_time(stills: Path) -> None:
    counting = _Counting(stills)
    width, height = counting.sizes[0]
    kept = KeptPictures(counting, 2 * 3 * width * height)
    assert kept.size == 2 * 3 * width * height
    for index in (0, 1, 2, 0, 1, 2):
        kept.picture(index)
    assert counting.decoded.value == 4
