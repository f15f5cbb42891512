"""EfficientNet-Lite0 as far as it is used: its blocks, and the padding that all its layers have.

Reference model, graphs, training and the PyTorch backend all read this table.
"""

from __future__ import annotations

from typing import NamedTuple


class Stage(NamedTuple):
    """Blocks one after the other; the first one has the stride."""

    blocks: int
    kernel: int
    stride: int
    channels: int
    expansion: int
    """how many times the block's input channels it is computed with"""


STEM_CHANNELS = 32
STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(2, 3, 2, 24, 6),
    Stage(2, 5, 2, 40, 6),
    Stage(3, 3, 2, 80, 6),
    Stage(3, 5, 1, 112, 6),
)
"""Up to the last stage of stride 16."""
ENTRY_STAGE = 1
"""The last stage of stride 4."""
SHALLOW_STAGE = 2
"""The last stage of stride 8."""
LIMIT = 6.0
"""Activations are min(max(x, 0), 6)."""


class Layer(NamedTuple):
    """One convolution."""

    name: str
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    activated: bool = True


def block_layers(stage: int, block: int) -> list[Layer]:
    """The layers of a block: expand (where it does), depthwise, project."""
    about = STAGES[stage]
    before = STAGES[stage - 1].channels if stage else STEM_CHANNELS
    inputs = about.channels if block else before
    wide, stride = inputs * about.expansion, 1 if block else about.stride
    layers = [Layer("expand", inputs, wide)] if about.expansion > 1 else []
    return [
        *layers,
        Layer("depthwise", wide, wide, about.kernel, stride, wide),
        Layer("project", wide, about.channels, activated=False),
    ]


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after a map of ``side`` cells, by which ``ceil(side / stride)`` come out of a convolution."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2
