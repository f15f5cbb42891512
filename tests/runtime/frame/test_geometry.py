"""Boxes, the search region and both coordinate systems."""

from __future__ import annotations

import numpy as np
import pytest

from spm_rt.frame.geometry import iou, overlap_with, search_region, to_crop, to_frame, xywh_to_xyxy, xyxy_to_xywh
from spm_rt.settings import ModelSpec

from ...support.recorded import read_arrays

SPEC = ModelSpec()
OPS = read_arrays("ops")


@pytest.mark.parametrize("row", range(len(OPS["geom_boxes"])))
def test_region_is_the_recorded_one(row: int) -> None:
    region = search_region(OPS["geom_boxes"][row], SPEC)
    found = [region.x1, region.y1, region.x2, region.y2]
    np.testing.assert_allclose(found, OPS["geom_x_box"][row], rtol=1e-9)
    assert region.scale == pytest.approx(OPS["geom_scale"][row], rel=1e-9)


def test_region_is_square_and_shares_the_centre() -> None:
    region = search_region((10.0, 20.0, 50.0, 100.0), SPEC)
    assert region.x2 - region.x1 == pytest.approx(region.y2 - region.y1)
    assert ((region.x1 + region.x2) / 2, (region.y1 + region.y2) / 2) == pytest.approx((30, 60))
    assert (region.x2 - region.x1) * region.scale == pytest.approx(SPEC.crop_size)


def test_centre_of_the_region_is_half_the_crop_in_crop_pixels() -> None:
    box = np.array([10.0, 20.0, 50.0, 100.0])
    found = to_crop(box, search_region(box, SPEC))
    assert ((found[0] + found[2]) / 2, (found[1] + found[3]) / 2) == pytest.approx((135.5, 135.5), abs=1e-4)


def test_way_to_the_crop_and_back() -> None:
    region = search_region((10.0, 20.0, 50.0, 100.0), SPEC)
    boxes = np.random.default_rng(0).uniform(-300, 300, (7, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(to_frame(to_crop(boxes, region), region), boxes, atol=1e-4)
    assert to_crop(boxes, region).dtype == np.float32


@pytest.mark.parametrize("query", range(3))
def test_overlap_with_pixels_counted_inclusively_is_the_recorded_one(query: int) -> None:
    found = overlap_with(OPS["dec_boxes"], OPS["iou_query"][query], 1)
    np.testing.assert_allclose(found, OPS["iou_plus1"][:, query], rtol=1e-5, atol=1e-7)


def test_overlap_of_two_empty_boxes_is_nan_without_a_warning() -> None:
    empty = np.array([[3, 3, 3, 3]], np.float32)
    with np.errstate(all="raise"):
        assert np.isnan(overlap_with(empty, empty[0], 0)).all()


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3),
        ((0, 0, 2, 2), (2, 0, 4, 2), 0.0),
        ((0, 0, 2, 2), (5, 5, 6, 6), 0.0),
        ((1, 1, 1, 1), (1, 1, 1, 1), 0.0),
    ],
)
def test_iou(a: tuple[float, ...], b: tuple[float, ...], wanted: float) -> None:
    assert iou(np.array(a), np.array(b)) == pytest.approx(wanted)


def test_iou_of_many_pairs_at_once() -> None:
    a = np.array([[0, 0, 2, 2], [0, 0, 1, 1]])
    np.testing.assert_allclose(iou(a, a[::-1]), [0.25, 0.25])


def test_box_forms() -> None:
    assert xywh_to_xyxy((3, 4, 10, 20)).tolist() == [3, 4, 13, 24]
    assert xyxy_to_xywh(np.array([3.0, 4, 13, 24])) == (3, 4, 10, 20)
