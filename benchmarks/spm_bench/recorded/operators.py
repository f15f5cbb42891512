"""Recorded results of single operators on small inputs: sampling, decoding, suppression, overlap, geometry, update."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from spm_rt.bundle import Bundle
from spm_rt.frame.crop import crop_exact, crop_into
from spm_rt.frame.fusion import next_box
from spm_rt.frame.geometry import Region, overlap_with, search_region
from spm_rt.frame.proposals import select_proposals, suppress
from spm_rt.settings import ModelSpec, TrackerSettings

from .checks import Checks
from .reading import Array, Arrays


def score_operators(arrays: Arrays, subject: Any) -> Checks:
    """Compare the operators of an implementation, and the runtime's own that stand between its graphs.

    Args:
        arrays: the file's.
        subject: the reference model (``SPMTracker``), or a :class:`~spm_rt.bundle.Bundle`. Of a bundle's graphs, the
            anchors and the fine stage's decoding can be run by themselves; their sampling is tied to the maps' size and
            is compared through the features of the other sets.
    """
    checks = Checks()
    _score_runtime(checks, arrays, subject.spec)
    (_score_graphs if isinstance(subject, Bundle) else _score_model)(checks, arrays, subject)
    return checks


def _near(checks: Checks, name: str, computed: ArrayLike, recorded: Array) -> None:
    """Within 1e-5 of the recorded magnitude (of 1, where that is less)."""
    magnitude = np.maximum(np.where(np.isfinite(recorded), np.abs(recorded), 1.0), 1.0).astype(np.float64)
    checks.close(name, computed, recorded, 1e-5, relative_to=magnitude)


def _score_runtime(checks: Checks, arrays: Arrays, spec: ModelSpec) -> None:
    picture = np.ascontiguousarray(arrays["crop_image"][0].transpose(1, 2, 0))
    size = arrays["crop_9x9"].shape[-1]
    for box, recorded in zip(arrays["crop_boxes"], arrays["crop_9x9"], strict=True):
        x1, y1, x2, y2 = (float(v) for v in box)
        region = Region(x1, y1, x2, y2, 1.0)
        _near(checks, "crop", crop_exact(picture, region, size), recorded)
        fast = np.zeros_like(recorded)
        crop_into(picture, region, fast)
        checks.close("crop_fast", fast, recorded, 2e-3)
    boxes, scores = arrays["nms_dets"][:, :4], arrays["nms_dets"][:, 4]
    order = np.argsort(-scores, kind="stable")
    checks.exact("nms", suppress(boxes, order, 0.5, len(boxes)), arrays["nms_keep_sorted"])
    overlaps = np.stack([overlap_with(arrays["dec_boxes"], query, 1) for query in arrays["iou_query"]], axis=1)
    _near(checks, "iou_plus1", overlaps, arrays["iou_plus1"])
    regions = [search_region(box, spec) for box in arrays["geom_boxes"]]
    _near(checks, "geom_x_box", [[r.x1, r.y1, r.x2, r.y2] for r in regions], arrays["geom_x_box"])
    _near(checks, "geom_scale", [r.scale for r in regions], arrays["geom_scale"])
    for name in sorted(n for n in arrays if n.startswith("prop") and n.endswith("_rows")):
        rows, current = arrays[name], arrays["prop_current"].astype(np.float32)
        index = select_proposals(np.ascontiguousarray(rows[:, 4]), rows[:, :4], current, TrackerSettings())
        checks.exact(name.replace("rows", "index"), index, arrays[name.replace("rows", "index")])
    at_once, moved = TrackerSettings(size_rate=1.0), []
    for row in arrays["upd_in"]:
        size = (int(row[9]), int(row[10]))
        moved.append(next_box(row[4:8], row[:4].astype(np.float32), float(row[8]), size, at_once))
    _near(checks, "update", moved, arrays["upd_out"])


def _score_model(checks: Checks, arrays: Arrays, model: Any) -> None:
    import torch

    from spm_export.model.network import crop_and_resize, decode, make_anchors

    with torch.inference_mode():
        boxes, deltas = torch.from_numpy(arrays["dec_boxes"]), torch.from_numpy(arrays["dec_deltas"])
        maps, regions = torch.from_numpy(arrays["car_map"]), torch.from_numpy(arrays["car_boxes"])
        _near(checks, "crop_and_resize", crop_and_resize(maps, regions[None], 6)[0].numpy(), arrays["car_6x6"])
        _near(checks, "decode", decode(boxes, deltas).numpy(), arrays["dec_q1"])
        _near(checks, "decode_fine", decode(boxes, deltas, model.spec.fine_weights).numpy(), arrays["dec_q5"])
    _near(checks, "anchors", make_anchors(model.spec), arrays["anchors"])


def _score_graphs(checks: Checks, arrays: Arrays, bundle: Bundle) -> None:
    import onnx
    import onnx.utils

    from spm_export.proof.runners import Runner

    search = onnx.load(str(bundle.graph("search")))
    stored = {tensor.name: tensor for tensor in search.graph.initializer}
    center, size = (onnx.numpy_helper.to_array(stored[name]) for name in ("anchor_centers", "anchor_sizes"))
    low = center - size / 2
    _near(checks, "anchors", np.concatenate([low, low + size - 1], axis=1), arrays["anchors"])
    relation = onnx.utils.Extractor(onnx.load(str(bundle.graph("relation"))))
    decode = relation.extract_model(["deltas", "proposals"], ["boxes"])
    feeds = {"deltas": arrays["dec_deltas"][None], "proposals": arrays["dec_boxes"][None]}
    (boxes,) = Runner(decode.SerializeToString(), bundle.path).run(["boxes"], feeds)
    _near(checks, "decode_fine", boxes[0], arrays["dec_q5"])
