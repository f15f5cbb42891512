"""Weights without training: a network of the release's layout that matches like with like, the same on every machine.

Each tensor is drawn from its own stream of raw PCG64 words and scaled in float64, so that its float32 bytes do not
depend on the platform. tests/data/parity/weights.json has their digests; the recorded numbers beside it were made with
them.

The coarse stage's foreground kernels repeat the search branch's projection, and the relation convolution starts from
target minus proposal, so scores depend on what is seen. Noise in every tensor makes a swapped axis or channel show.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

SEED = 7
Doubles = NDArray[np.float64]
State = dict[str, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Source:
    """Uniform numbers of mean 0 and variance 1, one stream per name."""

    seed: int

    def draw(self, name: str, *shape: int) -> Doubles:
        stream = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        words = np.random.PCG64([self.seed, stream]).random_raw(math.prod(shape))
        unit = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return ((unit - 0.5) * 3.4641016151377544).reshape(shape)


def coarse_state(seed: int = SEED) -> State:
    """What ``cm_stage.pt`` holds."""
    source = Source(seed)
    return _as_torch({**_backbone(source), **_coarse_head(source)})


def fine_state(seed: int = SEED) -> State:
    """What ``fm_stage.pt`` holds."""
    source = Source(seed + 1000)
    return _as_torch({**_norms(source), **_relation(source)})


def write_checkpoint(folder: Path, seed: int = SEED) -> tuple[Path, Path]:
    """``cm_stage.pt`` and ``fm_stage.pt`` in the official layout."""
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "cm_stage.pt", folder / "fm_stage.pt"
    for file, state in zip(files, (coarse_state(seed), fine_state(seed)), strict=True):
        torch.save(state, file)
    return files


def digests(state: State) -> dict[str, dict[str, object]]:
    """Shape, type and sha256 of each tensor, as weights.json lists them."""
    return {
        name: {
            "shape": list(value.shape),
            "dtype": str(value.numpy().dtype),
            "sha256": hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest(),
        }
        for name, value in state.items()
    }


def _convolution(
    source: Source, name: str, shape: tuple[int, int, int], gain: float, bias: float, shift: float = 0.0
) -> dict[str, Doubles]:
    outputs, inputs, size = shape
    weight = source.draw(f"{name}.weight", outputs, inputs, size, size)
    return {
        f"{name}.weight": weight * (gain / (inputs * size * size) ** 0.5),
        f"{name}.bias": source.draw(f"{name}.bias", outputs) * bias + shift,
    }


def _backbone(source: Source) -> dict[str, Doubles]:
    first = "z_net.conv1.conv"
    # Blocks of 3 x 3 pixels, so that the filters see low frequencies.
    blocks = source.draw(f"{first}.weight", 96, 3, 4, 4).repeat(3, axis=2).repeat(3, axis=3)[:, :, :11, :11]
    return {
        f"{first}.weight": blocks * (0.28 / 363**0.5),
        f"{first}.bias": source.draw(f"{first}.bias", 96) * 4.0,
        **_convolution(source, "z_net.conv2.conv", (256, 48, 5), 2.4, 2.0, -4.0),
        **_convolution(source, "z_net.conv3.conv", (384, 256, 3), 0.55, 1.0, -2.0),
        **_convolution(source, "z_net.conv4.conv", (384, 192, 3), 1.0, 1.0, -1.0),
        **_convolution(source, "z_net.conv5.conv", (256, 192, 3), 0.75, 1.0, -1.0),
    }


def _coarse_head(source: Source) -> dict[str, Doubles]:
    head, fan_in = "rpn_head.", 2304**0.5
    projection = _edges(source.draw(f"{head}x_cls_conv.0.weight", 256, 256, 3, 3)) * (0.62 / fan_in)
    kernels = source.draw(f"{head}z_cls_conv.weight", 10, 256, 256, 3, 3) * (0.2 * 0.62 / fan_in)
    shares = (0.1, -0.1, -0.15, 0.05, 0.1, 0.7, 0.85, 1.0, 0.9, 0.75)  # five of background, five of foreground
    for kernel, share in zip(kernels, shares, strict=True):
        kernel += projection * share
    constant = source.draw(f"{head}cls_bias", 1, 10, 1, 1) * 0.15
    constant[:, 5:] += -1.0
    regress = _edges(source.draw(f"{head}x_bbox_conv.0.weight", 256, 256, 3, 3))
    return {
        f"{head}z_cls_conv.weight": kernels.reshape(2560, 256, 3, 3),
        f"{head}z_cls_conv.bias": source.draw(f"{head}z_cls_conv.bias", 2560) * 0.05,
        **_convolution(source, f"{head}z_bbox_conv", (5120, 256, 3), 0.03, 0.05),
        f"{head}x_cls_conv.0.weight": projection,
        f"{head}x_cls_conv.0.bias": source.draw(f"{head}x_cls_conv.0.bias", 256) * 0.05,
        f"{head}x_bbox_conv.0.weight": regress * (0.8 / fan_in),
        f"{head}x_bbox_conv.0.bias": source.draw(f"{head}x_bbox_conv.0.bias", 256) * 0.05,
        f"{head}bbox_refine.weight": source.draw(f"{head}bbox_refine.weight", 20, 20, 1, 1) * 0.25,
        f"{head}bbox_refine.bias": source.draw(f"{head}bbox_refine.bias", 20) * 0.1,
        f"{head}cls_bias": constant,
        # Stored in the layout but without a meaning: large values on purpose.
        f"{head}z_cls_weights": source.draw(f"{head}z_cls_weights", 10, 256, 4, 4) * 3.0,
        f"{head}z_bbox_weights": source.draw(f"{head}z_bbox_weights", 20, 256, 4, 4) * 3.0,
    }


def _edges(filters: Doubles) -> Doubles:
    """Even filters made antisymmetric in space, so that their taps add up to zero; odd ones made small."""
    even = filters[0::2].copy()
    filters[0::2] = (even - even[:, :, ::-1, ::-1]) * 0.8
    filters[1::2] *= 0.1
    return filters


def _norms(source: Source) -> dict[str, NDArray[np.generic]]:
    state: dict[str, NDArray[np.generic]] = {}
    for index, (channels, mean, deviation) in enumerate(((384, 6.0, 8.0), (256, 24.0, 28.0))):
        name = f"feat_extractor.bn_list.{index}."
        state |= {
            f"{name}weight": 1.0 + 0.2 * source.draw(f"{name}weight", channels),
            f"{name}bias": 0.1 * source.draw(f"{name}bias", channels),
            f"{name}running_mean": mean * (1.0 + 0.3 * source.draw(f"{name}running_mean", channels)),
            f"{name}running_var": (deviation * (1.0 + 0.2 * source.draw(f"{name}running_var", channels))) ** 2,
            f"{name}num_batches_tracked": np.array(12345, np.int64),
        }
    return state


def _relation(source: Source) -> dict[str, Doubles]:
    name = "siam_fusion.roi_conv.roi_conv0."
    target = source.draw(f"{name}z", 256, 640, 3, 3)
    proposal = -target + 0.35 * source.draw(f"{name}x", 256, 640, 3, 3)
    state = {
        f"{name}weight": np.concatenate((target, proposal), axis=1) * (1.0 / 11520**0.5),
        f"{name}bias": 0.1 * source.draw(f"{name}bias", 256),
    }
    for layer, inputs, offset in (("linear0", 9216, 0.03), ("linear1", 256, 0.2)):
        name = f"siam_fusion.linear_layers.{layer}."
        state[f"{name}weight"] = (source.draw(f"{name}weight", 256, inputs) + offset) * (0.6 / inputs**0.5)
        state[f"{name}bias"] = 0.1 * source.draw(f"{name}bias", 256)
    classify = source.draw("rcnn_cls.weight", 2, 256) * 0.085
    classify += np.array([[0.034], [-0.034]])
    regress = source.draw("rcnn_bbox.weight", 4, 256) * 0.04
    regress[:, 128:] = -regress[:, :128]
    return {
        **state,
        "rcnn_cls.weight": classify,
        "rcnn_cls.bias": np.array([-8.0, 8.0]),
        "rcnn_bbox.weight": regress,
        "rcnn_bbox.bias": source.draw("rcnn_bbox.bias", 4) * 0.1,
    }


def _as_torch(arrays: dict[str, NDArray[np.generic]]) -> State:
    kept = (np.dtype(np.int64),)
    return {
        name: torch.from_numpy(np.array(value, value.dtype if value.dtype in kept else np.float32))
        for name, value in arrays.items()
    }
