"""The three graphs' arithmetic in PyTorch, on a bundle's own weights: no exporter, no ONNX (docs/notes/gpu.md).

It follows the graphs operator by operator (docs/reference/graphs.md, "Rewrites"): the composed coarse head, the split
relation convolution, conv5 on the window that its crop reads, batch norm after the sampling. In half precision the same
parts stay float32 as in float16 bundles: mean, LRN, RoI positions, scales, decoding, scores.

PyTorch is imported by the backend that makes a :class:`Network` and passed in: this module can be read without it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle.contract import FLOAT32_WEIGHTS
from ...errors import BackendError, BundleError
from ...settings import MAX_LOG_SCALE, ModelSpec

Tensor = Any
LRN_SIZE, LRN_ALPHA = 5, 1e-4
Roi = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps ``[T, 384, H, W]`` and ``[T, 256, H, W]``, boxes ``[T, K, 4]`` -> normalised samples ``[T * K, 640, 6, 6]``."""


def read_weights(path: Path, torch: Any) -> dict[str, Tensor]:
    """The tensors of a safetensors file (an 8-byte length, a JSON header, the data).

    Raises:
        BundleError: not of this format.
    """
    types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "I8": torch.int8}
    try:
        raw = np.memmap(path, np.uint8, "r")
        start = 8 + int.from_bytes(raw[:8].tobytes(), "little")
        header = json.loads(raw[8:start].tobytes())
        header.pop("__metadata__", None)
        found = {}
        for name, facts in header.items():
            first, last = facts["data_offsets"]
            data = torch.from_numpy(np.array(raw[start + first : start + last]))
            found[name] = data.view(types[facts["dtype"]]).reshape(facts["shape"])
        return found
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise BundleError(f"{path}: not readable as safetensors ({error}); run spm-export again") from error


class Network:
    """Weights on a device, and the three stages as functions of tensors. Nothing is kept between calls.

    Args:
        torch: the module.
        weights: of :func:`read_weights`.
        spec: of the bundle.
        device: PyTorch's device.
        data: type of maps and products, ``torch.float32``, ``float16`` or ``bfloat16``.
        channels_last: memory order of the maps (what tensor cores like).
        roi: another way to crop features than :meth:`crop_features`.
    """

    def __init__(
        self,
        torch: Any,
        weights: dict[str, Tensor],
        spec: ModelSpec,
        device: Any,
        data: Any,
        *,
        channels_last: bool = False,
        roi: Roi | None = None,
    ) -> None:
        self._torch, self._f, self.spec, self.data = torch, torch.nn.functional, spec, data
        self.order = torch.channels_last if channels_last else torch.contiguous_format
        self._w = {}
        for name, tensor in weights.items():
            value = tensor.to(device, torch.float32 if name in FLOAT32_WEIGHTS else data)
            convolution = value.dim() == 4 and name.endswith(".weight")
            self._w[name] = value.contiguous(memory_format=self.order) if convolution else value.contiguous()
        self.roi: Roi = roi or self.crop_features
        try:
            self.scale, self.shift = (self._w[f"roi_{name}"].reshape(-1) for name in ("scale", "shift"))
        except KeyError as error:
            raise BackendError(f"the bundle's weights lack {error}: it is of another version") from error

    def template(self, crop: Tensor, box: Tensor) -> dict[str, Tensor]:
        """``head_kernel``, ``head_bias`` and ``target_half`` of crops ``[T, 3, 271, 271]`` and boxes ``[T, 4]``."""
        shallow, deep = self.features(crop)
        kernel, bias = self._head(self._top(shallow, deep, self.spec.template_cells))
        roi = self.roi(deep, shallow, box[:, None])
        half = self._f.conv2d(roi, self._w["relate_target.weight"], self._w["relate.bias"], padding=1)
        return {"head_kernel": kernel, "head_bias": bias, "target_half": half.contiguous()}

    def search(self, crop: Tensor, kernel: Tensor, bias: Tensor) -> dict[str, Tensor]:
        """``scores`` ``[T, N]``, ``boxes`` ``[T, N, 4]``, ``shallow`` and ``deep`` of crops."""
        shallow, deep = self.features(crop)
        targets, anchors = len(crop), self.spec.anchors_per_cell
        head = self._response(self._top(shallow, deep, self.spec.search_cells), kernel, bias)
        background, foreground, deltas = head.split([anchors, anchors, 4 * anchors], dim=1)
        scores = (foreground - background).sigmoid().permute(0, 2, 3, 1).reshape(targets, -1)
        flat = deltas.permute(0, 2, 3, 1).reshape(targets, -1, 4)
        boxes = self._decode(flat, self._w["anchor_centers"], self._w["anchor_sizes"])
        return {"scores": scores, "boxes": boxes, "shallow": shallow, "deep": deep}

    def relation(self, shallow: Tensor, deep: Tensor, target_half: Tensor, proposals: Tensor) -> dict[str, Tensor]:
        """``scores`` ``[T, K]`` and ``boxes`` ``[T, K, 4]`` of proposals ``[T, K, 4]``."""
        f, w, (targets, count) = self._f, self._w, proposals.shape[:2]
        own = f.conv2d(self.roi(deep, shallow, proposals), w["relate_proposal.weight"], padding=1)
        x = f.relu(own.unflatten(0, (targets, count)) + target_half[:, None]).reshape(targets * count, -1)
        for name in ("linear1", "linear2"):
            x = f.relu(f.linear(x, w[f"{name}.weight"], w[f"{name}.bias"]))
        logits, deltas = (f.linear(x, w[f"{n}.weight"], w[f"{n}.bias"]).float() for n in ("classify", "regress"))
        scores = (logits[:, 1] - logits[:, 0]).sigmoid().reshape(targets, count)
        size = proposals[..., 2:] - proposals[..., :2] + 1
        center = proposals[..., :2] + 0.5 * size
        boxes = self._decode(deltas.reshape(targets, count, 4), center, size, self.spec.fine_weights)
        return {"scores": scores, "boxes": boxes}

    def features(self, crop: Tensor) -> tuple[Tensor, Tensor]:
        """conv2 (after its LRN) and conv4 of raw crops."""
        x = (crop - self._w["pixel_mean"]).to(self.data).contiguous(memory_format=self.order)
        x = self._lrn(self._pool(self._conv(x, "conv1", 5, stride=2)))
        shallow = self._lrn(self._pool(self._conv(x, "conv2", 2, groups=2)))
        return shallow, self._conv(self._conv(shallow, "conv3", 1), "conv4", 1, groups=2)

    def crop_features(self, deep: Tensor, shallow: Tensor, boxes: Tensor) -> Tensor:
        """The RoI operator in PyTorch's own operators: the portable form, and what our kernel is compared with."""
        torch, cells = self._torch, self.spec.roi_cells
        height, width = deep.shape[2:]
        x, y = (self._positions(boxes[..., i], boxes[..., i + 2], n) for i, n in ((0, width), (1, height)))
        inside = ((y >= 0) & (y <= height - 1))[..., :, None] & ((x >= 0) & (x <= width - 1))[..., None, :]
        # Positions may be no numbers at all; outside nothing is read.
        x, y = (p.nan_to_num(-1.0).clamp(0, n - 1) for p, n in ((x, width), (y, height)))
        left, top = x.floor(), y.floor()
        share_x, share_y = (x - left)[..., None, :, None], (y - top)[..., :, None, None]
        target = torch.arange(len(boxes), device=boxes.device)[:, None, None, None]
        samples = []
        for maps in (deep, shallow):
            rows = maps.permute(0, 2, 3, 1)

            def pixels(row: Tensor, column: Tensor, rows: Tensor = rows) -> Tensor:
                return rows[target, row.long()[..., :, None], column.long()[..., None, :]].float()

            upper = pixels(top, left) + (pixels(top, x.ceil()) - pixels(top, left)) * share_x
            lower = pixels(y.ceil(), left) + (pixels(y.ceil(), x.ceil()) - pixels(y.ceil(), left)) * share_x
            samples.append(upper + (lower - upper) * share_y)
        both = torch.cat(samples, dim=-1) * self.scale + self.shift
        both = torch.where(inside[..., None], both, both.new_zeros(()))
        return both.permute(0, 1, 4, 2, 3).reshape(-1, both.shape[-1], cells, cells).to(self.data)

    def _positions(self, low: Tensor, high: Tensor, size: int) -> Tensor:
        """Sample positions ``[T, K, 6]`` along an axis, in the reference's order of float32 operations."""
        last, cells = size - 1, self.spec.roi_cells
        low, high = ((edge - self.spec.first_cell) / self.spec.stride / last for edge in (low, high))
        step = (high - low) * last / (cells - 1)
        return (low * last)[..., None] + self._torch.arange(cells, device=low.device) * step[..., None]

    def _conv(self, x: Tensor, name: str, padding: int, **more: int) -> Tensor:
        weight, bias = self._w[f"{name}.weight"], self._w[f"{name}.bias"]
        return self._f.relu_(self._f.conv2d(x, weight, bias, padding=padding, **more))

    def _pool(self, x: Tensor) -> Tensor:
        return self._f.max_pool2d(x, 3, stride=2, padding=1)

    def _lrn(self, x: Tensor) -> Tensor:
        """``x / t^0.75`` with ``t = 1 + alpha * mean of five neighbours' squares``, in float32."""
        wide = x.float()
        mean = self._f.avg_pool3d((wide * wide)[:, None], (LRN_SIZE, 1, 1), 1, (LRN_SIZE // 2, 0, 0))[:, 0]
        root = (1 + LRN_ALPHA * mean).sqrt()
        return (wide / (root * root.sqrt())).to(self.data).contiguous(memory_format=self.order)

    def _top(self, shallow: Tensor, deep: Tensor, cells: int) -> Tensor:
        """The central cells of conv5, from the window of conv4 that they see (one cell more on each side)."""
        return self._conv(self._window(deep, cells).contiguous(memory_format=self.order), "conv5", 0, groups=2)

    @staticmethod
    def _window(maps: Tensor, cells: int) -> Tensor:
        """The central cells of maps, and one more on each side."""
        first = (maps.shape[-1] - cells) // 2 - 1
        return maps[:, :, first : first + cells + 2, first : first + cells + 2]

    def _response(self, embedding: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        """Background and foreground of the anchors, then their deltas: ``[T, 30, 19, 19]``."""
        targets, channels, size = embedding.shape[:3]
        if targets > 1:  # one group per target
            embedding = embedding.reshape(1, targets * channels, size, size)
        head = self._f.conv2d(embedding, kernel.flatten(0, 1), groups=targets)
        return head.reshape(targets, -1, *head.shape[2:]).float() + bias[:, :, None, None]

    def _head(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """The coarse head as one convolution per target: kernel ``[T, 30, 256, 6, 6]``, bias ``[T, 30]``."""
        targets, cells, anchors, w = len(embedding), self.spec.template_cells, self.spec.anchors_per_cell, self._w
        inputs, width = self.spec.top_channels, self.spec.head_channels
        kernels, biases = [], []
        for branch, outputs in (("classify", 2 * anchors), ("regress", 4 * anchors)):
            weight, bias = (w[f"template_{branch}.{part}"] for part in ("weight", "bias"))
            own = (
                self._f.conv2d(embedding, weight, bias).reshape(targets * outputs, width, cells - 2, cells - 2).float()
            )
            full = self._f.conv_transpose2d(own, w[f"search_{branch}.weight"].float())
            kernels.append(full.reshape(targets, outputs, inputs, cells, cells))
            through = own.sum((2, 3)) @ w[f"search_{branch}.bias"]
            biases.append(through.reshape(targets, outputs) + w[f"head_bias.{branch}"])
        return self._torch.cat(kernels, dim=1).to(self.data), self._torch.cat(biases, dim=1)

    def _decode(
        self, deltas: Tensor, center: Tensor, size: Tensor, weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    ) -> Tensor:
        """Boxes from deltas ``[T, n, 4]`` (docs/notes/model.md, "Box decoding")."""
        parts = [deltas[..., i] / weights[i] for i in range(4)]
        low, high = [], []
        for axis in range(2):
            log = parts[axis + 2].nan_to_num(MAX_LOG_SCALE, MAX_LOG_SCALE, MAX_LOG_SCALE).clamp(max=MAX_LOG_SCALE)
            moved, half = parts[axis] * size[..., axis] + center[..., axis], 0.5 * (log.exp() * size[..., axis])
            low.append(moved - half)
            high.append(moved + half)
        return self._torch.stack(low + high, dim=-1)
