"""The networks that give the features, as plain PyTorch: the release's AlexNet, and EfficientNet-Lite0."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_rt.models import lite0
from spm_rt.models.lite0 import Layer, same_padding
from spm_rt.settings import ModelSpec


class Features(NamedTuple):
    """The backbone's three maps that later stages read; channels of the release's AlexNet."""

    shallow: Tensor
    """[B, 256, H, W]: conv2 after its LRN"""
    deep: Tensor
    """[B, 384, H, W]: conv4"""
    top: Tensor
    """[B, 256, H, W]: conv5"""


class AlexNet(nn.Module):
    """The release's backbone (paper, section 4.1): total stride 8, padded, two groups, LRN, no linear layers."""

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


class SameConv2d(nn.Conv2d):
    """A convolution padded so that ``ceil(side / stride)`` cells come out: unevenly where the side is even."""

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        rows, columns = (same_padding(side, kernel, stride) for side in x.shape[2:])
        if rows == columns and rows[0] == rows[1]:
            return F.conv2d(x, self.weight, self.bias, self.stride, rows[0], groups=self.groups)
        return F.conv2d(F.pad(x, (*columns, *rows)), self.weight, self.bias, self.stride, groups=self.groups)


class Block(nn.Module):
    """Expand, filter each channel, project; with the input added where the block keeps its shape."""

    def __init__(self, layers: list[Layer], residual: bool) -> None:
        super().__init__()
        self.residual = residual
        for layer in layers:
            convolution = SameConv2d(
                layer.inputs, layer.outputs, layer.kernel, stride=layer.stride, groups=layer.groups
            )
            self.add_module(layer.name, convolution)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for name, layer in self.named_children():
            y = layer(y) if name == "project" else F.relu6(layer(y), inplace=True)
        return x + y if self.residual else y


class ConvNorm(nn.Module):
    """A convolution without bias and its batch norm, which the graphs fold into one."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, padding: int = 0, groups: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, padding=padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        normalized: Tensor = self.norm(self.convolution(x))
        return F.relu6(normalized)


class Lite0(nn.Module):
    """EfficientNet-Lite0 up to its last stage of stride 16, its own batch norm folded, and what reads it.

    The stride-8 and stride-16 cells are brought to one width each, the latter up to stride 8; the coarse stage's map
    is made of both.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        shallow, deep, top = spec.shallow_channels, spec.deep_channels, spec.top_channels
        self.stem = SameConv2d(3, lite0.STEM_CHANNELS, 3, stride=2)
        self.blocks = nn.ModuleList(
            nn.ModuleList(Block(lite0.block_layers(i, j), residual=j > 0) for j in range(stage.blocks))
            for i, stage in enumerate(lite0.STAGES)
        )
        self.lateral_shallow = ConvNorm(lite0.STAGES[lite0.SHALLOW_STAGE].channels, shallow)
        self.lateral_deep = ConvNorm(lite0.STAGES[-1].channels, deep)
        self.top_project = ConvNorm(shallow + deep, top)
        self.top_depthwise = ConvNorm(top, top, 3, padding=1, groups=top)

    def forward(self, image: Tensor) -> Features:
        """Features of mean-free BGR crops ``[B, 3, H, W]``, H and W a multiple of 16 less 1."""
        shallow, deep = self.laterals(*self.levels(self.entry(image)))
        return Features(shallow, deep, self.top(shallow, deep))

    def entry(self, image: Tensor) -> Tensor:
        """EfficientNet's cells of stride 4."""
        return self._through(F.relu6(self.stem(image), inplace=True), 0, lite0.ENTRY_STAGE)

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """EfficientNet's cells of stride 8 and 16, from those of stride 4."""
        shallow = self._through(x, lite0.ENTRY_STAGE + 1, lite0.SHALLOW_STAGE)
        return shallow, self._through(shallow, lite0.SHALLOW_STAGE + 1, len(lite0.STAGES) - 1)

    def _through(self, x: Tensor, first: int, last: int) -> Tensor:
        for stage in range(first, last + 1):
            for block in self.blocks[stage].children():
                x = block(x)
        return x

    def laterals(self, shallow: Tensor, deep: Tensor) -> tuple[Tensor, Tensor]:
        """The two maps of the fine stage, both of stride 8."""
        raised = F.interpolate(self.lateral_deep(deep), scale_factor=2, mode="bilinear", align_corners=False)
        return self.lateral_shallow(shallow), raised

    def top(self, shallow: Tensor, deep: Tensor) -> Tensor:
        """The coarse stage's map."""
        top: Tensor = self.top_depthwise(self.top_project(torch.cat([shallow, deep], dim=1)))
        return top


def make_backbone(spec: ModelSpec) -> AlexNet | Lite0:
    """The backbone that a model is specified to have, with random weights."""
    return AlexNet() if spec.backbone == "alexnet" else Lite0(spec)
