"""Coarse matching (paper, section 3.2): a template is correlated with a search region, at 5 anchors a cell."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_rt.settings import ModelSpec

from .backbones import ConvNorm


class CoarseOutput(NamedTuple):
    """Raw outputs of the coarse stage."""

    logits: Tensor
    """[B, 10, h, w]: channels 0..4 background, 5..9 foreground of anchors 0..4"""
    deltas: Tensor
    """[B, 20, h, w]: channel 4 * anchor + (dx, dy, dw, dh)"""


class CoarseKernels(NamedTuple):
    """What the release's coarse stage remembers of a template: correlation kernels per output channel."""

    classify: Tensor
    """[B, 10, 256, 4, 4]"""
    regress: Tensor
    """[B, 20, 256, 4, 4]"""


class CoarseStage(nn.Module):
    """The release's: a kernel per output, made of the template by a convolution."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        anchors, inputs, width = spec.anchors_per_cell, spec.top_channels, spec.head_channels
        self.width = width
        self.cells = spec.template_cells - 2
        self.scale = spec.coarse_scale_factor
        self.template_classify = nn.Conv2d(inputs, 2 * anchors * width, 3)
        self.template_regress = nn.Conv2d(inputs, 4 * anchors * width, 3)
        self.search_classify = nn.Conv2d(inputs, width, 3)
        self.search_regress = nn.Conv2d(inputs, width, 3)
        self.classify_bias = nn.Parameter(torch.zeros(2 * anchors))
        self.refine = nn.Conv2d(4 * anchors, 4 * anchors, 1)

    def kernels(self, template: Tensor) -> CoarseKernels:
        """Correlation kernels of template embeddings ``[B, 256, 6, 6]``."""
        shape = (len(template), -1, self.width, self.cells, self.cells)
        return CoarseKernels(
            (self.template_classify(template) * self.scale[0]).reshape(shape),
            (self.template_regress(template) * self.scale[1]).reshape(shape),
        )

    def forward(self, kernels: CoarseKernels, search: Tensor) -> CoarseOutput:
        """Compare search embeddings ``[B, 256, h + 5, w + 5]`` with the kernels of their targets."""
        logits = correlate(self.search_classify(search), kernels.classify)
        deltas = correlate(self.search_regress(search), kernels.regress)
        return CoarseOutput(logits + self.classify_bias[:, None, None], self.refine(deltas))

    def composed(self, template: Tensor) -> tuple[Tensor, Tensor]:
        """What the template graph gives: kernel ``[1, 30, 256, 6, 6]`` and bias ``[1, 30]`` of the collapsed head.

        Written out tap by tap in float64, for one template embedding.
        """
        kernels, biases = [], []
        both = self.kernels(template)
        mixed = torch.tensordot(self.refine.weight.double()[:, :, 0, 0], both.regress[0].double(), 1)
        for kernel, search, constant in (
            (both.classify[0].double(), self.search_classify, self.classify_bias),
            (mixed, self.search_regress, self.refine.bias),
        ):
            weight = search.weight.double()
            full = torch.zeros(len(kernel), weight.shape[1], self.cells + 2, self.cells + 2, dtype=torch.float64)
            for u in range(self.cells):
                for v in range(self.cells):
                    full[:, :, u : u + 3, v : v + 3] += torch.tensordot(kernel[:, :, u, v], weight, 1)
            assert search.bias is not None
            assert constant is not None
            kernels.append(full)
            biases.append(kernel.sum((2, 3)) @ search.bias.double() + constant.double())
        return torch.cat(kernels)[None].float(), torch.cat(biases)[None].float()


class PixelKernels(NamedTuple):
    """What the light coarse stage remembers of a template: what each of its cells is compared with, and a bias."""

    cells: Tensor
    """[B, 36, C]"""
    bias: Tensor
    """[B, 36]"""


class PixelStage(nn.Module):
    """The light model's: every cell of the search region is compared with every cell of the template.

    The result, a map per template cell, is mixed with the search region's own features; one depth-wise 6 x 6
    convolution then gathers what the template's extent covers, and 1 x 1 convolutions decide.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        anchors, inputs, width, cells = (
            *(spec.anchors_per_cell, spec.top_channels),
            *(spec.head_channels, spec.template_cells),
        )
        self.template_project = nn.Conv2d(inputs, inputs, 1)
        self.template_bias = nn.Conv2d(inputs, 1, 1)
        self.norm = nn.BatchNorm2d(cells**2)
        self.mix = ConvNorm(cells**2 + inputs, width)
        self.gather = ConvNorm(width, width, cells, groups=width)
        self.tower = ConvNorm(width, width)
        self.classify = nn.Conv2d(width, 2 * anchors, 1)
        self.regress = nn.Conv2d(width, 4 * anchors, 1)

    def kernels(self, template: Tensor) -> PixelKernels:
        """What template embeddings ``[B, C, 6, 6]`` are compared by."""
        return PixelKernels(
            self.template_project(template).flatten(2).transpose(1, 2), self.template_bias(template).flatten(1)
        )

    def forward(self, kernels: PixelKernels, search: Tensor) -> CoarseOutput:
        """Compare search embeddings ``[B, C, h + 5, w + 5]`` with the kernels of their targets."""
        response = kernels.cells @ search.flatten(2) + kernels.bias[..., None]
        response = self.norm(response.reshape(len(search), -1, *search.shape[2:]))
        x = self.tower(self.gather(self.mix(torch.cat([response, search], dim=1))))
        return CoarseOutput(self.classify(x), self.regress(x))

    def composed(self, template: Tensor) -> tuple[Tensor, Tensor]:
        """What the template graph gives: kernels ``[1, 36, C]`` and bias ``[1, 36]``, both normalised."""
        kernels, norm = self.kernels(template), self.norm
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        bias = (kernels.bias.double() - norm.running_mean.double()) * scale + norm.bias.double()
        return (kernels.cells * scale[:, None]).float(), bias.float()


def correlate(search: Tensor, kernels: Tensor) -> Tensor:
    """Cross-correlation of each search map ``[B, C, H, W]`` with its own target's kernels ``[B, O, C, k, k]``.

    The result is ``[B, O, H - k + 1, W - k + 1]``.
    """
    batch, outputs = kernels.shape[:2]
    response = F.conv2d(search.reshape(1, -1, *search.shape[2:]), kernels.flatten(0, 1), groups=batch)
    return response.reshape(batch, outputs, *response.shape[2:])


def make_coarse_stage(spec: ModelSpec) -> CoarseStage | PixelStage:
    """The coarse stage that a model is specified to have, with random weights."""
    return CoarseStage(spec) if spec.head == "convolution" else PixelStage(spec)
