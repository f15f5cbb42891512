"""The SPM-Tracker network as plain PyTorch: the reference that everything else is compared with.

Written to be read beside the paper (Wang et al., "SPM-Tracker: Series-Parallel Matching for Real-Time Visual Object
Tracking", CVPR 2019). Where the authors' release and the paper differ, this follows the release; docs/notes/model.md
lists the differences. Nothing is written to ``self`` in a forward pass, and every tensor has the batch axis first.

Shapes: ``B`` crops or targets, ``K`` boxes per target, maps ``[B, C, H, W]``, boxes ``[..., 4]`` as x1, y1, x2, y2 in
pixels of the 271 x 271 crop, ``N = 19 * 19 * 5`` anchors in the order row, column, anchor. All float32.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_rt.settings import MAX_LOG_SCALE, ModelSpec


class Features(NamedTuple):
    """The backbone's three maps that later stages read: conv2 after its LRN, conv4, conv5."""

    shallow: Tensor
    """[B, 256, H, W]"""
    deep: Tensor
    """[B, 384, H, W]"""
    top: Tensor
    """[B, 256, H, W]"""


class CoarseKernels(NamedTuple):
    """What the coarse stage remembers of a template: correlation kernels per output channel."""

    classify: Tensor
    """[B, 10, 256, 4, 4]"""
    regress: Tensor
    """[B, 20, 256, 4, 4]"""


class CoarseOutput(NamedTuple):
    """Raw outputs of the coarse stage."""

    logits: Tensor
    """[B, 10, h, w]: channels 0..4 background, 5..9 foreground of anchors 0..4"""
    deltas: Tensor
    """[B, 20, h, w]: channel 4 * anchor + (dx, dy, dw, dh)"""


class FineOutput(NamedTuple):
    """Raw outputs of the fine stage."""

    logits: Tensor
    """[B, K, 2]: background, foreground"""
    deltas: Tensor
    """[B, K, 4]"""


class AlexNet(nn.Module):
    """The backbone (paper, section 4.1): AlexNet of total stride 8, padded, two groups, LRN, no linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11, stride=2, padding=5)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)

    def forward(self, image: Tensor) -> Features:
        """Features of mean-free BGR crops ``[B, 3, H, W]``."""
        x = self.pool_and_normalize(F.relu(self.conv1(image)))
        shallow = self.pool_and_normalize(F.relu(self.conv2(x)))
        deep = F.relu(self.conv4(F.relu(self.conv3(shallow))))
        return Features(shallow, deep, F.relu(self.conv5(deep)))

    @staticmethod
    def pool_and_normalize(x: Tensor) -> Tensor:
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        return F.local_response_norm(x, size=5, alpha=1e-4, beta=0.75, k=1.0)


class CoarseStage(nn.Module):
    """Coarse matching (paper, section 3.2): correlates a template with a search region, at 5 anchors a cell."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        anchors = spec.anchors_per_cell
        self.cells = spec.template_cells - 2
        self.scale = spec.coarse_scale_factor
        self.template_classify = nn.Conv2d(256, 2 * anchors * 256, 3)
        self.template_regress = nn.Conv2d(256, 4 * anchors * 256, 3)
        self.search_classify = nn.Conv2d(256, 256, 3)
        self.search_regress = nn.Conv2d(256, 256, 3)
        self.classify_bias = nn.Parameter(torch.zeros(2 * anchors))
        self.refine = nn.Conv2d(4 * anchors, 4 * anchors, 1)

    def kernels(self, template: Tensor) -> CoarseKernels:
        """Correlation kernels of template embeddings ``[B, 256, 6, 6]``."""
        shape = (len(template), -1, 256, self.cells, self.cells)
        return CoarseKernels(
            (self.template_classify(template) * self.scale[0]).reshape(shape),
            (self.template_regress(template) * self.scale[1]).reshape(shape),
        )

    def forward(self, kernels: CoarseKernels, search: Tensor) -> CoarseOutput:
        """Compare search embeddings ``[B, 256, h + 5, w + 5]`` with the kernels of their targets."""
        logits = correlate(self.search_classify(search), kernels.classify)
        deltas = correlate(self.search_regress(search), kernels.regress)
        return CoarseOutput(logits + self.classify_bias[:, None, None], self.refine(deltas))


class FineStage(nn.Module):
    """Fine matching (paper, section 3.3): a relation network judges pairs of target and proposal."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.stride = spec.stride
        self.cells = spec.roi_cells
        self.norm_deep = nn.BatchNorm2d(384)
        self.norm_shallow = nn.BatchNorm2d(256)
        self.relate = nn.Conv2d(2 * 640, 256, 3, padding=1)
        self.linear1 = nn.Linear(256 * spec.roi_cells**2, 256)
        self.linear2 = nn.Linear(256, 256)
        self.classify = nn.Linear(256, 2)
        self.regress = nn.Linear(256, 4)

    def roi_features(self, features: Features, boxes: Tensor) -> Tensor:
        """Features ``[B, K, 640, 6, 6]`` inside ``boxes`` ``[B, K, 4]``: conv4 then conv2, both normalised first.

        Samples outside a map are zero after the normalisation.
        """
        maps = (self.norm_deep(features.deep), self.norm_shallow(features.shallow))
        return torch.cat([crop_and_resize(m, boxes / self.stride, self.cells) for m in maps], dim=2)

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
        self.backbone = AlexNet()
        self.coarse = CoarseStage(self.spec)
        self.fine = FineStage(self.spec)
        mean = torch.tensor(self.spec.pixel_mean_bgr, device="cpu").reshape(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("anchors", torch.from_numpy(make_anchors(self.spec)).float(), persistent=False)

    def features(self, crop: Tensor) -> Features:
        """Features of raw crops: ``[B, 3, H, W]``, BGR, 0..255."""
        features: Features = self.backbone(crop - self.mean)
        return features

    def template_embedding(self, features: Features) -> Tensor:
        """The central 6 x 6 cells of conv5 of a template crop."""
        return center_crop(features.top, self.spec.template_cells)

    def search_embedding(self, features: Features) -> Tensor:
        """The central 24 x 24 cells of conv5 of a search crop."""
        return center_crop(features.top, self.spec.search_cells)

    def coarse_boxes(self, output: CoarseOutput) -> tuple[Tensor, Tensor]:
        """Scores ``[B, N]`` and boxes ``[B, N, 4]`` of a full-sized response (19 x 19)."""
        return foreground_score(output.logits), decode(self.anchors, flatten_deltas(output.deltas))

    def fine_boxes(self, output: FineOutput, proposals: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``[B, K]`` and boxes ``[B, K, 4]`` of the fine stage for ``proposals`` ``[B, K, 4]``."""
        scores = output.logits.softmax(dim=-1)[..., 1]
        return scores, decode(proposals, output.deltas, self.spec.fine_weights)


def correlate(search: Tensor, kernels: Tensor) -> Tensor:
    """Cross-correlation of each search map ``[B, C, H, W]`` with its own target's kernels ``[B, O, C, k, k]``.

    The result is ``[B, O, H - k + 1, W - k + 1]``.
    """
    batch, outputs = kernels.shape[:2]
    response = F.conv2d(search.reshape(1, -1, *search.shape[2:]), kernels.flatten(0, 1), groups=batch)
    return response.reshape(batch, outputs, *response.shape[2:])


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
    return anchor_grid(spec, spec.response_cells, spec.template_size / 2)


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
