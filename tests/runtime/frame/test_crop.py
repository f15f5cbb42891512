"""The crop: against recorded values, and the fast form against the step-by-step form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import spm_rt.frame.crop
from spm_rt.errors import FrameError
from spm_rt.frame.crop import MeanColor, Scratch, check_frame, crop_exact, crop_into, sample_positions
from spm_rt.frame.geometry import Region, search_region
from spm_rt.settings import ModelSpec

from ...support.recorded import MEAN, SETS, SPEC, read_arrays, read_set

BOUND = 1e-4
OPS = read_arrays("ops")
Frame = NDArray[Any]


@pytest.fixture(autouse=True, params=["C", "OpenCV"])
def form_of_the_fast_form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the C module, and without it."""
    if request.param == "OpenCV":
        monkeypatch.setattr(spm_rt.frame.crop, "sample_region", None)
    elif spm_rt.frame.crop.sample_region is None:
        pytest.skip("built without a C compiler")


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Noise: the steepest gradients there can be."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def fast(frame: Frame, region: Region, size: int = SPEC.crop_size) -> NDArray[np.float32]:
    out = np.full((3, size, size), np.nan, np.float32)
    crop_into(check_frame(frame), region, out)
    return out


def allowed(frame: Frame) -> float:
    """The C form of bytes is exact."""
    return 0.0 if frame.dtype == np.uint8 and spm_rt.frame.crop.sample_region is not None else BOUND


def around(box: tuple[float, float, float, float]) -> Region:
    return search_region(box, ModelSpec())


@pytest.mark.parametrize("row", range(len(OPS["crop_boxes"])))
@pytest.mark.parametrize("form", ["exact", "fast"])
def test_small_crops_are_the_recorded_ones(form: str, row: int) -> None:
    # Recorded on a float picture, without the network's size of crop.
    frame = np.ascontiguousarray(OPS["crop_image"][0].transpose(1, 2, 0))
    region = Region(*(float(v) for v in OPS["crop_boxes"][row]), scale=1.0)
    found = crop_exact(frame, region, 9) if form == "exact" else fast(frame, region, 9)
    np.testing.assert_allclose(found, OPS["crop_9x9"][row], rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("form", ["exact", "fast"])
def test_crops_are_the_recorded_ones(form: str, name: str) -> None:
    recorded = read_set(name)
    arrays = recorded.arrays
    worst = 0.0
    for index, box, wanted in zip(arrays["frame_index"], arrays["prev_box"], arrays["crop_samples"], strict=True):
        region = search_region(box, SPEC)
        frame = recorded.frames[index]
        crop = crop_exact(frame, region, SPEC.crop_size) if form == "exact" else fast(frame, region)
        worst = max(worst, float(np.abs((crop - MEAN).reshape(-1)[arrays["crop_idx"]] - wanted).max()))
    assert worst < 2e-3


REGIONS = {
    "inside": (300.0, 200.0, 340.0, 240.0),
    "fraction": (301.37, 199.81, 340.11, 243.7),
    "left rim": (-20.0, 200.0, 30.0, 250.0),
    "corner": (600.0, 440.0, 660.0, 500.0),
    "wider than the frame": (0.0, 0.0, 640.0, 480.0),
    "a hundredfold downscale": (-9000.0, -9000.0, 9000.0, 9000.0),
    "tiny": (310.2, 210.7, 312.1, 212.2),
    "ends on the last column": (639 - 62.0, 200.0, 639 - 31.0, 231.0),
    "far outside": (-5000.0, -5000.0, -4990.0, -4990.0),
    "touches a corner only": (-44.6, -44.6, -14.6, -14.6),
    "sliver": (100.0, 0.0, 101.0, 480.0),
}


@pytest.mark.parametrize("box", REGIONS.values(), ids=REGIONS.keys())
def test_fast_form_agrees_with_the_exact_form(box: tuple[float, float, float, float]) -> None:
    agrees_in(picture(480, 640), around(box))


def agrees_in(frame: Frame, region: Region) -> None:
    exact = crop_exact(frame, region, 271)
    np.testing.assert_allclose(fast(frame, region), exact, rtol=0, atol=allowed(frame))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(480, 640), (1080, 1920), (2160, 3840), (30, 40), (2, 2), (2, 700)])
def test_fast_form_agrees_on_random_regions(size: tuple[int, int], channels: int) -> None:
    frame, rng = picture(*size, channels), np.random.default_rng(size[1] + channels)
    for _ in range(10):
        center = rng.uniform(-0.1, 1.1, 2) * size[::-1]
        side = np.exp(rng.uniform(np.log(2), np.log(max(size)), 2))
        agrees_in(frame, around((*(center - side / 2), *(center + side / 2))))


def test_reused_memory_changes_nothing() -> None:
    frame, scratch = picture(480, 640), Scratch()
    for box in (*REGIONS.values(), *reversed(REGIONS.values())):
        out = np.full((3, 271, 271), np.nan, np.float32)
        crop_into(frame, around(box), out, scratch)
        np.testing.assert_array_equal(out, fast(frame, around(box)))


def test_the_crop_may_go_into_any_array() -> None:
    frame, region = picture(480, 640), around(REGIONS["inside"])
    out = np.zeros((271, 271, 3), np.float32).transpose(2, 0, 1)
    crop_into(frame, region, out)
    np.testing.assert_allclose(out, fast(frame, region), rtol=0, atol=BOUND)


LAYOUTS: dict[str, Callable[[NDArray[np.uint8]], Frame]] = {
    "float32": lambda f: f.astype(np.float32),
    "float64": lambda f: f.astype(np.float64),
    "every other row": lambda f: np.repeat(f, 2, axis=0)[::2],
    "every other column": lambda f: np.repeat(f, 2, axis=1)[:, ::2],
    "upside down": lambda f: np.ascontiguousarray(f[::-1])[::-1],
    "mirrored": lambda f: np.ascontiguousarray(f[:, ::-1])[:, ::-1],
    "RGB turned to BGR": lambda f: np.ascontiguousarray(f[:, :, ::-1])[:, :, ::-1],
    "transposed": lambda f: np.ascontiguousarray(f.transpose(1, 0, 2)).transpose(1, 0, 2),
    "planes": lambda f: np.ascontiguousarray(f.transpose(2, 0, 1)).transpose(1, 2, 0),
    "part of a larger picture": lambda f: np.pad(f, ((5, 5), (7, 7), (0, 0)))[5:-5, 7:-7],
    "BGRA": lambda f: np.concatenate([f, np.full_like(f[:, :, :1], 77)], axis=2),
}
BOXES = {"inside": (60.0, 50.0, 80.0, 66.0), "rim": (-8.0, 90.0, 20.0, 125.0), "whole": (0.0, 0.0, 160.0, 900.0)}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layout_and_type_do_not_matter(
    layout: Callable[[NDArray[np.uint8]], Frame], box: tuple[float, float, float, float]
) -> None:
    frame = picture(120, 160)
    given = layout(frame)
    np.testing.assert_allclose(fast(given, around(box)), fast(frame, around(box)), rtol=0, atol=allowed(given))
    np.testing.assert_allclose(
        crop_exact(check_frame(given), around(box), 271), crop_exact(frame, around(box), 271), rtol=0, atol=BOUND
    )


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("axes", [2, 3])
def test_grey_is_three_equal_channels(axes: int, box: tuple[float, float, float, float]) -> None:
    grey = picture(120, 160, 1)
    frame = grey[:, :, 0] if axes == 2 else grey
    wanted = fast(np.repeat(grey, 3, axis=2), around(box))
    np.testing.assert_allclose(fast(frame, around(box)), wanted, rtol=0, atol=BOUND)


def test_read_only_frames_are_read_and_left_alone() -> None:
    frame = picture(120, 160)
    before = frame.copy()
    frame.flags.writeable = False
    for box in BOXES.values():
        fast(frame, around(box))
    assert (frame == before).all()


def test_outside_is_the_mean_of_the_whole_frame() -> None:
    frame = picture(120, 160)
    crop = fast(frame, around((-500.0, -500.0, -490.0, -490.0)))
    wanted = frame.mean((0, 1)).astype(np.float32)
    np.testing.assert_allclose(crop, np.broadcast_to(wanted[:, None, None], crop.shape), rtol=1e-6)


def test_a_sample_on_the_last_column_is_inside() -> None:
    frame = picture(20, 20)
    crop = crop_exact(frame, Region(0.0, 0.0, 19.0, 19.0, 1.0), 20)
    np.testing.assert_allclose(crop, frame.transpose(2, 0, 1), atol=BOUND)
    np.testing.assert_allclose(fast(frame, Region(0.0, 0.0, 19.0, 19.0, 1.0), 20), crop, atol=BOUND)


def test_alpha_is_ignored() -> None:
    frame = picture(40, 50, 4)
    np.testing.assert_array_equal(MeanColor(frame).value(), MeanColor(np.ascontiguousarray(frame[:, :, :3])).value())


def test_first_and_last_positions_are_the_edges() -> None:
    found = sample_positions(3.25, 90.75, 200, 271)
    assert found[[0, -1]] == pytest.approx([3.25, 90.75], abs=2e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("box", [(60.0, 50.0, 80.0, 66.0), (0.0, 0.0, 160.0, 900.0)], ids=["near", "downscaled"])
def test_float_frames_that_are_not_finite_near_the_target_are_refused(
    value: float, box: tuple[float, float, float, float]
) -> None:
    frame = picture(120, 160).astype(np.float32)
    frame[40:70, 50:90] = value
    with pytest.raises(FrameError, match="NaN or infinite"):
        fast(frame, around(box))


@pytest.mark.parametrize("box", [(0.0, 0.0, 20.0, 20.0), (-900.0, 0.0, -890.0, 10.0)], ids=["rim", "outside"])
@pytest.mark.parametrize("form", [fast, lambda frame, region: crop_exact(frame, region, 271)], ids=["fast", "exact"])
def test_a_mean_that_is_not_finite_is_refused(
    form: Callable[[Frame, Region], object], box: tuple[float, float, float, float]
) -> None:
    frame = picture(120, 160).astype(np.float32)
    frame[100, 150] = np.nan
    with pytest.raises(FrameError, match="NaN or infinite"):
        form(frame, around(box))


def test_values_that_are_not_finite_and_not_read_do_not_matter() -> None:
    frame = picture(120, 160).astype(np.float32)
    clean = fast(frame, around((60.0, 50.0, 80.0, 66.0)))
    frame[:4] = np.nan
    np.testing.assert_array_equal(fast(frame, around((60.0, 50.0, 80.0, 66.0))), clean)


BAD_FRAMES: dict[str, tuple[object, str]] = {
    "none": (None, "not NoneType"),
    "list": ([[1, 2], [3, 4]], "not list"),
    "one axis": (np.zeros(100, np.uint8), r"shape \(100,\)"),
    "four axes": (np.zeros((1, 20, 20, 3), np.uint8), "shape"),
    "two channels": (np.zeros((20, 20, 2), np.uint8), "shape"),
    "five channels": (np.zeros((20, 20, 5), np.uint8), "shape"),
    "channels first": (np.zeros((3, 20, 20), np.uint8), "shape"),
    "empty": (np.zeros((0, 0, 3), np.uint8), "0 x 0 pixels"),
    "no rows": (np.zeros((0, 20, 3), np.uint8), "20 x 0 pixels"),
    "one pixel": (np.zeros((1, 1, 3), np.uint8), "1 x 1 pixels"),
    "one row": (np.zeros((1, 20, 3), np.uint8), "20 x 1 pixels"),
    "one column": (np.zeros((20, 1, 3), np.uint8), "1 x 20 pixels"),
    "uint16": (np.zeros((20, 20, 3), np.uint16), "type uint16"),
    "int8": (np.zeros((20, 20, 3), np.int8), "type int8"),
    "int64": (np.zeros((20, 20, 3), np.int64), "type int64"),
    "float16": (np.zeros((20, 20, 3), np.float16), "type float16"),
    "bool": (np.zeros((20, 20, 3), np.bool_), "type bool"),
    "complex": (np.zeros((20, 20, 3), np.complex64), "type complex64"),
    "object": (np.zeros((20, 20, 3), object), "type object"),
    "text": (np.full((20, 20, 3), "a"), "type <U1"),
}


@pytest.mark.parametrize(("frame", "message"), BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
def test_bad_frames_are_named(frame: object, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        check_frame(frame)
