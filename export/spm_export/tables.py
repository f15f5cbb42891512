"""What an export came to, as tables for people."""

from __future__ import annotations

from typing import Any

from spm_rt.terminal import format_table


def verification_table(found: dict[str, Any]) -> str:
    """The verification for people."""
    rows = [
        [
            c["variant"],
            c["stage"],
            c["tensor"],
            f"{c['worst']:.1e}",
            f"{c['mean']:.1e}",
            f"{c['tolerance']:.0e} {c['kind']}",
            "ok" if c["passed"] else "FAILED",
        ]
        for c in found["tensors"]
    ]
    table = format_table(["graphs", "stage", "output", "worst error", "mean error", "allowed", ""], rows)
    return "\n\n".join([table, *(_track_line(found, name) for name in ("track", "portable_track") if name in found)])


def _track_line(found: dict[str, Any], name: str) -> str:
    track = found[name]
    which = "exported tracker" if name == "track" else "exported tracker with the portable graphs (TensorRT's)"
    return (
        f"{track['clip']}, {track['frames']} frames, {which} against reference, frame by frame: "
        f"mean IoU {track['mean_iou']:.6f}, lowest {track['min_iou']:.6f}; centres apart {track['mean_distance']:.4f} "
        f"px on average, {track['max_distance']:.4f} px at most; mean IoU running freely {track['free_iou']:.6f}"
    )


def calibration_table(found: dict[str, Any]) -> str:
    """What rounding each layer alone does, for people."""
    rows = [
        [d["layer"], f"{d['overlap']:.4f}", f"{d['score']:.4f}", "int8" if d["chosen"] else "float32"]
        for d in found["layers"]
    ]
    return format_table(["layer", "IoU with float32", "score change", "computes in"], rows)
