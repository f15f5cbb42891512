"""Whether a measurement may be quoted: enough frames, the same boxes, a machine that was steady."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spm_rt.results import Box
from spm_rt.trackers.single import Tracker

from ..quality.agreement import PARITY_FRAMES, compare_trackers
from .turns import Frame

ENOUGH_FRAMES = 50
LEAST_IOU = {"float32": 0.999, "bfloat16": 0.98, "float16": 0.98, "int8": 0.90}
"""Mean overlap with the reference's boxes, each frame from the same last box, under which a backend computes something
else and its speed means nothing. It is a guard against mistakes; whether a precision is good enough is another
question, which `spm-bench sweep` and `spm-bench accuracy` answer."""
MOST_NOISE = 0.2
"""Distance of the quartiles over the median, of the calibration product and of the turns' medians."""


def same_boxes(reference: Tracker, tracker: Tracker, frames: Sequence[Frame], box: Box) -> float:
    """Mean overlap of the boxes, both starting each frame from the reference's last one; both trackers start anew."""
    return compare_trackers(reference, tracker, frames[: PARITY_FRAMES + 1], box).mean_iou


def least_iou(precision: str) -> float:
    """The bound for a precision; one that is not known here is held to the strictest."""
    return LEAST_IOU.get(precision, LEAST_IOU["float32"])


def verdict_of(
    results: Mapping[str, Mapping[str, Any]], calibration_spread: float, precisions: Sequence[str] | None = None
) -> list[str]:
    """Why a run is not to be quoted; nothing if it is.

    Args:
        results: per backend ``frames``, ``forced_iou`` (None of other weights than the reference's), ``precision`` and
            ``turn_spread``.
        calibration_spread: of the calibration product.
        precisions: those whose boxes count; by default all. Where drift is what was measured, float32 alone.
    """
    reasons = []
    fewest = min(figures["frames"] for figures in results.values())
    if fewest < ENOUGH_FRAMES:
        reasons.append(f"only {fewest} frames were counted, {ENOUGH_FRAMES} are needed")
    for name, figures in results.items():
        least = least_iou(figures["precision"])
        counts = precisions is None or figures["precision"] in precisions
        same_weights = figures["forced_iou"] is not None
        if counts and same_weights and not figures["forced_iou"] >= least:
            reasons.append(
                f"{name} finds other boxes than the reference: mean IoU {figures['forced_iou']:.4f}, at "
                f"least {least} is needed for {figures['precision']}"
            )
        if figures["turn_spread"] > MOST_NOISE:
            reasons.append(
                f"noise: the turns of {name} spread by {figures['turn_spread']:.0%} between their "
                f"quartiles, over {MOST_NOISE:.0%}"
            )
    if calibration_spread > MOST_NOISE:
        reasons.append(
            f"noise: the same small matrix product spread by {calibration_spread:.0%} between its quartiles "
            f"over the run, over {MOST_NOISE:.0%}"
        )
    return reasons


def verdict_line(reasons: Sequence[str]) -> str:
    """``VALID``, or ``INVALID`` and why."""
    return f"INVALID: {'; '.join(reasons)}" if reasons else "VALID"
