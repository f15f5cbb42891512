"""The C modules do what numpy does, to the bit, and refuse what they cannot do safely.

Samples are compared in test_crop.py.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import spm_rt.frame.steps
from spm_rt.errors import SpmError
from spm_rt.frame.compiled import compiled
from spm_rt.frame.crop import MeanColor, fill_rim, finish_sums, sample_region, start_sums
from spm_rt.frame.geometry import search_region
from spm_rt.frame.steps import Proposals, TargetView, compiled_decide, compiled_propose, decide, propose
from spm_rt.settings import ModelSpec, TrackerSettings

from ...support.fakes.watching import Onlooker
from ...support.stages import both_stages, boxes_like_a_frame

pytestmark = pytest.mark.skipif(sample_region is None or compiled_propose is None, reason="built without a C compiler")

SPEC = ModelSpec()
SETTINGS = TrackerSettings()
Floats = NDArray[np.float32]
RNG = np.random.default_rng


def picture(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    return RNG(height).integers(0, 256, (height, width, channels), dtype=np.uint8)


View = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
VIEWS: dict[str, View] = {
    "upside down": lambda f: f[::-1],
    "mirrored": lambda f: f[:, ::-1],
    "RGB": lambda f: f[:, :, ::-1],
    "transposed": lambda f: f.transpose(1, 0, 2),
    "part": lambda f: f[3:-3, 5:-5],
}


def test_nothing_behind_the_last_pixel_is_read() -> None:
    # The frame ends where its memory ends: a page that may not be read follows it.
    import mmap

    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    height, width = 4, page // 12
    frame: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)[page - height * width * 3 : page]
    frame = frame.reshape(height, width, 3)
    if not hasattr(memory, "madvise") or protect(frame.ctypes.data + frame.nbytes, page) != 0:
        pytest.skip("memory cannot be protected here")
    out = np.ones((3, 2 * height - 1, 2 * width - 1), np.float32)  # two samples per pixel, the last on the last pixel
    assert sample_region(frame, 0, 0, width - 1, height - 1, out) is None
    assert (out == 0).all()
    assert sample_region(frame, width - 1, height - 1, 0, 0, out) is None  # from the last pixel to the first
    assert (out == 0).all()
    protect(frame.ctypes.data + frame.nbytes, page, 3)


def sums(frame: NDArray[np.uint8], helpers: int) -> tuple[int, ...]:
    started = start_sums(frame, helpers)
    found = finish_sums(started)
    assert finish_sums(started) == found
    return found


@pytest.mark.parametrize("helpers", [0, 1, 7])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(480, 640), (2, 2), (3, 700), (7, 16), (300, 5000)])
def test_sums_are_exact(size: tuple[int, int], channels: int, helpers: int) -> None:
    for frame in (picture(*size, channels), np.full((*size, channels), 255, np.uint8)):
        for view in (lambda f: f, *VIEWS.values()):
            seen = view(frame)
            assert sums(seen, helpers) == tuple(seen.sum((0, 1), dtype=np.int64))


def test_sums_that_nobody_asks_for_end() -> None:
    frame = picture(1000, 2000)
    before = sys.getrefcount(frame)
    for _ in range(200):
        start_sums(frame, 3)
    assert sys.getrefcount(frame) == before


def test_the_mean_of_a_large_frame_is_the_same_with_any_number_of_threads() -> None:
    frame, before = picture(2160, 3840), cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 2, 7):
            cv2.setNumThreads(threads)
            found.append(MeanColor(frame).value())
    finally:
        cv2.setNumThreads(before)
    for mean in found:
        np.testing.assert_array_equal(mean, frame.mean((0, 1)).astype(np.float32))


def test_frames_that_have_no_sums_are_refused() -> None:
    frame = picture(10, 12)
    for bad in (frame.astype(np.float32), frame.astype(np.int8), picture(10, 12, 2), frame[:, :, 0]):
        before = sys.getrefcount(bad)
        with pytest.raises(ValueError, match="must be uint8"):
            start_sums(bad, 1)
        assert sys.getrefcount(bad) == before
    for helpers in (8, -1):
        with pytest.raises(ValueError, match="helpers must be"):
            start_sums(frame, helpers)
    with pytest.raises(ValueError, match="PyCapsule"):
        finish_sums(frame)


def protect(address: int, length: int, rights: int = 0) -> int:
    import ctypes

    library: Any = ctypes.CDLL(None)
    return int(library.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(length), rights))


GOOD = (picture(10, 12), 1.0, 2.0, 4.0, 5.0, np.zeros((3, 5, 4), np.float32))
BAD_SAMPLES: dict[str, tuple[int, Any]] = {
    "float frame": (0, np.zeros((10, 12, 3), np.float32)),
    "signed frame": (0, np.zeros((10, 12, 3), np.int8)),
    "two channels": (0, picture(10, 12, 2)),
    "flat frame": (0, np.zeros((10, 12), np.uint8)),
    "single row": (0, picture(1, 12)),
    "single column": (0, picture(10, 1)),
    "empty frame": (0, picture(0, 12)),
    "fewer planes": (5, np.zeros((2, 5, 4), np.float32)),
    "single sample": (5, np.zeros((3, 1, 4), np.float32)),
    "double samples": (5, np.zeros((3, 5, 4))),
    "interleaved": (5, np.zeros((5, 4, 3), np.float32).transpose(2, 0, 1)),
}


@pytest.mark.parametrize(("place", "value"), BAD_SAMPLES.values(), ids=BAD_SAMPLES.keys())
def test_what_cannot_be_sampled_safely_is_refused(place: int, value: Any) -> None:
    assert sample_region(*GOOD) is None
    with pytest.raises(ValueError, match=r"must be"):
        sample_region(*(value if index == place else given for index, given in enumerate(GOOD)))


FAR: list[tuple[float, float, float, float]] = [
    (np.nan, 2, 4, 5),
    (1, 2, np.inf, 5),
    (-np.inf, -np.inf, np.inf, np.inf),
    (1, 1e30, 4, 1e31),
    (-1e38, 2, 1e38, 5),
    (5, 2, 1, 5),
    (5, 2, -9e6, 5),
]


@pytest.mark.parametrize("region", FAR)
def test_no_region_leads_out_of_the_frame_or_the_crop(region: tuple[float, float, float, float]) -> None:
    out = np.full((3, 5, 4), np.nan, np.float32)
    part = sample_region(GOOD[0], *region, out)
    left, right, top, bottom = part or (0, 4, 0, 5)
    assert 0 <= left <= right <= 4
    assert 0 <= top <= bottom <= 5
    assert np.isfinite(out[:, top:bottom, left:right]).all()
    fill_rim(out, (left, right, top, bottom), (1.0, 2.0, 3.0))
    assert np.isfinite(out).all()


def test_the_rim_gets_its_colour_and_the_rest_stays() -> None:
    whole = np.zeros((3, 8, 9), np.float32)
    for part in ((0, 7, 0, 6), (2, 5, 1, 4), (7, 7, 6, 6), (0, 0, 2, 4), (0, 7, 3, 3)):
        whole[:] = -1
        fill_rim(whole[:, 1:7, 1:8], part, (1.0, 2.0, 3.0))
        wanted = np.broadcast_to(np.array([1.0, 2, 3], np.float32)[:, None, None], (3, 6, 7)).copy()
        wanted[:, part[2] : part[3], part[0] : part[1]] = -1
        np.testing.assert_array_equal(whole[:, 1:7, 1:8], wanted)
        whole[:, 1:7, 1:8] = -1
        assert (whole == -1).all()
    for part in ((-1, 7, 0, 6), (3, 2, 0, 6), (0, 8, 0, 6), (0, 7, 4, 3), (0, 7, -1, 6), (0, 7, 0, 7)):
        with pytest.raises(ValueError, match="a part of it"):
            fill_rim(whole[:, 1:7, 1:8], part, (1.0, 2.0, 3.0))


def test_samples_are_not_written_into_a_read_only_array() -> None:
    out = np.zeros((3, 5, 4), np.float32)
    out.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        sample_region(*GOOD[:5], out)


# Proposals.


CHANGES: list[dict[str, Any]] = [
    {},
    {"num_candidates": 1},
    {"num_candidates": 2},
    {"num_candidates": 64},
    {"num_near_candidates": 0},
    {"near_iou": 0.3},
    {"near_iou": 1.0},
    {"score_floor": 0.0},
    {"score_floor": 1.0},
    {"nms_threshold": 0.0},
    {"nms_threshold": 1.0},
]


def both(step: Callable[[], Any], compiled: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a step gives with its C form and without."""
    found = [step()]
    with monkeypatch.context() as patch:
        patch.setattr(spm_rt.frame.steps, compiled, None)
        return [*found, step()]


def propose_both(scores: Floats, boxes: Floats, settings: TrackerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    last = np.array([300.2, 180.7, 361.9, 254.1])
    view = TargetView(last, search_region(last, SPEC), (480, 640))
    found, wanted = both(lambda: propose(scores, boxes, view, settings), "compiled_propose", monkeypatch)
    for got, expected in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == expected.dtype


@pytest.mark.parametrize("change", CHANGES, ids=repr)
@pytest.mark.parametrize("count", [1, 2, 9, 250, 1805])
def test_proposals_are_exactly_those_of_numpy(
    count: int, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(6):
        propose_both(*boxes_like_a_frame(count, seed), dataclasses.replace(SETTINGS, **change), monkeypatch)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
def test_odd_values_are_treated_alike(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(4):
        scores, boxes = boxes_like_a_frame(300, seed)
        for rows in (slice(0, 1), slice(40, 90), slice(None)):
            odd_scores, odd_boxes = scores.copy(), boxes.copy()
            odd_scores[rows] = value
            odd_boxes[rows] = value
            for given in ((odd_scores, boxes), (scores, odd_boxes), (odd_scores, odd_boxes)):
                propose_both(*given, SETTINGS, monkeypatch)


def test_inputs_of_other_kinds_are_refused() -> None:
    scores, boxes = boxes_like_a_frame(20, 1)
    rest = ((1.0, 0.0, 0.0), 0.8, 0.1, 0.5, 1, 9)
    last = np.zeros(4)
    for given in (
        (scores[:0], boxes[:0], last),
        (scores.astype(np.float64), boxes, last),
        (scores, boxes[:19], last),
        (scores, boxes.astype(np.int32), last),
        (scores, boxes, last[:3]),
        (scores, boxes, last.astype(np.float32)),
    ):
        with pytest.raises(ValueError, match="must be float"):
            compiled_propose(*given, *rest)
    with pytest.raises(ValueError, match="wanted"):
        compiled_propose(scores, boxes, last, *rest[:-1], 0)
    with pytest.raises((ValueError, BufferError)):
        compiled_propose(scores[::2], boxes[::2], last, *rest)


# The choice among them.


def decide_both(
    proposals: Proposals,
    fine: tuple[Floats, Floats],
    view: TargetView,
    settings: TrackerSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watching = dataclasses.replace(settings, rival_memory=1)

    def step() -> tuple[Any, ...]:
        watch = Onlooker()
        return *decide(proposals, fine, view, SPEC, watching, watch=watch), watch.rivals

    found, wanted = both(step, "compiled_decide", monkeypatch)
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[2], wanted[2])
    assert found[0].dtype == wanted[0].dtype
    assert repr(found[1]) == repr(wanted[1])  # NaN is not equal to itself


DECISIONS: list[dict[str, Any]] = [
    {},
    {"mode": "series"},
    {"mode": "coarse"},
    {"fine_score_weight": 0.0},
    {"fine_box_weight": 0.0},
    {"window_influence": 0.0},
    {"window_influence": 1.0},
    {"update_threshold": 0.6},
    {"size_rate": 1.0},
    {"min_side": 120.0},
    {"found_threshold": 0.9},
]


@pytest.mark.parametrize("change", DECISIONS, ids=repr)
@pytest.mark.parametrize("count", [1, 2, 9, 64])
def test_decisions_are_exactly_those_of_numpy(
    count: int, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(25):
        decide_both(*both_stages(count, seed), dataclasses.replace(SETTINGS, **change), monkeypatch)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 1e38])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_odd_fine_values_are_treated_alike(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(6):
        for rows in (slice(0, 1), slice(4, 7), slice(None)):
            for place in range(5):
                proposals, fine, view = both_stages(9, seed)
                (*proposals, *fine)[place][rows] = value
                for mode in ("series-parallel", "series"):
                    settings = dataclasses.replace(SETTINGS, mode=mode)
                    decide_both(proposals, fine, view, settings, monkeypatch)


def test_fine_values_of_other_kinds_are_refused() -> None:
    proposals, fine, (last, *_) = both_stages(9, 1)
    arrays: list[NDArray[Any]] = [*proposals, *fine, last]
    rest = ((1.0, 0.0, 0.0), (1.0, 1.0, 0.0, 0.0), (480, 640), 271, False, 0.7, 1.4, 0.4, 0.1, 0.5, 10.0)
    assert len(compiled_decide(*arrays, *rest)) == 6
    for place in range(6):
        for other in (arrays[place].astype(np.int32), arrays[place][:-1], np.repeat(arrays[place], 2, axis=0)):
            with pytest.raises(ValueError, match="must be float"):
                compiled_decide(*arrays[:place], other, *arrays[place + 1 :], *rest)
    for wrong in ([array[:0] for array in arrays[:5]], [np.repeat(array, 8, axis=0) for array in arrays[:5]]):
        with pytest.raises(ValueError, match="k > 0 and at most 64"):
            compiled_decide(*wrong, last, *rest)
    with pytest.raises((ValueError, BufferError)):
        compiled_decide(*(array[::2] for array in arrays[:5]), last, *rest)


@pytest.mark.parametrize(("name", "interface"), [("_choosing", 4), ("_sampling", 1)])
def test_a_module_that_was_compiled_from_other_sources_is_told_how_to_rebuild(name: str, interface: int) -> None:
    assert compiled(name, interface) is not None
    with pytest.raises(SpmError, match=rf"{name}\S* was compiled from other sources .*: rebuild: pip install -e \."):
        compiled(name, interface + 1)


def test_a_module_that_was_not_built_is_done_without() -> None:
    assert compiled("_missing", 1) is None
