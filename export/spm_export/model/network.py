"""The SPM-Tracker network as plain PyTorch: the reference that everything else is compared with.

Written to be read beside the paper (Wang et al., "SPM-Tracker: Series-Parallel Matching for Real-Time Visual Object
Tracking", CVPR 2019). Where the authors' release and the paper differ, this follows the release; docs/notes/model.md
lists the differences. Nothing is written to ``self`` in a forward pass, and every tensor has the batch axis first.

Shapes: ``B`` crops or targets, ``K`` boxes per target, maps ``[B, C, H, W]``, boxes ``[..., 4]`` as x1, y1, x2, y2 in
pixels of the 271 x 271 crop, ``N = 19 * 19 * 5`` anchors in the order row, column, anchor. All float32.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_rt.errors import SettingsError
from spm_rt.settings import MAX_LOG_SCALE, ModelSpec

from .backbones import Features, make_backbone
from .coarse import CoarseOutput, make_coarse_stage


class FineOutput(NamedTuple):
    """Raw outputs of the fine stage."""

    logits: Tensor
    """[B, K, 2]: background, foreground"""
    deltas: Tensor
    """[B, K, 4]"""


class FineStage(nn.Module):
    """Fine matching (paper, section 3.3): a relation network judges pairs of target and proposal."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        deep, shallow, width, hidden = (
            *(spec.deep_channels, spec.shallow_channels),
            *(spec.relation_channels, spec.hidden_channels),
        )
        self.stride = spec.stride
        self.first_cell = spec.first_cell
        self.cells = spec.roi_cells
        self.norm_deep = nn.BatchNorm2d(deep)
        self.norm_shallow = nn.BatchNorm2d(shallow)
        self.relate = nn.Conv2d(2 * (deep + shallow), width, 3, padding=1)
        self.linear1 = nn.Linear(width * spec.roi_cells**2, hidden)
        self.linear2 = nn.Linear(hidden, hidden)
        self.classify = nn.Linear(hidden, 2)
        self.regress = nn.Linear(hidden, 4)

    def roi_features(self, features: Features, boxes: Tensor) -> Tensor:
        """Features ``[B, K, 640, 6, 6]`` inside ``boxes`` ``[B, K, 4]``: conv4 then conv2, both normalised first.

        Samples outside a map are zero after the normalisation.
        """
        maps = (self.norm_deep(features.deep), self.norm_shallow(features.shallow))
        cells = (boxes - self.first_cell) / self.stride
        return torch.cat([crop_and_resize(m, cells, self.cells) for m in maps], dim=2)

    def forward(self, target: Tensor, proposals: Tensor) -> FineOutput:
        """Score and move proposals ``[B, K, 640, 6, 6]`` against their targets ``[B, 640, 6, 6]``."""
        batch, count = proposals.shape[:2]
        pairs = torch.cat([target[:, None].expand_as(proposals), proposals], dim=2).flatten(0, 1)
        x = F.relu(self.relate(pairs)).flatten(1)
        x = F.relu(self.linear2(F.relu(self.linear1(x))))
        return FineOutput(self.classify(x).reshape(batch, count, 2), self.regress(x).reshape(batch, count, 4))


class SPMTracker(nn.Module):
    """Backbone, coarse and fine stage together, with the few steps between them."""

    mean: Tensor
    anchors: Tensor

    def __init__(self, spec: ModelSpec | None = None) -> None:
        super().__init__()
        self.spec = spec or ModelSpec()
        self.backbone = make_backbone(self.spec)
        self.coarse = make_coarse_stage(self.spec)
        self.fine = FineStage(self.spec)
        mean = torch.tensor(self.spec.pixel_mean_bgr, device="cpu").reshape(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("anchors", torch.from_numpy(make_anchors(self.spec)).float(), persistent=False)

    def features(self, crop: Tensor) -> Features:
        """Features of raw crops: ``[B, 3, H, W]``, BGR, 0..255."""
        features: Features = self.backbone(crop - self.mean)
        return features

    def template_embedding(self, features: Features) -> Tensor:
        """The central 6 x 6 cells of the top map of a template crop."""
        return center_crop(features.top, self.spec.template_cells)

    def search_embedding(self, features: Features) -> Tensor:
        """The central 24 x 24 cells of the top map of a search crop."""
        return center_crop(features.top, self.spec.search_cells)

    def coarse_boxes(self, output: CoarseOutput) -> tuple[Tensor, Tensor]:
        """Scores ``[B, N]`` and boxes ``[B, N, 4]`` of a full-sized response (19 x 19)."""
        return foreground_score(output.logits), decode(self.anchors, flatten_deltas(output.deltas))

    def fine_boxes(self, output: FineOutput, proposals: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``[B, K]`` and boxes ``[B, K, 4]`` of the fine stage for ``proposals`` ``[B, K, 4]``."""
        scores = output.logits.softmax(dim=-1)[..., 1]
        return scores, decode(proposals, output.deltas, self.spec.fine_weights)


def with_crop(model: SPMTracker, side: int) -> SPMTracker:
    """The same weights for smaller crops, whose cells are the middle ones of the whole crops.

    Raises:
        SettingsError: so large a crop does not have these cells, or not all that the coarse stage reads.
    """
    spec = model.spec
    step, least = 2 * spec.coarsest_stride, (spec.search_cells + 2) * spec.stride - 1
    if not (least <= side <= spec.crop_size and (spec.crop_size - side) % step == 0):
        raise SettingsError(
            f"crop is {side}; it must be {spec.crop_size} less a multiple of {step}, and at least {least}"
        )
    with torch.device("meta"):
        smaller = SPMTracker(dataclasses.replace(spec, crop_size=side))
    smaller.load_state_dict(model.state_dict(), assign=True)
    return smaller.eval()


def center_crop(x: Tensor, cells: int) -> Tensor:
    """The central ``cells`` x ``cells`` of maps ``[B, C, H, W]``; the offset is rounded down."""
    top, left = (x.shape[2] - cells) // 2, (x.shape[3] - cells) // 2
    return x[:, :, top : top + cells, left : left + cells]


def crop_and_resize(maps: Tensor, boxes: Tensor, cells: int) -> Tensor:
    """Corner-aligned bilinear samples inside boxes; zero outside the map (docs/notes/model.md, "Sampling").

    The first and last samples lie exactly on the box's edges, there is one sample per output cell, and a sample counts
    as outside as a whole. This is TensorFlow's operator of that name, not RoIAlign. The order of the float32 operations
    is the release's, since it decides which samples on the last row and column are inside.

    Maps ``[B, C, H, W]`` and boxes ``[B, K, 4]`` in cells of the map (0 is the first cell's centre, W - 1 the last
    one's) give ``[B, K, C, n, n]`` with n = ``cells``.
    """
    batch, _, height, width = maps.shape
    x = sample_positions(boxes[..., 0], boxes[..., 2], width, cells)
    y = sample_positions(boxes[..., 1], boxes[..., 3], height, cells)
    inside = ((y >= 0) & (y <= height - 1))[..., :, None] & ((x >= 0) & (x <= width - 1))[..., None, :]
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    x0, y0, x1, y1 = left.long(), top.long(), x.ceil().long(), y.ceil().long()
    target = torch.arange(batch, device=maps.device)[:, None, None, None]
    channels_last = maps.permute(0, 2, 3, 1)

    def pixels(row: Tensor, column: Tensor) -> Tensor:
        return channels_last[target, row[..., :, None], column[..., None, :]]

    fx, fy = (x - left)[..., None, :, None], (y - top)[..., :, None, None]
    upper = pixels(y0, x0) + (pixels(y0, x1) - pixels(y0, x0)) * fx
    lower = pixels(y1, x0) + (pixels(y1, x1) - pixels(y1, x0)) * fx
    samples = upper + (lower - upper) * fy
    return torch.where(inside[..., None], samples, samples.new_zeros(())).permute(0, 1, 4, 2, 3)


def sample_positions(low: Tensor, high: Tensor, size: int, cells: int) -> Tensor:
    """``cells`` positions from ``low`` to ``high`` (``[...]`` -> ``[..., cells]``), through normalised coordinates."""
    last = size - 1
    low, high = low / last, high / last
    step = (high - low) * last / (cells - 1)
    steps = torch.arange(cells, dtype=low.dtype, device=low.device)
    return (low * last)[..., None] + steps * step[..., None]


def make_anchors(spec: ModelSpec) -> np.ndarray:
    """The anchors' corners, ``[N, 4]`` float64, in crop pixels (docs/notes/model.md, "Anchors")."""
    return anchor_grid(spec, spec.response_cells, (spec.crop_size - spec.stride * (spec.response_cells - 1)) / 2)


def anchor_grid(spec: ModelSpec, cells: int, first_center: float) -> np.ndarray:
    """Anchors of a ``cells`` x ``cells`` response whose first cell is centred on ``first_center``: ``[N, 4]``."""
    sides = []
    for scale in spec.anchor_scales:
        for ratio in spec.anchor_ratios:
            width = np.round(np.sqrt(spec.stride**2 / ratio))
            sides.append((width * scale, np.round(width * ratio) * scale))
    half = (np.array(sides) - 1) / 2
    centers = first_center + spec.stride * np.arange(cells)
    y, x = np.meshgrid(centers, centers, indexing="ij")
    center = np.stack([x, y], axis=-1)[:, :, None]
    return np.concatenate([center - half, center + half], axis=-1).reshape(-1, 4)


def foreground_score(logits: Tensor) -> Tensor:
    """Foreground probabilities ``[B, N]`` of coarse logits ``[B, 10, h, w]``: a softmax over each anchor's pair."""
    background, foreground = logits.chunk(2, dim=1)
    pairs = torch.stack([background, foreground], dim=-1).softmax(dim=-1)[..., 1]
    return pairs.permute(0, 2, 3, 1).flatten(1)


def flatten_deltas(deltas: Tensor) -> Tensor:
    """Deltas ``[B, 20, h, w]`` as ``[B, N, 4]`` in the anchors' order."""
    return deltas.permute(0, 2, 3, 1).reshape(len(deltas), -1, 4)


def decode(boxes: Tensor, deltas: Tensor, weights: tuple[float, float, float, float] = (1, 1, 1, 1)) -> Tensor:
    """Move and scale boxes by deltas (docs/notes/model.md, "Box decoding").

    A box's size is taken with + 1, the result's corners are not corrected for it: a zero delta moves the right and
    bottom edge out by one pixel. Log sizes that are not finite become the upper limit, as in the release.

    Args:
        boxes: ``[..., 4]`` x1, y1, x2, y2.
        deltas: ``[..., 4]`` dx, dy, dw, dh.
        weights: divisors of the deltas.
    """
    size = boxes[..., 2:] - boxes[..., :2] + 1
    center = boxes[..., :2] + 0.5 * size
    weight = deltas.new_tensor(weights)
    shift, log_scale = deltas[..., :2] / weight[:2], deltas[..., 2:] / weight[2:]
    log_scale = log_scale.nan_to_num(MAX_LOG_SCALE, MAX_LOG_SCALE, MAX_LOG_SCALE).clamp(max=MAX_LOG_SCALE)
    new_center, half = shift * size + center, 0.5 * (log_scale.exp() * size)
    return torch.cat([new_center - half, new_center + half], dim=-1)
