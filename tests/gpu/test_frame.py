"""Region, crop, proposals and fusion kernels against the runtime's Python."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spm_export.model.network import make_anchors
from spm_rt.errors import BackendError
from spm_rt.frame.crop import MeanColor, crop_exact
from spm_rt.frame.fusion import extent_of, with_extent
from spm_rt.frame.geometry import Region, search_region, to_frame
from spm_rt.frame.proposals import select_proposals
from spm_rt.frame.steps import Proposals, TargetView, decide, measure
from spm_rt.gpu import kernels
from spm_rt.gpu.kernels import InputForm
from spm_rt.settings import ModelSpec, TrackerSettings

from ..support.emulator.host_build import SPEC, launch, settings_of, state_of
from ..support.fakes.watching import Onlooker
from ..support.stages import both_stages

Floats = NDArray[np.float32]
Array = NDArray[Any]
RAW = InputForm()
ANCHORS = make_anchors(SPEC).astype(np.float32)
SIZE = SPEC.crop_size
LongLong = ctypes.c_longlong

# Region.


def random_box(rng: np.random.Generator) -> NDArray[np.float64]:
    x, y = rng.uniform(-50, 700, 2)
    width, height = np.exp(rng.uniform(0, 6.5, 2))
    return np.array([x, y, x + width, y + height])


def region_of(state: NDArray[Any]) -> Region:
    return Region(*(float(v) for v in state["region"][0]), float(state["scale"][0]))


def test_the_search_region_is_the_runtimes_bit_by_bit(built: ctypes.CDLL) -> None:
    rng = np.random.default_rng(1)
    _, record = settings_of()
    for _ in range(2000):
        box = random_box(rng)
        state = state_of(box)
        state["sum"] = 7
        launch(built, kernels.begin_launch(1), state, record)
        assert region_of(state) == search_region(box, SPEC)
        assert (state["sum"] == 0).all()
        np.testing.assert_array_equal(state["box"][0], box)


# Crop.


def crop(library: ctypes.CDLL, frame: NDArray[np.uint8], state: NDArray[Any], form: InputForm = RAW) -> Array:
    """``[T, planes, S, S]``, or of a single target without the first axis, in the form's type and order (as bits)."""
    height, width = frame.shape[:2]
    channels = 1 if frame.ndim == 2 else frame.shape[2]
    pixel_step = frame.strides[1]
    start = ctypes.c_void_p(frame.ctypes.data)
    shape = (LongLong(frame.strides[0]), LongLong(pixel_step), height, width, channels, SIZE)
    bits = np.float32 if form.data == "float32" else np.uint16
    sides = (SIZE, SIZE, form.planes) if form.channels_last else (form.planes, SIZE, SIZE)
    out = np.full((len(state), *sides), -1 if bits is np.float32 else 7, bits)
    launch(library, kernels.sum_launch(len(state)), start, *shape, state)
    launch(library, kernels.crop_launch(SIZE, form.data, len(state)), start, *shape, state, *form.arguments, out)
    return out if len(state) > 1 else out[0]


def pictures() -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(2)
    picture = rng.integers(0, 256, (213, 320, 3), dtype=np.uint8)
    wide = rng.integers(0, 256, (213, 400, 3), dtype=np.uint8)
    return {
        "color": picture,
        "grey": np.ascontiguousarray(picture[:, :, 0]),
        "alpha": rng.integers(0, 256, (213, 320, 4), dtype=np.uint8),
        "padded rows": wide[:, :320],
        "turned over": picture[::-1, ::-1],
        "every second pixel": rng.integers(0, 256, (213, 640, 3), dtype=np.uint8)[:, ::2],
        "tiny": picture[:2, :2],
    }


BOXES = {
    "inside": [140, 90, 170, 118],
    "left": [-10, 60, 50, 110],
    "right and below": [290, 180, 340, 240],
    "larger than the frame": [-100, -80, 500, 300],
    "outside": [900, 900, 960, 950],
    "a pixel": [100, 100, 101, 101],
}


@pytest.mark.parametrize("name", pictures())
@pytest.mark.parametrize("place", BOXES)
def test_crops_are_the_exact_form_bit_by_bit(name: str, place: str, library: ctypes.CDLL) -> None:
    frame = pictures()[name]
    state = state_of(BOXES[place])
    launch(library, kernels.begin_launch(1), state, settings_of()[1])
    shaped = frame[:, :, None] if frame.ndim == 2 else frame
    wanted = crop_exact(shaped, search_region(np.array(BOXES[place], float), SPEC), SIZE)
    got = crop(library, frame, state)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("data", kernels.DATA_TYPES)
@pytest.mark.parametrize(("planes", "last"), [(3, False), (3, True), (8, True), (4, False)])
def test_crops_are_written_as_a_network_reads_them(data: str, planes: int, last: bool, library: ctypes.CDLL) -> None:
    frame, mean = pictures()["color"], np.array([102.5, 115.25, 122.0], np.float32)
    states = np.concatenate([state_of(BOXES[place]) for place in ("left", "inside")])
    launch(library, kernels.begin_launch(2), states, settings_of()[1])
    wanted = torch.from_numpy(crop(library, frame, states)) - torch.from_numpy(mean)[:, None, None]
    wanted = torch.nn.functional.pad(wanted, (0, 0, 0, 0, 0, planes - 3)).to(getattr(torch, data))
    states["sum"] = 0
    found = crop(library, frame, states, InputForm(data, planes, last, mean.ctypes.data))
    shown = wanted.permute(0, 2, 3, 1) if last else wanted
    np.testing.assert_array_equal(found.view(np.uint16), shown.contiguous().view(torch.uint16).numpy())


def test_the_mean_is_summed_only_where_it_is_needed(built: ctypes.CDLL) -> None:
    frame = pictures()["color"]
    inside, outside = (state_of(BOXES[place]) for place in ("inside", "outside"))
    for state in (inside, outside):
        launch(built, kernels.begin_launch(1), state, settings_of()[1])
        crop(built, frame, state)
    assert (inside["sum"] == 0).all()
    np.testing.assert_array_equal(outside["sum"][0], frame.reshape(-1, 3).sum(0))
    mean = MeanColor(frame).value()
    np.testing.assert_array_equal((outside["sum"][0] / (213 * 320)).astype(np.float32), mean)


EMPTY = [0, 0, 0, 0]


def test_several_targets_are_cropped_as_each_alone(library: ctypes.CDLL) -> None:
    frame, boxes = pictures()["color"], [*BOXES.values(), EMPTY]
    states = np.concatenate([state_of(box) for box in boxes])
    launch(library, kernels.begin_launch(len(states)), states, settings_of()[1])
    assert (states["scale"] > 0).tolist() == [True] * len(BOXES) + [False]
    together = crop(library, frame, states)
    np.testing.assert_array_equal(states["sum"][0], frame.reshape(-1, 3).sum(0))
    assert (states["sum"][1:] == 0).all()
    for t, box in enumerate(boxes[:-1]):
        state = state_of(box)
        launch(library, kernels.begin_launch(1), state, settings_of()[1])
        np.testing.assert_array_equal(states["region"][t], state["region"][0])
        np.testing.assert_array_equal(together[t], crop(library, frame, state))
    assert (together[-1] == -1).all()  # an empty place is left as it is


@pytest.mark.parametrize("places", [["inside", "a pixel"], ["inside", None], [None, None]], ids=str)
def test_a_frame_that_nobody_leaves_is_not_summed(places: list[str | None], built: ctypes.CDLL) -> None:
    states = np.concatenate([state_of(BOXES[place] if place else EMPTY) for place in places])
    launch(built, kernels.begin_launch(len(states)), states, settings_of()[1])
    crop(built, pictures()["color"], states)
    assert (states["sum"] == 0).all()


# Proposals.


class Selected:
    """What spm_select wrote for one target."""

    def __init__(
        self, library: ctypes.CDLL, scores: Floats, boxes: Floats, state: NDArray[Any], record: NDArray[Any]
    ) -> None:
        targets, k = len(state), int(record["candidates"][0])
        self.indices, self.counts = np.full((targets, k), -7, np.int32), np.zeros(targets, np.int32)
        self.crop_boxes, self.frame_boxes = (np.full((targets, k, 4), np.nan, np.float32) for _ in range(2))
        self.scores = np.full((targets, k), np.nan, np.float32)
        written = (self.indices, self.counts, self.crop_boxes, self.frame_boxes, self.scores)
        launch(library, kernels.select_launch(targets), scores, boxes, state, record, *written)

    @property
    def rows(self) -> NDArray[np.int32]:
        return self.indices[0, : self.counts[0]]


def score_map(kind: int, rng: np.random.Generator) -> Floats:
    """Random and tied maps of scores, and the odd ones."""
    n = SPEC.anchor_count
    if kind == 0:
        return rng.uniform(0, 1, n).astype(np.float32)
    if kind == 1:  # few levels: nearly all tie
        return (rng.integers(0, 4, n) / 4).astype(np.float32)
    if kind == 2:  # peaks, as a network gives them
        return (rng.uniform(0, 1, n) ** 40).astype(np.float32)
    if kind == 3:
        return np.full(n, rng.choice([0.0, 0.5, 1.0]), np.float32)
    if kind == 4:  # two levels, one of them under the floor
        return np.where(rng.uniform(size=n) < 0.01, 0.9, 0.05).astype(np.float32)
    scores = rng.uniform(0, 1, n).astype(np.float32)
    scores[rng.integers(0, n, 3)] = rng.choice([np.nan, -1.0, 2.0, -0.0])
    return scores


def decoded(rng: np.random.Generator) -> Floats:
    """Boxes as the coarse stage gives them: anchors, moved and scaled; now and then all the same or turned over."""
    center, size = (ANCHORS[:, :2] + ANCHORS[:, 2:]) / 2, ANCHORS[:, 2:] - ANCHORS[:, :2]
    kind = rng.integers(0, 12)
    if kind == 0:
        return np.repeat(ANCHORS[:1], len(ANCHORS), axis=0)
    spread = 0.3 if kind == 1 else 0.05
    moved = center + size * rng.normal(0, spread, center.shape)
    half = size / 2 * np.exp(rng.normal(0, spread, size.shape)) * (rng.choice([1, -1], size.shape) if kind == 2 else 1)
    return np.concatenate([moved - half, moved + half], axis=1).astype(np.float32)


known_settings = functools.cache(settings_of)


def compare_selection(
    library: ctypes.CDLL, rng: np.random.Generator, kind: int | Floats, boxes: Floats, **changed: Any
) -> None:
    """Compares spm_select with numpy on a kind of score map, or on one map."""
    settings, record = known_settings(**changed)
    last = np.array([300, 200, 300 + rng.uniform(20, 90), 200 + rng.uniform(20, 90)])
    region = search_region(last, SPEC)
    scores = score_map(kind, rng) if isinstance(kind, int) else kind
    frame_boxes = to_frame(boxes, region)
    wanted = select_proposals(scores, frame_boxes, last.astype(np.float32), settings)
    got = Selected(library, scores, boxes, state_of(last, region), record)
    assert got.rows.tolist() == wanted.tolist()
    for found, given in ((got.crop_boxes, boxes), (got.frame_boxes, frame_boxes), (got.scores, scores)):
        assert_same(found[0, : len(wanted)], given[wanted])
    if len(wanted):
        others = np.broadcast_to(boxes[wanted[-1]], (settings.num_candidates - len(wanted), 4))
        assert_same(got.crop_boxes[0, len(wanted) :], others)


def assert_same(found: NDArray[Any], wanted: NDArray[Any]) -> None:
    """As NumPy has it, which takes ten times as long where all is well."""
    if not np.array_equal(found, wanted):
        np.testing.assert_array_equal(found, wanted)


def test_the_same_proposals_on_ten_thousand_score_maps(built: ctypes.CDLL) -> None:
    rng = np.random.default_rng(3)
    for i in range(10_000):
        if i % 4 == 0:
            boxes = decoded(rng)
            built.spm_set_order(i // 4 % 2)
        compare_selection(built, rng, i % 6, boxes)


@pytest.mark.parametrize(
    "changed",
    [
        {"num_candidates": 1},
        {"num_candidates": 64},
        {"num_near_candidates": 0},
        {"nms_threshold": 0.0},
        {"nms_threshold": 1.0},
        {"score_floor": 0.0},
        {"score_floor": 1.0},
        {"near_iou": 0.0},
        {"near_iou": 1.0},
    ],
    ids=str,
)
def test_other_settings_choose_the_same_too(changed: dict[str, Any], library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(4)
    for i in range(120):
        compare_selection(library, rng, i % 6, decoded(rng), **changed)


def test_minus_zero_is_zero(library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(6)
    scores = np.where(rng.uniform(size=SPEC.anchor_count) < 0.5, -0.0, 0.0).astype(np.float32)
    compare_selection(library, rng, scores, ANCHORS, score_floor=0.0)


def test_several_targets_are_chosen_for_one_by_one(library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(5)
    lasts = [np.array([100.0, 90, 150, 170]), np.array([300.0, 200, 380, 240])]
    states = np.concatenate([state_of(last, search_region(last, SPEC)) for last in lasts])
    scores, boxes = np.stack([score_map(2, rng) for _ in lasts]), np.stack([decoded(rng) for _ in lasts])
    both = Selected(library, scores, boxes, states, settings_of()[1])
    for t in range(2):
        alone = Selected(library, scores[t], boxes[t], states[t : t + 1], settings_of()[1])
        assert both.indices[t].tolist() == alone.indices[0].tolist()
        assert both.counts[t] == alone.counts[0]


def test_an_empty_place_has_no_proposals_and_no_result(library: ctypes.CDLL) -> None:
    rng, (_, record) = np.random.default_rng(8), settings_of()
    last = np.array([100.0, 90, 150, 170])
    states = np.concatenate([state_of(EMPTY), state_of(last, search_region(last, SPEC))])
    scores, boxes = (
        np.stack([np.full(SPEC.anchor_count, np.nan, np.float32), score_map(2, rng)]),
        np.stack([np.full_like(ANCHORS, np.nan), decoded(rng)]),
    )
    chosen = Selected(library, scores, boxes, states, record)
    assert chosen.counts[0] == 0
    assert (chosen.crop_boxes[0] == 0).all()
    assert chosen.counts[1] > 0
    coarse = (chosen.scores, chosen.crop_boxes, chosen.frame_boxes)
    results = fuse_on_device(library, chosen.counts, coarse, (chosen.scores, chosen.crop_boxes), record, states)
    assert (states["box"][0] == 0).all()
    assert (results["box"][0] == 0).all()
    assert (results["chosen"][0], results["chosen"][1] >= 0) == (-1, True)
    assert np.isnan(results["score"][0])
    assert np.isfinite(results["score"][1])


def fuse_on_device(
    library: ctypes.CDLL,
    counts: NDArray[np.int32],
    coarse: tuple[Floats, Floats, Floats],
    fine: tuple[Floats, Floats],
    record: NDArray[Any],
    states: NDArray[Any],
) -> NDArray[Any]:
    """spm_fuse in a frame of 640 x 480: its records. ``coarse``: scores, boxes in the crop and in the frame."""
    results = np.zeros(len(states), kernels.RESULT)
    fuse = kernels.fuse_launch(len(states))
    launch(library, fuse, counts, *coarse, *fine, 480, 640, record, states, results)
    return results


def test_more_anchors_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(BackendError, match="2166 anchors; the proposal kernel has room for 1805"):
        kernels.settings_record(ModelSpec(anchor_ratios=(0.2, 0.33, 0.5, 1, 2, 3)), TrackerSettings())


# Fusion.


def fuse_both(
    library: ctypes.CDLL, proposals: Proposals, fine: tuple[Floats, Floats], view: TargetView, **changed: Any
) -> int:
    """Compares spm_fuse with numpy (which makes lists of candidates); the proposal that was chosen."""
    settings, record = settings_of(**changed)
    given = None if settings.mode == "coarse" else fine
    watch = Onlooker()
    watching = dataclasses.replace(settings, rival_memory=1)
    box, wanted = decide(proposals, given, view, SPEC, watching, candidates=True, watch=watch)
    state, counts = state_of(view.last, view.region, view.extent), np.array([len(proposals.scores)], np.int32)
    coarse = (proposals.scores, proposals.crop_boxes, proposals.boxes)
    result = fuse_on_device(library, counts, coarse, fine, record, state)
    np.testing.assert_array_equal(state["box"][0], box)
    np.testing.assert_array_equal(result["box"][0], box)
    for name in ("score", "coarse_score", "fine_score", "rival_score"):
        np.testing.assert_array_equal(result[name][0], getattr(wanted, name))
    rivals = result["rivals"][0]
    np.testing.assert_array_equal(with_extent(rivals[: result["rival_count"][0]], view.extent), watch.rivals)
    assert (rivals[result["rival_count"][0] :] == 0).all()
    chosen = int(result["chosen"][0])
    assert proposals.scores[chosen] == wanted.coarse_score
    return chosen


@pytest.mark.parametrize("mode", ["series-parallel", "series", "coarse"])
@pytest.mark.parametrize("count", [1, 4, 9])
def test_fusion_chooses_and_moves_as_the_runtime_does(mode: str, count: int, library: ctypes.CDLL) -> None:
    for seed in range(300):
        fuse_both(library, *both_stages(count, seed), mode=mode)


@pytest.mark.parametrize("mode", ["series-parallel", "series", "coarse"])
def test_a_target_without_extent_gets_the_detected_box_which_makes_one(mode: str, library: ctypes.CDLL) -> None:
    for seed in range(100):
        proposals, fine, view = both_stages(9, seed)
        settings, record = settings_of(mode=mode, extent_correction=0.7)
        state, counts = state_of(view.last, view.region, (0, 0, 0, 0)), np.array([9], np.int32)
        coarse = (proposals.scores, proposals.crop_boxes, proposals.boxes)
        result = fuse_on_device(library, counts, coarse, fine, record, state)
        wanted = measure(proposals, None if mode == "coarse" else fine, view, SPEC, settings)
        assert extent_of(view.last, result["box"][0], 0.7) == wanted


def test_a_score_that_is_no_number_is_chosen_as_numpy_chooses_it(built: ctypes.CDLL) -> None:
    proposals, fine, view = both_stages(5, 1)
    fine[0][[2, 4]] = np.nan
    assert fuse_both(built, proposals, fine, view) == 2


def test_no_proposal_at_all_changes_nothing(built: ctypes.CDLL) -> None:
    last = np.array([100.0, 100, 160, 150])
    state, empty = state_of(last), np.zeros((9, 4), np.float32)
    nothing = np.array([0], np.int32)
    result = fuse_on_device(built, nothing, (empty, empty, empty), (empty, empty), settings_of()[1], state)
    np.testing.assert_array_equal(state["box"][0], last)
    np.testing.assert_array_equal(result["box"][0], last)
    assert result["chosen"][0] == -1
    assert np.isnan(result["score"][0])
