"""Scoring an implementation against recorded data of the authors' release (layout: docs/reference/benchmarks.md).

Every array that is in a file and that the implementation computes is compared, with the tolerance below.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spm_rt.backends.protocol import Backend, Context
from spm_rt.errors import BoxError, SourceError
from spm_rt.frame.geometry import xywh_to_xyxy, xyxy_to_xywh
from spm_rt.settings import ModelSpec, TrackerSettings
from spm_rt.trackers.single import Tracker

from .checks import Checks
from .step import Row, frame_row, start_row

Array = NDArray[Any]
Data = dict[str, Array]

SCORE, LOGIT, PIXEL, TRACK, CROP = 1e-4, 1e-3, 0.02, 0.1, 2e-3
SLOTS = {
    "prop_image": PIXEL,
    "prop_crop": PIXEL,
    "prop_score": SCORE,
    "fm_logits": LOGIT,
    "fm_deltas": LOGIT,
    "fm_scores": SCORE,
    "fm_boxes": PIXEL,
    "win_scores": SCORE,
    "pred_scores": SCORE,
    "final_scores": SCORE,
    "fused_image": PIXEL,
    "fused_crop": PIXEL,
}
"""Arrays with one entry per proposal, and their tolerances."""


class Subject(NamedTuple):
    """What is scored: a backend, and probes of the same weights that show intermediate arrays.

    A probe that is the backend itself is not run twice.
    """

    name: str
    spec: ModelSpec
    backend: Backend
    probes: tuple[Backend, ...]


def load_reference(path: str | Path) -> Data:
    """A file's arrays; the frames of a set that has none are taken from ``shapes.npz`` beside it.

    Raises:
        SourceError: not readable, or not of this layout.
    """
    data = _read(Path(path))
    if "anchors" in data and "prop_current" in data:
        return data
    if "frames_delta" not in data:
        beside = Path(path).with_name("shapes.npz")
        if not beside.is_file():
            raise SourceError(f"{path}: has no frames, and there is no shapes.npz beside it to take them from")
        data["frames_delta"] = _read(beside)["frames_delta"]
    missing = [name for name in ("init_box", "frame_index", "prev_box", "windows_influence") if name not in data]
    if missing:
        raise SourceError(f"{path}: not a set of reference data, it lacks {', '.join(missing)}")
    data["frames"] = np.cumsum(data["frames_delta"], axis=0, dtype=np.uint8)
    return data


def _read(path: Path) -> Data:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file") from error
    except Exception as error:  # zip, zlib and numpy each have errors of their own for damaged files
        raise SourceError(f"{path}: not a readable .npz file ({error})") from error


def is_operators(data: Data) -> bool:
    """Whether the file holds single operators on small inputs instead of frames."""
    return "frames" not in data


def score_set(subject: Subject, data: Data, step: Callable[[], None] = lambda: None) -> Checks:
    """Compare one set: the start, every row from its recorded last box, and a free run."""
    checks = Checks()
    settings = TrackerSettings(window_influence=float(data["windows_influence"]))
    frames = data["frames"]
    if "frame_sha256" in data:
        digests = [hashlib.sha256(np.ascontiguousarray(frame).tobytes()).hexdigest() for frame in frames]
        checks.exact("frame_sha256", np.array(digests), data["frame_sha256"])
    for source in _sources(subject):
        context = source.context()
        _compare_start(checks, start_row(context, frames[0], data["init_box"], subject.spec), data)
        for k, index in enumerate(data["frame_index"]):
            row = frame_row(context, frames[index], data["prev_box"][k], subject.spec, settings)
            _compare_row(checks, row, data, k)
            step()
    _compare_tracker(checks, subject, data, settings, step)
    return checks


def steps_of(subject: Subject, data: Data) -> int:
    """How often :func:`score_set` calls ``step``."""
    free = 2 * (len(data["frames"]) - 1) if "track" in data else 0
    return len(data["frame_index"]) * (len(_sources(subject)) + 1) + free


def _sources(subject: Subject) -> list[Backend]:
    return [subject.backend, *(probe for probe in subject.probes if probe is not subject.backend)]


def _compare_start(checks: Checks, row: Row, data: Data) -> None:
    for name in ("init_x_box", "init_scale"):
        if name in data:
            checks.close(name, row[name], data[name], 1e-9, relative_to=np.abs(data[name]).max())
    if "init_roi" in data:
        checks.close("init_roi", row["init_roi"], data["init_roi"], 1e-4)
    if "init_crop_samples" in data:
        for name in ("init_crop", "init_crop_fast"):
            checks.close(name, row[name].reshape(-1)[data["crop_idx"]], data["init_crop_samples"], CROP)
    for layer in ("conv2", "conv4", "conv5"):
        _compare_features(checks, f"init_{layer}", row.get(layer), data, layer, data.get(f"init_{layer}_samples"))
    for name in ("kcls", "kbox"):
        if name in row and f"{name}_samples" in data:
            checks.close(name, row[name].reshape(-1)[data[f"{name}_idx"]], data[f"{name}_samples"], 1e-5)
    if "template_feat" in row and "template_feat" in data:
        wanted = data["template_feat"]
        checks.close("template_feat", row["template_feat"][:: len(row["template_feat"]) // len(wanted)], wanted, 1e-4)


def _compare_features(
    checks: Checks, name: str, found: Array | None, data: Data, layer: str, wanted: Array | None
) -> None:
    """Samples of a 34 x 34 map, of which ``found`` may be the central window; relative to the largest sample."""
    if found is None or wanted is None:
        return
    channel, y, x = np.unravel_index(data[f"{layer}_idx"], (len(found), 34, 34))
    first, size = (34 - found.shape[1]) // 2, found.shape[1]
    inside = (y >= first) & (y < first + size) & (x >= first) & (x < first + size)
    values = found[channel[inside], y[inside] - first, x[inside] - first]
    if inside.any():
        checks.close(name, values, wanted[inside], 1e-3, relative_to=max(float(np.abs(wanted).max()), 1e-12))


def _compare_row(checks: Checks, row: Row, data: Data, k: int) -> None:
    _compare_crop_and_head(checks, row, data, k)
    box_size = float(np.abs(data["prev_box"][k][2:] - data["prev_box"][k][:2]).max())
    ordered = bool(data["order_ok"][k]) if "order_ok" in data else True
    for name in ("near_count", "updated"):
        if name in data:
            checks.exact(name, row[name], data[name][k])
    if "near_iou" in data:
        # Where scores tie, any of the tied near boxes may be the reserved one.
        choices = row["near_iou_tied"] if not ordered and len(row["near_iou_tied"]) else row["near_iou"].reshape(1)
        nearest = choices[np.argmin(np.abs(choices - data["near_iou"][k]))]
        checks.close("near_iou", nearest, data["near_iou"][k], 1e-3)
    if "box_out" in data:
        checks.close("box_out", row["box_out"], data["box_out"][k], _pixels(box_size))
    if not ordered:
        return
    count = int(data["num_prop"][k]) if "num_prop" in data else 9
    for name in ("num_prop", "chosen"):
        if name in data:
            checks.exact(name, row[name], data[name][k])
    if "prop_index" in data:
        checks.exact("prop_index", row["prop_index"], data["prop_index"][k][:count])
    if "best_score" in data:
        checks.close("best_score", row["best_score"], data["best_score"][k], SCORE)
    for name, tolerance in SLOTS.items():
        if name in data and name in row:
            checks.close(name, row[name], data[name][k][:count], _pixels(box_size) if tolerance == PIXEL else tolerance)
    if "roi_feat_first" in data and "roi_feat" in row:
        wanted = data["roi_feat_first"][k]
        checks.close("roi_feat_first", row["roi_feat"][0][:: len(row["roi_feat"][0]) // len(wanted)], wanted, 1e-3)


def _pixels(box_size: float) -> float:
    """Pixels allowed after a last box with a side of ``box_size``: a crop of a huge box shows few of its pixels."""
    return max(PIXEL, 1e-4 * box_size)


def _compare_crop_and_head(checks: Checks, row: Row, data: Data, k: int) -> None:
    if "x_box" in data:
        checks.close("x_box", row["x_box"], data["x_box"][k], 1e-9, relative_to=np.abs(data["x_box"][k]).max())
    if "scale" in data:
        checks.close("scale", row["scale"], data["scale"][k], 1e-9, relative_to=abs(float(data["scale"][k])))
    for form in ("crop", "crop_fast"):
        if "crop_samples" in data:
            checks.close(form, row[form].reshape(-1)[data["crop_idx"]], data["crop_samples"][k], CROP)
        for at in np.flatnonzero(data.get("crop_full_rows", np.zeros(0)) == k):
            checks.close(form.replace("crop", "crop_full"), row[form], data["crop_full"][at], CROP)
    if "crop_mean" in data:
        checks.close("crop_mean", row["crop_fast"].mean(axis=(1, 2), dtype=np.float64), data["crop_mean"][k], CROP)
    for layer in ("conv2", "conv4", "conv5"):
        samples = data.get(f"{layer}_samples")
        _compare_features(checks, layer, row.get(layer), data, layer, None if samples is None else samples[k])
    for at in np.flatnonzero(data.get("head_rows", np.zeros(0)) == k):
        for name in ("logits", "deltas"):
            if name in row:
                checks.close(name, row[name], data[name][at], LOGIT)
    if "cm_scores" in data:
        checks.close("cm_scores", row["cm_scores"], data["cm_scores"][k], SCORE)
    if "cm_boxes" in data and int(data["cm_boxes_row"]) == k:
        checks.close("cm_boxes", row["cm_boxes"], data["cm_boxes"], PIXEL)


def _compare_tracker(
    checks: Checks, subject: Subject, data: Data, settings: TrackerSettings, step: Callable[[], None]
) -> None:
    """The tracker as users call it: from each row's last box (where it may be put there), and running freely."""
    tracker = Tracker(subject.backend, subject.spec, settings)
    frames, start = data["frames"], xyxy_to_xywh(data["init_box"])
    tracker.init(frames[0], start)
    for k, index in enumerate(data["frame_index"]):
        if "box_out" in data:
            try:
                tracker.move_to(xyxy_to_xywh(data["prev_box"][k]))
            except BoxError:
                step()
                continue
            size = float(np.abs(data["prev_box"][k][2:] - data["prev_box"][k][:2]).max())
            found = xywh_to_xyxy(tracker.update(frames[index]).box)
            checks.close("tracker box_out", found, data["box_out"][k], _pixels(size))
        step()
    if "track" not in data:
        return
    tracker.init(frames[0], start)
    checks.close("tracker track", xywh_to_xyxy(tracker.box), data["track"][0], TRACK)
    for k in range(1, len(frames)):
        checks.close("tracker track", xywh_to_xyxy(tracker.update(frames[k]).box), data["track"][k], TRACK)
        step()
    _compare_decisions(checks, subject.backend.context(), subject.spec, data, settings, step)


def _compare_decisions(
    checks: Checks, context: Context, spec: ModelSpec, data: Data, settings: TrackerSettings, step: Callable[[], None]
) -> None:
    """What was decided in each frame of a free run."""
    frames, box = data["frames"], np.asarray(data["init_box"], np.float64)
    start_row(context, frames[0], box, spec)
    for k in range(1, len(frames)):
        row = frame_row(context, frames[k], box, spec, settings)
        box = np.asarray(row["box_out"], np.float64)
        checks.close("track", box, data["track"][k], TRACK)
        for name in ("chosen", "updated", "prop_index"):
            if f"track_{name}" in data:
                wanted = data[f"track_{name}"][k]
                checks.exact(f"track_{name}", row[name], wanted[wanted >= 0] if name == "prop_index" else wanted)
        step()
