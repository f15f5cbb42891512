"""Scoring an implementation against recorded data of the authors' release (layout: docs/reference/benchmarks.md).

Every array that is in a file and that the implementation computes is compared, with the tolerance below.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from spm_rt.backends.protocol import Backend, Context
from spm_rt.errors import BoxError
from spm_rt.frame.geometry import xywh_to_xyxy, xyxy_to_xywh
from spm_rt.settings import ModelSpec
from spm_rt.trackers.single import Tracker

from .checks import Checks
from .reading import Array, Arrays, RecordedSet
from .step import exact_crop, template_step, tracking_step

SCORE, LOGIT, PIXEL, TRACK, CROP, FEATURE, REGION = 1e-4, 1e-3, 0.02, 0.1, 2e-3, 1e-3, 1e-9
KERNEL, TEMPLATE = 1e-5, 1e-4
PER_PROPOSAL = {
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
IN_FRAME = ("prop_image", "fused_image")
"""Those in pixels of the frame: after a huge last box, few of them are pixels of the crop."""
MAP_SIDE = 34


class Subject(NamedTuple):
    """What is scored: a backend, and backends of the same weights that show inner values too.

    One that is the backend itself is not run twice.
    """

    spec: ModelSpec
    backend: Backend
    inner: tuple[Backend, ...]

    @property
    def sources(self) -> list[Backend]:
        """Whatever is compared step by step."""
        return [self.backend, *(backend for backend in self.inner if backend is not self.backend)]

    def calls(self, recorded: RecordedSet) -> int:
        """How often :func:`score_set` calls ``advance``."""
        free = 2 * (len(recorded.frames) - 1) if "track" in recorded.arrays else 0
        return len(recorded.arrays["frame_index"]) * (len(self.sources) + 1) + free


def score_set(subject: Subject, recorded: RecordedSet, advance: Callable[[], None] = lambda: None) -> Checks:
    """Compare one set: the frames, the template, every step from its recorded last box, and a free run."""
    score = Score(recorded, subject.spec, advance)
    score.frames()
    for source in subject.sources:
        score.steps(source.context())
    tracker = Tracker(subject.backend, subject.spec, recorded.settings)
    score.tracker_steps(tracker)
    if "track" in recorded.arrays:
        score.track(tracker)
        score.free_run(subject.backend.context())
    return score.checks


class Score:
    """Comparisons with one set; each method adds to ``checks``, and calls ``advance`` after every step."""

    def __init__(self, recorded: RecordedSet, spec: ModelSpec, advance: Callable[[], None] = lambda: None) -> None:
        self.recorded, self.spec, self.advance = recorded, spec, advance
        self.arrays = recorded.arrays
        self.checks = Checks()

    def frames(self) -> None:
        """Compare the digests of the frames."""
        if "frame_sha256" in self.arrays:
            digests = [hashlib.sha256(frame.tobytes()).hexdigest() for frame in self.recorded.frames]
            self.checks.exact("frame_sha256", np.array(digests), self.arrays["frame_sha256"])

    def steps(self, context: Context) -> None:
        """Compare the template and every step, each from its recorded last box."""
        arrays, frames = self.arrays, self.recorded.frames
        computed = template_step(context, frames[0], self.recorded.first_box, self.spec)
        if "init_crop_samples" in arrays:
            computed["crop"] = exact_crop(frames[0], self.recorded.first_box, self.spec)
        self._compare_template(computed)
        with_crop = "crop_samples" in arrays or "crop_full" in arrays
        for k, (index, box) in enumerate(zip(arrays["frame_index"], arrays["prev_box"], strict=True)):
            computed = tracking_step(context, frames[index], box, self.spec, self.recorded.settings)
            if with_crop:
                computed["crop"] = exact_crop(frames[index], box, self.spec)
            self._compare_search(computed, k)
            self._compare_decision(computed, k)
            self.advance()

    def tracker_steps(self, tracker: Tracker) -> None:
        """Compare the tracker as users call it, from each step's last box (where a tracker may be put there)."""
        arrays = self.arrays
        tracker.init(self.recorded.frames[0], xyxy_to_xywh(self.recorded.first_box))
        for k, (index, box) in enumerate(zip(arrays["frame_index"], arrays["prev_box"], strict=True)):
            if "box_out" in arrays:
                try:
                    tracker.move_to(xyxy_to_xywh(box))
                except BoxError:
                    self.advance()
                    continue
                computed = xywh_to_xyxy(tracker.update(self.recorded.frames[index]).box)
                self.checks.close("tracker box_out", computed, arrays["box_out"][k], _frame_pixels(box))
            self.advance()

    def track(self, tracker: Tracker) -> None:
        """Compare the boxes of the tracker as users call it, running freely."""
        frames, track = self.recorded.frames, self.arrays["track"]
        tracker.init(frames[0], xyxy_to_xywh(self.recorded.first_box))
        self.checks.close("tracker track", xywh_to_xyxy(tracker.box), track[0], TRACK)
        for frame, box in zip(frames[1:], track[1:], strict=True):
            self.checks.close("tracker track", xywh_to_xyxy(tracker.update(frame).box), box, TRACK)
            self.advance()

    def free_run(self, context: Context) -> None:
        """Compare what was decided in each frame of a free run."""
        arrays, frames, box = self.arrays, self.recorded.frames, self.recorded.first_box
        template_step(context, frames[0], box, self.spec)
        for k in range(1, len(frames)):
            computed = tracking_step(context, frames[k], box, self.spec, self.recorded.settings)
            box = np.asarray(computed["box_out"], np.float64)
            self.checks.close("track", box, arrays["track"][k], TRACK)
            for name in ("chosen", "updated", "prop_index"):
                if f"track_{name}" in arrays:
                    decided = arrays[f"track_{name}"][k]
                    decided = decided[decided >= 0] if name == "prop_index" else decided
                    self.checks.exact(f"track_{name}", computed[name], decided)
            self.advance()

    def _compare_template(self, computed: Arrays) -> None:
        arrays = self.arrays
        self._compare_region("init_", computed)
        self._compare("init_roi", computed.get("roi"), arrays.get("init_roi"), 1e-4)
        for name in ("crop", "crop_fast"):
            self._compare_samples(f"init_{name}", computed.get(name), "crop_idx", arrays.get("init_crop_samples"), CROP)
        for layer in ("conv2", "conv4", "conv5"):
            self._compare_features(f"init_{layer}", layer, computed, arrays.get(f"init_{layer}_samples"))
        for name in ("kcls", "kbox"):
            self._compare_samples(name, computed.get(name), f"{name}_idx", arrays.get(f"{name}_samples"), KERNEL)
        self._compare_channels("template_feat", computed.get("template_feat"), arrays.get("template_feat"), TEMPLATE)

    def _compare(self, name: str, computed: Array | None, recorded: Array | None, allowed: float) -> None:
        """Compare what is both computed and recorded."""
        if computed is not None and recorded is not None:
            self.checks.close(name, computed, recorded, allowed)

    def _compare_samples(
        self, name: str, computed: Array | None, index: str, recorded: Array | None, allowed: float
    ) -> None:
        """Samples of an array; the set has their positions as ``index``."""
        if computed is not None and recorded is not None:
            self.checks.close(name, computed.reshape(-1)[self.arrays[index]], recorded, allowed)

    def _compare_channels(self, name: str, computed: Array | None, recorded: Array | None, allowed: float) -> None:
        """Every k-th channel of features."""
        if computed is not None and recorded is not None:
            self.checks.close(name, computed[:: len(computed) // len(recorded)], recorded, allowed)

    def _at(self, name: str, k: int) -> Array | None:
        """What the set has of an array for step ``k``."""
        return self.arrays[name][k] if name in self.arrays else None

    def _compare_region(self, prefix: str, computed: Arrays, k: int | None = None) -> None:
        arrays = self.arrays
        for name in ("x_box", "scale"):
            if prefix + name in arrays:
                recorded = arrays[prefix + name] if k is None else arrays[prefix + name][k]
                self.checks.close(prefix + name, computed[name], recorded, REGION, relative_to=np.abs(recorded))

    def _compare_features(self, name: str, layer: str, computed: Arrays, recorded: Array | None) -> None:
        """Samples of a map, of which the central window may be all that was computed; relative to the largest."""
        if layer not in computed or recorded is None:
            return
        features = computed[layer]
        channel, y, x = np.unravel_index(self.arrays[f"{layer}_idx"], (len(features), MAP_SIDE, MAP_SIDE))
        first, size = (MAP_SIDE - features.shape[1]) // 2, features.shape[1]
        inside = (y >= first) & (y < first + size) & (x >= first) & (x < first + size)
        if inside.any():
            values, samples = features[channel[inside], y[inside] - first, x[inside] - first], recorded[inside]
            self.checks.close(name, values, samples, FEATURE, relative_to=max(float(np.abs(samples).max()), 1e-12))

    def _compare_search(self, computed: Arrays, k: int) -> None:
        """Region, crop, features and coarse stage of step ``k``."""
        arrays = self.arrays
        self._compare_region("", computed, k)
        for form in ("crop", "crop_fast"):
            self._compare_samples(form, computed.get(form), "crop_idx", self._at("crop_samples", k), CROP)
            for row in np.flatnonzero(arrays.get("crop_full_rows", np.zeros(0)) == k):
                self.checks.close(form.replace("crop", "crop_full"), computed[form], arrays["crop_full"][row], CROP)
        mean = computed["crop_fast"].mean(axis=(1, 2), dtype=np.float64)
        self._compare("crop_mean", mean, self._at("crop_mean", k), CROP)
        for layer in ("conv2", "conv4", "conv5"):
            self._compare_features(layer, layer, computed, self._at(f"{layer}_samples", k))
        for row in np.flatnonzero(arrays.get("head_rows", np.zeros(0)) == k):
            for name in ("logits", "deltas"):
                self._compare(name, computed.get(name), arrays[name][row], LOGIT)
        self._compare("cm_scores", computed["cm_scores"], self._at("cm_scores", k), SCORE)
        if "cm_boxes" in arrays and int(arrays["cm_boxes_row"]) == k:
            self.checks.close("cm_boxes", computed["cm_boxes"], arrays["cm_boxes"], PIXEL)

    def _compare_decision(self, computed: Arrays, k: int) -> None:
        """Proposals, fine stage, fusion and new box of step ``k``."""
        arrays = self.arrays
        pixels = _frame_pixels(arrays["prev_box"][k])
        ordered = bool(arrays["order_ok"][k]) if "order_ok" in arrays else True
        for name in ("near_count", "updated", *(("num_prop", "chosen") if ordered else ())):
            if name in arrays:
                self.checks.exact(name, computed[name], arrays[name][k])
        if "near_iou" in arrays:
            # Where scores tie, any of the tied near boxes may be the reserved one.
            tied = not ordered and len(computed["near_iou_tied"])
            choices = computed["near_iou_tied"] if tied else computed["near_iou"].reshape(1)
            nearest = choices[np.argmin(np.abs(choices - arrays["near_iou"][k]))]
            self.checks.close("near_iou", nearest, arrays["near_iou"][k], 1e-3)
        self._compare("box_out", computed["box_out"], self._at("box_out", k), pixels)
        if not ordered:
            return
        count = int(arrays["num_prop"][k]) if "num_prop" in arrays else 9
        if "prop_index" in arrays:
            self.checks.exact("prop_index", computed["prop_index"], arrays["prop_index"][k][:count])
        self._compare("best_score", computed["best_score"], self._at("best_score", k), SCORE)
        for name, tolerance in PER_PROPOSAL.items():
            if name in arrays:
                allowed = pixels if name in IN_FRAME else tolerance
                self._compare(name, computed.get(name), arrays[name][k][:count], allowed)
        features = computed.get("roi_feat", [None])[0]
        self._compare_channels("roi_feat_first", features, self._at("roi_feat_first", k), FEATURE)


def _frame_pixels(last_box: Array) -> float:
    """Pixels of the frame allowed after this last box: the crop of a huge box shows few of its pixels."""
    return max(PIXEL, 1e-4 * float(np.abs(last_box[2:] - last_box[:2]).max()))
