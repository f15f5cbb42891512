"""The light model's parts of the network: EfficientNet-Lite0, and the pixel-wise coarse head."""

from __future__ import annotations

import math
from typing import Any

from ...models import lite0
from ...models.lite0 import Layer, same_padding
from .network import Network

Tensor = Any


class LightNetwork(Network):
    """The network where the backbone is EfficientNet-Lite0 and the coarse head compares cell by cell."""

    FIRST = "stem"

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The fine stage's two maps of prepared crops, both of stride 8."""
        x = self._layer(x, "stem", Layer("stem", 3, lite0.STEM_CHANNELS, 3, 2))
        for i, stage in enumerate(lite0.STAGES):
            for j in range(stage.blocks):
                before = x
                for layer in lite0.block_layers(i, j):
                    other = before if j and layer.name == "project" else None
                    x = self._layer(x, f"blocks.{i}.{j}.{layer.name}", layer, other)
            if i == lite0.SHALLOW_STAGE:
                shallow = x
        deep = self._f.interpolate(self._clipped(x, "lateral_deep"), scale_factor=2, mode="bilinear")
        return self._clipped(shallow, "lateral_shallow"), deep

    def _top(self, shallow: Tensor, deep: Tensor, cells: int) -> Tensor:
        """The central cells of the coarse stage's map, from the windows that they see (one cell more on each side)."""
        both = self._torch.cat([self._window(maps, cells) for maps in (shallow, deep)], dim=1)
        return self._clipped(self._clipped(both, "top_project"), "top_depthwise", groups=self.spec.top_channels)

    def _head(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """A kernel per cell of the template ``[T, 36, C]``, and what is added to its response ``[T, 36]``."""
        kernel, bias = (self._plain(embedding, f"template_{part}").flatten(2) for part in ("project", "bias"))
        scale, shift = self._w["head_scale"], self._w["head_shift"]
        kernel = kernel.transpose(1, 2).float() * scale
        return kernel.to(self.data), bias[:, 0].float() * scale[..., 0] + shift

    def _response(self, embedding: Tensor, kernel: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Background and foreground of the anchors, then their deltas: ``[T, 30, 19, 19]``; and their bias."""
        maps = kernel @ embedding.flatten(2) + bias[..., None].to(self.data)
        both = self._torch.cat([maps.reshape(len(maps), -1, *embedding.shape[2:]), embedding], dim=1)
        x = self._clipped(self._clipped(both, "mix"), "gather", groups=self.spec.head_channels)
        return self._product(self._clipped(x, "tower"), "decide"), self._bias["decide"]

    def _layer(self, x: Tensor, name: str, layer: Layer, other: Tensor | None = None) -> Tensor:
        before, after = same_padding(x.shape[-1], layer.kernel, layer.stride)
        x = self._f.pad(x, (before, after, before, after)) if after else x
        how = {"stride": layer.stride, "groups": layer.groups}
        if layer.activated:
            return self._clipped(x, name, **how)
        return self.steps.activate(self._product(x, name, **how), self._bias[name], low=-math.inf, other=other)

    def _clipped(self, x: Tensor, name: str, **how: int) -> Tensor:
        return self.steps.activate(self._product(x, name, **how), self._bias[name], high=lite0.LIMIT)

    def _plain(self, x: Tensor, name: str, **how: int) -> Tensor:
        return self._f.conv2d(x, self._w[f"{name}.weight"], self._w[f"{name}.bias"], **how)
