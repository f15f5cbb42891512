"""The recorded sets of tests/data/parity: reading them, and scoring an implementation against them.

An implementation is a :class:`Network`: the three stages with whatever intermediate values it can show. One tracking
step is put together here from the runtime's own functions, so that each array of a set has a counterpart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spm_rt.frame.crop import crop_into
from spm_rt.frame.fusion import cosine_window, fuse, next_box
from spm_rt.frame.geometry import overlap_with, search_region, to_crop, to_frame
from spm_rt.frame.proposals import select_proposals
from spm_rt.settings import ModelSpec, TrackerSettings

FOLDER = Path(__file__).parents[1] / "data" / "parity"
SETS = ("noise", "shapes", "border", "border_small")
SPEC = ModelSpec()
MEAN = np.array(SPEC.pixel_mean_bgr, np.float32)[:, None, None]
WHOLE = 34
"""Side of the feature maps."""

TOLERANCES = {
    "init_x_box": 1e-9,
    "init_scale": 1e-9,
    "x_box": 1e-9,
    "scale": 1e-9,
    "init_roi": 1e-4,
    "init_crop_samples": 2e-3,
    "crop_samples": 2e-3,
    "crop_mean": 2e-3,
    "init_conv2_samples": 1e-3,
    "init_conv4_samples": 1e-3,
    "init_conv5_samples": 1e-3,
    "conv2_samples": 1e-3,
    "conv4_samples": 1e-3,
    "conv5_samples": 1e-3,
    "kcls_samples": 1e-5,
    "kbox_samples": 1e-5,
    "template_feat": 1e-4,
    "logits": 1e-3,
    "deltas": 1e-3,
    "cm_scores": 1e-4,
    "cm_boxes": 0.02,
    "near_count": 0,
    "near_iou": 1e-3,
    "num_prop": 0,
    "prop_index": 0,
    "prop_image": 0.02,
    "prop_crop": 0.02,
    "prop_score": 1e-4,
    "roi_feat_first": 1e-3,
    "fm_logits": 1e-3,
    "fm_deltas": 1e-3,
    "fm_scores": 1e-4,
    "fm_boxes": 0.02,
    "win_scores": 1e-4,
    "pred_scores": 1e-4,
    "final_scores": 1e-4,
    "fused_image": 0.02,
    "fused_crop": 0.02,
    "chosen": 0,
    "best_score": 1e-4,
    "updated": 0,
    "box_out": 0.02,
    "track": 0.1,
    "track_chosen": 0,
    "track_updated": 0,
    "track_prop_index": 0,
}
"""Largest absolute error allowed: for boxes and scales of the region relative, for features relative to the largest."""

RELATIVE = ("init_x_box", "init_scale", "x_box", "scale")
RELATIVE_TO_LARGEST = tuple(name for name in TOLERANCES if "_conv" in name or name.startswith("conv"))
SCALED_BY_BOX = ("prop_image", "fused_image", "box_out")
NEEDS_ORDER = (
    "near_iou",
    "num_prop",
    "prop_index",
    "prop_image",
    "prop_crop",
    "prop_score",
    "roi_feat_first",
    "fm_logits",
    "fm_deltas",
    "fm_scores",
    "fm_boxes",
    "win_scores",
    "pred_scores",
    "final_scores",
    "fused_image",
    "fused_crop",
    "chosen",
    "best_score",
)
"""Not comparable in rows where scores tie exactly: which of the equals comes first is a matter of rounding there."""

Arrays = dict[str, NDArray[Any]]


class Network(Protocol):
    """An implementation under test. Values that it does not compute are left out of its answers.

    Arrays are those of one target, without the leading axis.
    """

    def template(self, crop: NDArray[np.float32], box: NDArray[np.float32]) -> Arrays:
        """Remember a template; ``conv2, conv4, conv5, kcls, kbox, template_feat``."""

    def search(self, crop: NDArray[np.float32]) -> Arrays:
        """``scores, boxes`` and ``conv2, conv4, conv5, logits, deltas``."""

    def relate(self, proposals: NDArray[np.float32]) -> Arrays:
        """``scores, boxes`` and ``logits, deltas, roi``."""


@dataclasses.dataclass(frozen=True)
class Recorded:
    """One set, with its frames."""

    name: str
    arrays: Mapping[str, NDArray[Any]]
    frames: NDArray[np.uint8]

    @property
    def settings(self) -> TrackerSettings:
        return TrackerSettings(window_influence=float(self.arrays["windows_influence"]))


def read_arrays(name: str, folder: Path = FOLDER) -> Arrays:
    with np.load(folder / f"{name}.npz") as file:
        return dict(file)


def read_set(name: str, folder: Path = FOLDER) -> Recorded:
    """A set by name; ``config`` has the frames of ``shapes``."""
    arrays = read_arrays(name, folder)
    drawn = arrays if "frames_delta" in arrays else read_arrays("shapes", folder)
    return Recorded(name, arrays, np.cumsum(drawn["frames_delta"], axis=0, dtype=np.uint8))


def crop_of(frame: NDArray[np.uint8], box: NDArray[np.float64]) -> NDArray[np.float32]:
    out = np.empty((3, SPEC.crop_size, SPEC.crop_size), np.float32)
    crop_into(frame, search_region(box, SPEC), out)
    return out


def start(network: Network, recorded: Recorded) -> Arrays:
    """Initialise on the first frame; what was computed, under the names of the set."""
    box = recorded.arrays["init_box"]
    region = search_region(box, SPEC)
    crop = crop_of(recorded.frames[0], box)
    roi = to_crop(box, region)
    seen = network.template(crop, roi)
    found: Arrays = {
        "init_x_box": _corners(region),
        "init_scale": np.array(region.scale),
        "init_roi": roi,
        "init_crop": crop - MEAN,
    }
    return found | {f"init_{name}" if name.startswith("conv") else name: value for name, value in seen.items()}


def step(network: Network, frame: NDArray[np.uint8], box: NDArray[np.float64], settings: TrackerSettings) -> Arrays:
    """One tracking step; every value under the name of the set."""
    region = search_region(box, SPEC)
    crop = crop_of(frame, box)
    seen = network.search(crop)
    scores, boxes = seen.pop("scores"), seen.pop("boxes")
    image = to_frame(boxes, region)
    current = box.astype(np.float32)
    rows = select_proposals(scores, image, current, settings)
    judged = network.relate(boxes[rows])
    fine_image = to_frame(judged["boxes"], region)
    window = cosine_window(boxes[rows], SPEC.crop_size)
    fused = fuse(scores[rows], image[rows], judged["scores"], fine_image, window, settings)
    fused_crop = fuse(scores[rows], boxes[rows], judged["scores"], judged["boxes"], window, settings).boxes
    best = float(fused.scores[fused.chosen])
    updated = best >= settings.update_threshold
    after = next_box(box, fused.boxes[fused.chosen], best, frame.shape[:2], settings) if updated else box
    near = overlap_with(image, current, 1)
    return (
        seen
        | {
            "x_box": _corners(region),
            "scale": np.array(region.scale),
            "crop": crop - MEAN,
            "crop_mean": (crop - MEAN).mean((1, 2), dtype=np.float64),
            "cm_scores": scores,
            "cm_boxes": np.concatenate([image, boxes], axis=1),
            "near_count": np.array((near > settings.near_iou).sum()),
            "near_iou": near[rows[-1]],
            "num_prop": np.array(len(rows)),
            "prop_index": _slots(rows, -1),
            "prop_image": _slots(image[rows], np.nan),
            "prop_crop": _slots(boxes[rows], np.nan),
            "prop_score": _slots(scores[rows], np.nan),
            "fm_scores": _slots(judged["scores"], np.nan),
            "fm_boxes": _slots(judged["boxes"], np.nan),
            "win_scores": _slots(window, np.nan),
            "pred_scores": _slots(fused.scores, np.nan),
            "final_scores": _slots(fused.ranking, np.nan),
            "fused_image": _slots(fused.boxes, np.nan),
            "fused_crop": _slots(fused_crop, np.nan),
            "chosen": np.array(fused.chosen),
            "best_score": np.array(best),
            "updated": np.array(updated),
            "box_out": after,
        }
        | _fine(judged)
    )


def measure_rows(network: Network, recorded: Recorded) -> dict[str, float]:
    """Worst error of each array of a set, over all rows, each started from the recorded last box.

    Errors are in the units of :data:`TOLERANCES`; where values are scaled by the box, as if by the tolerance.
    """
    arrays, worst = recorded.arrays, dict[str, float]()
    found = start(network, recorded)
    wanted = {name: arrays[name] for name in arrays if name in TOLERANCES and not _has_rows(name)}
    _score(found, {name: value for name, value in wanted.items() if not name.startswith("track")}, arrays, worst, 1.0)
    for row, (index, box) in enumerate(zip(arrays["frame_index"], arrays["prev_box"], strict=True)):
        found = step(network, recorded.frames[index], box, recorded.settings)
        wanted = {
            name: arrays[name][row]
            for name in arrays
            if name in TOLERANCES and _has_rows(name) and len(arrays[name]) == len(arrays["prev_box"])
        }
        for name in ("logits", "deltas"):
            wanted.pop(name, None)
            if name in arrays and row in arrays["head_rows"]:
                wanted[name] = arrays[name][list(arrays["head_rows"]).index(row)]
        if "cm_boxes" in arrays and row == arrays["cm_boxes_row"]:
            wanted["cm_boxes"] = arrays["cm_boxes"]
        if not arrays["order_ok"][row]:
            wanted = {name: value for name, value in wanted.items() if name not in NEEDS_ORDER}
        # 0.02 px, or 1e-4 of the box's size where that is more.
        size = float(np.max(box[2:] - box[:2]))
        _score(found, wanted, arrays, worst, max(1.0, size * 1e-4 / 0.02))
    return worst


def run_freely(network: Network, recorded: Recorded) -> dict[str, float]:
    """Worst error of the free run's boxes and decisions."""
    arrays, worst = recorded.arrays, dict[str, float]()
    start(network, recorded)
    box = arrays["init_box"]
    for index in range(1, len(recorded.frames)):
        found = step(network, recorded.frames[index], box, recorded.settings)
        box = found["box_out"]
        mine = {
            "track": box,
            "track_chosen": found["chosen"],
            "track_updated": found["updated"],
            "track_prop_index": found["prop_index"],
        }
        _score(mine, {name: arrays[name][index] for name in mine}, arrays, worst, 1.0)
    return worst


def failures(worst: Mapping[str, float]) -> dict[str, float]:
    """What misses its tolerance."""
    return {name: error for name, error in worst.items() if not error <= TOLERANCES[name]}


def _score(
    found: Arrays,
    wanted: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    worst: dict[str, float],
    box_scale: float,
) -> None:
    for name, value in wanted.items():
        mine, recorded = _counterpart(name, found, np.asarray(value), arrays)
        if mine is None:
            continue
        value, recorded = np.atleast_1d(mine).astype(np.float64), np.atleast_1d(recorded).astype(np.float64)
        both_empty = np.isnan(value) & np.isnan(recorded)
        error = np.where(both_empty, 0, np.abs(value - recorded))
        if name in RELATIVE:
            error = error / np.abs(recorded)
        elif name in RELATIVE_TO_LARGEST:
            error = error / np.abs(recorded).max()
        elif name in SCALED_BY_BOX:
            error = error / box_scale
        elif name == "cm_boxes":
            error[:, :4] /= box_scale
        largest = float(error.max()) if np.isfinite(error).all() else np.inf
        worst[name] = max(worst.get(name, 0.0), largest)


def _counterpart(
    name: str, found: Arrays, value: NDArray[Any], arrays: Mapping[str, NDArray[Any]]
) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """The computed value that belongs to a recorded one, which may be a sample of it."""
    if not name.endswith("_samples"):
        mine = found.get(name)
        if name == "template_feat" and mine is not None:
            mine = mine[:: len(mine) // len(value)]
        return mine, value
    whole = name.removesuffix("_samples")
    index = arrays[whole.removeprefix("init_") + "_idx"]
    mine = found.get(whole)
    if mine is None:
        return None, value
    if "conv" in whole and mine.shape[-1] < WHOLE:  # only a window of the map is computed: compare what lies in it
        first, cells = (WHOLE - mine.shape[-1]) // 2, mine.shape[-1]
        _, y, x = np.unravel_index(index, (len(mine), WHOLE, WHOLE))
        within = (y >= first) & (y < first + cells) & (x >= first) & (x < first + cells)
        padded = np.zeros((len(mine), WHOLE, WHOLE), np.float32)
        padded[:, first : first + cells, first : first + cells] = mine
        return padded.reshape(-1)[index[within]], value[within]
    return mine.reshape(-1)[index], value


def _fine(judged: Arrays) -> Arrays:
    shown = {"fm_logits": judged.get("logits"), "fm_deltas": judged.get("deltas")}
    found = {name: _slots(value, np.nan) for name, value in shown.items() if value is not None}
    return found | ({"roi_feat_first": judged["roi"][0, ::20]} if "roi" in judged else {})


def _slots(values: NDArray[Any], filler: float) -> NDArray[Any]:
    """Values of K proposals in 9 slots."""
    out = np.full((9, *values.shape[1:]), filler, values.dtype)
    out[: len(values)] = values
    return out


def _has_rows(name: str) -> bool:
    return not name.startswith(("init_", "kcls", "kbox", "template_feat", "track"))


def _corners(region: Any) -> NDArray[np.float64]:
    return np.array([region.x1, region.y1, region.x2, region.y2])
