"""What the network looks like (:class:`ModelSpec`) and how the tracker uses it (:class:`TrackerSettings`).

Both are frozen, validated when made, and travel in a bundle's manifest as plain JSON.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar

from .errors import SettingsError

MODES = ("series-parallel", "series", "coarse")
_SHARES = (
    *("near_iou", "score_floor", "nms_threshold", "fine_score_weight"),
    *("window_influence", "size_rate", "update_threshold", "found_threshold"),
)
"""Settings from 0 to 1."""
MAX_LOG_SCALE = math.log(255.0 / 32.0)
"""Largest change of a box's log size in one decode (about a factor of 8)."""


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Sizes and constants of the network. The defaults are the release's AlexNet model.

    Sizes are in pixels of the crop.

    Attributes:
        backbone: the network that gives the features; ``alexnet`` is the only one.
        template_size: side of the square around the target (with context) in the template's crop.
        crop_size: side of both crops.
        stride: distance between the centres of two neighbouring cells of the feature maps.
        template_cells: side of the template's central part, in cells.
        search_cells: side of the part of the search crop's features that the template is compared with, in cells.
        response_cells: side of the coarse stage's response, in cells.
        context_amount: share of width + height that is added around the box; 0.5 is what the geometry is defined for.
        anchor_ratios: height / width of the anchors of a cell.
        anchor_scales: their size, in strides.
        pixel_mean_bgr: taken off every pixel.
        coarse_scale_factor: what the coarse stage's correlation is multiplied by, for scores and for boxes.
        roi_cells: side of the fine stage's features of a box, in samples.
        fine_weights: divisors of the fine stage's box deltas.
    """

    backbone: str = "alexnet"
    template_size: int = 127
    crop_size: int = 271
    stride: int = 8
    template_cells: int = 6
    search_cells: int = 24
    response_cells: int = 19
    context_amount: float = 0.5
    anchor_ratios: tuple[float, ...] = (0.33, 0.5, 1.0, 2.0, 3.0)
    anchor_scales: tuple[float, ...] = (8.0,)
    pixel_mean_bgr: tuple[float, float, float] = (104.0, 117.0, 123.0)
    coarse_scale_factor: tuple[float, float] = (0.001, 0.001)
    roi_cells: int = 6
    fine_weights: tuple[float, float, float, float] = (5.0, 5.0, 10.0, 10.0)

    def __post_init__(self) -> None:
        _require(self.backbone == "alexnet", "backbone", self.backbone, "'alexnet', the only one there is")
        for name in ("template_size", "crop_size", "stride", "template_cells", "search_cells", "response_cells"):
            _require(isinstance(getattr(self, name), int) and getattr(self, name) > 0, name, getattr(self, name), "> 0")
        _require(self.roi_cells > 1, "roi_cells", self.roi_cells, "at least 2")
        for name, count, words in (
            ("anchor_ratios", None, "a list of"),
            ("anchor_scales", None, "a list of"),
            ("coarse_scale_factor", 2, "two"),
            ("fine_weights", 4, "four"),
        ):
            values = getattr(self, name)
            sound = len(values) == (count or len(values)) > 0 and all(math.isfinite(v) and v > 0 for v in values)
            _require(sound, name, values, f"{words} positive numbers")
        mean = self.pixel_mean_bgr
        _require(len(mean) == 3 and all(math.isfinite(v) for v in mean), "pixel_mean_bgr", mean, "three numbers")
        context = self.context_amount
        _require(context == 0.5, "context_amount", context, "0.5 (the crop geometry is defined for it)")

    @property
    def anchors_per_cell(self) -> int:
        return len(self.anchor_ratios) * len(self.anchor_scales)

    @property
    def anchor_count(self) -> int:
        """N: boxes that the coarse stage scores in every frame (1805)."""
        return self.response_cells**2 * self.anchors_per_cell


@dataclasses.dataclass(frozen=True)
class TrackerSettings:
    """How proposals are chosen, both stages fused, and the box updated. Defaults: the release's OTB values.

    Attributes:
        mode: which stages decide (paper, Table 1): ``series-parallel``, ``series`` (the fine stage alone scores and
            places the coarse stage's proposals) or ``coarse``.
        num_candidates: K, proposals per frame, the reserved near ones included (NUM_CANDIDATES).
        num_near_candidates: proposals reserved for the box nearest to the last one, 0 or 1 (NUM_NEAR_CANDIDATES).
        near_iou: overlap above which a box counts as near (fixed at 0.8 in the release).
        score_floor: boxes below this share of the best score are no proposals (SCORE_THRESH_FACTOR).
        nms_threshold: overlap at which a lower-scored proposal is suppressed (NMS_THRESHOLD).
        fine_score_weight: the paper's W_cls (FM_SCORE_INFLUENCE).
        fine_box_weight: the paper's W_box (FM_BBOX_INFLUENCE).
        window_influence: share of the cosine window in the final ranking (WINDOWS_INFLUENCE; OTB 0.5, LaSOT and
            TrackingNet 0.4).
        size_rate: how fast the box's size follows, scaled by the score (LR).
        update_threshold: fused score below which the box stays where it was (MAX_SCORE_THRESHOLD).
        found_threshold: fused score from which on ``TrackResult.found`` is true; docs/notes/lost.md has the figures.
        min_side: smallest width and height of a box, in pixels of the frame (10 in the release).
    """

    mode: str = "series-parallel"
    num_candidates: int = 9
    num_near_candidates: int = 1
    near_iou: float = 0.8
    score_floor: float = 0.1
    nms_threshold: float = 0.5
    fine_score_weight: float = 0.5
    fine_box_weight: float = 3.0
    window_influence: float = 0.5
    size_rate: float = 0.5
    update_threshold: float = 0.2
    found_threshold: float = 0.3
    min_side: float = 10.0

    def __post_init__(self) -> None:
        _require(self.mode in MODES, "mode", self.mode, "one of " + ", ".join(MODES))
        count, near = self.num_candidates, self.num_near_candidates
        whole = isinstance(count, int) and 1 <= count <= 64
        _require(whole, "num_candidates", count, "a whole number from 1 to 64")
        _require(near in (0, 1), "num_near_candidates", near, "0 or 1")
        _require(near < count or count == 1, "num_near_candidates", near, "fewer than num_candidates")
        for name in _SHARES:
            value = getattr(self, name)
            _require(isinstance(value, (int, float)) and 0.0 <= value <= 1.0, name, value, "from 0 to 1")
        for name in ("fine_box_weight", "min_side"):
            value = getattr(self, name)
            sound = isinstance(value, (int, float)) and math.isfinite(value) and value >= 0
            _require(sound, name, value, "a number, 0 or more")


Settings = TypeVar("Settings", ModelSpec, TrackerSettings)


def to_json(settings: ModelSpec | TrackerSettings) -> dict[str, Any]:
    """The settings as JSON types (tuples become lists)."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(settings).items()}


def from_json(kind: type[Settings], values: object) -> Settings:
    """Settings read back from :func:`to_json`'s form; unknown, missing or mistyped entries are named in one error."""
    if not isinstance(values, dict):
        raise SettingsError(f"{kind.__name__}: an object was expected, not {type(values).__name__}")
    defaults = kind()
    known = {field.name for field in dataclasses.fields(kind)}
    wrong = [f"unknown {name}" for name in sorted(set(values) - known)]
    wrong += [f"missing {name}" for name in sorted(known - set(values))]
    clean: dict[str, Any] = {}
    for name in sorted(known & set(values)):
        try:
            clean[name] = _coerce(values[name], getattr(defaults, name))
        except TypeError:
            wrong.append(f"{name}: {values[name]!r}")
    if wrong:
        raise SettingsError(f"{kind.__name__}: " + "; ".join(wrong))
    return kind(**clean)


def _coerce(value: object, like: object) -> Any:
    """``value`` as the type of the default ``like``; a TypeError where it is something else."""
    if isinstance(like, tuple) and isinstance(value, list):
        return tuple(_coerce(item, like[0]) for item in value)
    if isinstance(like, str) and isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError
    if isinstance(like, float) or (isinstance(like, int) and value == int(value)):
        return type(like)(value)
    raise TypeError


def _require(condition: bool, name: str, value: object, wanted: str) -> None:
    if not condition:
        raise SettingsError(f"{name} is {value!r}; it must be {wanted}")
