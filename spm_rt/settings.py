"""What the network looks like (:class:`ModelSpec`) and how the tracker uses it (:class:`TrackerSettings`).

Both are frozen, validated when made, and travel in a bundle's manifest as plain JSON.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar

from .errors import SettingsError
from .fields import MOST, as_number, require, set_numbers, set_share, set_whole, shortened

MODES = ("series-parallel", "series", "coarse")
BACKBONES = ("alexnet", "efficientnet_lite0")
HEADS = ("convolution", "pixelwise")
_SHARES = (
    *("near_iou", "score_floor", "nms_threshold", "fine_score_weight"),
    *("window_influence", "size_rate", "update_threshold", "found_threshold", "extent_correction"),
)
"""Settings from 0 to 1."""
_WIDTHS = ("shallow", "deep", "top", "head", "relation", "hidden")
"""What ``ModelSpec`` has channels of."""
MAX_LOG_SCALE = math.log(255.0 / 32.0)
"""Largest change of a box's log size in one decode (about a factor of 8)."""


def _later(default: Any) -> Any:
    """A field that the first bundles do not have: JSON leaves it out where it has its default."""
    return dataclasses.field(default=default, metadata={"later": True})


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Sizes and constants of the network. The defaults are the release's AlexNet; :mod:`spm_rt.models` has others.

    Sizes are in pixels of the crop.

    Attributes:
        backbone: the network that gives the features, ``alexnet`` or ``efficientnet_lite0``.
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
        first_cell: centre of the feature maps' first cell, in pixels of the crop.
        coarsest_stride: largest stride of a map inside the backbone; a crop that is smaller by a multiple of twice that
            has the same cells in its middle.
        shallow_channels: of the fine stage's shallow map.
        deep_channels: of its deep map.
        top_channels: of the map that the coarse stage reads.
        head: how the coarse stage compares a template with a search region: ``convolution`` (a kernel per output, as
            in the release) or ``pixelwise`` (every cell with every cell of the template, then more convolutions).
        head_channels: of the coarse stage, between its first and its last convolution.
        relation_channels: of the fine stage's first convolution.
        hidden_channels: of its linear layers.
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
    first_cell: float = _later(0.0)
    coarsest_stride: int = _later(8)
    shallow_channels: int = _later(256)
    deep_channels: int = _later(384)
    top_channels: int = _later(256)
    head: str = _later("convolution")
    head_channels: int = _later(256)
    relation_channels: int = _later(256)
    hidden_channels: int = _later(256)

    def __post_init__(self) -> None:
        for name, known in (("backbone", BACKBONES), ("head", HEADS)):
            value = getattr(self, name)
            require(isinstance(value, str) and value in known, name, value, "one of " + ", ".join(known))
        for name, least, most in (
            *((name, 1, 4096) for name in ("template_size", "crop_size", "stride", "coarsest_stride")),
            *((name, 1, 512) for name in ("template_cells", "search_cells", "response_cells")),
            ("roi_cells", 2, 64),
            *((f"{name}_channels", 1, 4096) for name in _WIDTHS),
        ):
            set_whole(self, name, least, most)
        set_share(self, "first_cell", 4096)
        for name, count, words in (
            ("anchor_ratios", None, "a list of up to 64"),
            ("anchor_scales", None, "a list of up to 64"),
            ("coarse_scale_factor", 2, "two"),
            ("fine_weights", 4, "four"),
        ):
            set_numbers(self, name, count, f"{words} positive numbers", positive=True)
        set_numbers(self, "pixel_mean_bgr", 3, "three numbers")
        context = self.context_amount
        require(as_number(context) == 0.5, "context_amount", context, "0.5 (the crop geometry is defined for it)")

    @property
    def anchors_per_cell(self) -> int:
        return len(self.anchor_ratios) * len(self.anchor_scales)

    @property
    def cells(self) -> int:
        """Side of the feature maps, in cells (34)."""
        return self.crop_size // self.stride + 1

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
        rival_memory: frames for which the places of rivals are remembered, other proposals that reach
            ``update_threshold``: where the box goes over to one, ``found`` is false (docs/notes/lost.md,
            "Look-alikes"). 0, as in the release: ``found`` goes by the score alone.
        min_side: smallest width and height of a box, in pixels of the frame (10 in the release).
        extent_correction: share of the difference between the first box and what is detected on its own frame by which
            all later boxes are put right (docs/notes/model.md, "Extent"). 0, as in the release: of none, and ``init``
            takes half the time.
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
    extent_correction: float = _later(0.0)
    rival_memory: int = _later(0)

    def __post_init__(self) -> None:
        require(isinstance(self.mode, str) and self.mode in MODES, "mode", self.mode, "one of " + ", ".join(MODES))
        set_whole(self, "num_candidates", 1, 64)
        set_whole(self, "num_near_candidates", 0, 1)
        set_whole(self, "rival_memory", 0, 1000)
        count, near = self.num_candidates, self.num_near_candidates
        require(near < count or count == 1, "num_near_candidates", near, "fewer than num_candidates")
        for name, most in (*((name, 1) for name in _SHARES), ("fine_box_weight", MOST), ("min_side", MOST)):
            set_share(self, name, most)


@dataclasses.dataclass(frozen=True)
class RecoverySettings:
    """A way back after a loss (docs/guide/recovery.md). A bundle does not carry them: they are given to the tracker.

    Attributes:
        sure: least score of *both* stages where they are said to agree.
        patience: frames without agreement, from the first one under ``found_threshold`` on, after which the target is
            lost.
        search: look for a lost target all over the frame.
        crops: places looked at in each frame of a lost target.
        step: distance of neighbouring places, in sides of a search region; more than 0.5 leaves gaps.
        scales: sizes that are looked for, times the last sure one.
        motion_frames: frames for which the last sure motion is thought to go on: the places along it come first.
        look_alikes: places in the first frame, the nearest ones, at which things like the target are looked for;
            0 for none; each costs part of a frame's time in ``init``.
        rival_margin: by how much a lost target has to score more than the best of them, and than the best rival beside
            it while it was surely tracked.
        margin: by how much a place has to score more than the tracker's own box.
        confirm: frames one after another in which both stages have to agree before the box moves.
        backward: believe in a place only if its template finds the target in the first frame.
        backward_overlap: with the box given there, from which on it is the target's.
        backward_score: least fused score of that.
        second_template: look for the target as it was seen last, too.
        second_every: frames from one view for the second template to the next.
        rollback: frames before a loss whose views are forgotten.
    """

    sure: float = 0.5
    patience: int = 3
    search: bool = True
    crops: int = 8
    step: float = 0.5
    scales: tuple[float, ...] = (1.0,)
    motion_frames: int = 5
    look_alikes: int = 64
    rival_margin: float = 0.1
    margin: float = 0.2
    confirm: int = 3
    backward: bool = True
    backward_overlap: float = 0.6
    backward_score: float = 0.7
    second_template: bool = True
    second_every: int = 10
    rollback: int = 10

    def __post_init__(self) -> None:
        for name, least, most in (
            *((name, 1, 1000) for name in ("patience", "confirm", "second_every")),
            *((name, 0, 1000) for name in ("motion_frames", "rollback", "look_alikes")),
            ("crops", 2, 64),
        ):
            set_whole(self, name, least, most)
        for name in ("sure", "rival_margin", "margin", "backward_overlap", "backward_score"):
            set_share(self, name)
        set_numbers(self, "scales", None, "a list of up to 64 positive numbers", positive=True)
        step = as_number(self.step)
        require(step is not None and 0.1 <= step <= 1, "step", self.step, "a number from 0.1 to 1")
        for name in ("search", "backward", "second_template"):
            require(isinstance(getattr(self, name), bool), name, getattr(self, name), "True or False")


Settings = TypeVar("Settings", ModelSpec, TrackerSettings)


def to_json(settings: ModelSpec | TrackerSettings) -> dict[str, Any]:
    """The settings as JSON types (tuples become lists)."""
    fields = ((field, getattr(settings, field.name)) for field in dataclasses.fields(settings))
    told = ((f.name, value) for f, value in fields if not (f.metadata.get("later") and value == f.default))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in told}


def from_json(kind: type[Settings], values: object) -> Settings:
    """Settings read back from :func:`to_json`'s form; unknown, missing or mistyped entries are named in one error."""
    if not isinstance(values, dict):
        raise SettingsError(f"{kind.__name__}: an object was expected, not {type(values).__name__}")
    defaults = kind()
    known = {field.name: field for field in dataclasses.fields(kind)}
    needed = {name for name, field in known.items() if not field.metadata.get("later")}
    wrong = [f"unknown {shortened(name)}" for name in sorted(set(values) - known.keys())[:8]]
    wrong += [f"missing {name}" for name in sorted(needed - set(values))]
    clean: dict[str, Any] = {}
    for name in sorted(known.keys() & set(values)):
        try:
            clean[name] = _coerce(values[name], getattr(defaults, name))
        except TypeError:
            wrong.append(f"{name}: {shortened(values[name])}")
    if wrong:
        raise SettingsError(f"{kind.__name__}: " + "; ".join(wrong))
    return kind(**clean)


def _coerce(value: object, like: object) -> Any:
    """``value`` as the type of the default ``like``; a TypeError where it is something else."""
    if isinstance(like, tuple) and isinstance(value, list):
        return tuple(_coerce(item, like[0]) for item in value)
    if isinstance(like, str) and isinstance(value, str):
        return value
    number = as_number(value)
    if number is None or (isinstance(like, int) and number != int(number)):
        raise TypeError
    return type(like)(number)  # type: ignore[call-arg]


def check_settings(settings: object) -> TrackerSettings:
    """Tracker settings as a caller gives them.

    Raises:
        SettingsError: they are something else.
    """
    if isinstance(settings, TrackerSettings):
        return settings
    advice = "dataclasses.replace(bundle.settings, mode='coarse') changes what a bundle brings"
    raise SettingsError(f"settings are {shortened(settings)}; they must be TrackerSettings ({advice})")


def check_recovery(settings: object) -> RecoverySettings:
    """Settings of a way back as a caller gives them.

    Raises:
        SettingsError: they are something else.
    """
    if isinstance(settings, RecoverySettings):
        return settings
    raise SettingsError(f"recovery is {shortened(settings)}; it must be RecoverySettings()")
