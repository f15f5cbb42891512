"""What lies between the network's products, in PyTorch's own operators.

Our kernels are compared with it, and it runs where they cannot be had. Everything is float32 inside, and of the
network's type in and out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...settings import MAX_LOG_SCALE, ModelSpec

Tensor = Any
LRN_SIZE, LRN_ALPHA = 5, 1e-4
ONES = (1.0, 1.0, 1.0, 1.0)


class Operators:
    """One model's steps on PyTorch's tensors.

    Args:
        torch: the module.
        spec: of the bundle.
        data: type of maps, ``torch.float32``, ``float16`` or ``bfloat16``.
        order: memory order of maps.
        tensors: float32, on the device: ``pixel_mean`` of three, ``roi_scale`` and ``roi_shift`` of as many as the
            RoI has channels, ``anchor_centers`` and ``anchor_sizes`` ``[N, 2]``.
    """

    def __init__(self, torch: Any, spec: ModelSpec, data: Any, order: Any, tensors: dict[str, Tensor]) -> None:
        self._torch, self._f, self.spec, self.data, self.order = torch, torch.nn.functional, spec, data, order
        self._tensors, self.mean = tensors, tensors["pixel_mean"]

    def prepare(self, crop: Tensor, planes: int) -> Tensor:
        """Raw crops ``[T, 3, S, S]`` as the first layer reads them: without the mean, ``[T, planes, S, S]``."""
        x = (crop - self.mean.reshape(3, 1, 1)).to(self.data)
        x = self._f.pad(x, (0, 0, 0, 0, 0, planes - 3)) if planes > 3 else x
        return x.contiguous(memory_format=self.order)

    def pool_norm(self, x: Tensor, bias: Tensor) -> Tensor:
        """Bias, rectifier, max-pool and local response norm of a convolution's products ``[T, C, H, W]``.

        The norm is ``x / t^0.75`` with ``t = 1 + alpha * mean of five neighbours' squares``.
        """
        wide = self._f.max_pool2d(self._f.relu_(x.float() + bias[:, None, None]), 3, stride=2, padding=1)
        mean = self._f.avg_pool3d((wide * wide)[:, None], (LRN_SIZE, 1, 1), 1, (LRN_SIZE // 2, 0, 0))[:, 0]
        root = (1 + LRN_ALPHA * mean).sqrt()
        return (wide / (root * root.sqrt())).to(self.data).contiguous(memory_format=self.order)

    def activate(
        self, x: Tensor, bias: Tensor, *, low: float = 0.0, high: float = float("inf"), other: Tensor | None = None
    ) -> Tensor:
        """``min(max(x + bias + other, low), high)`` of products ``[T, C, H, W]`` or ``[n, C]``; x may be written to."""
        wide = x.float() + bias.reshape(-1, *[1] * (x.dim() - 2))
        return (wide if other is None else wide + other.float()).clamp(low, high).to(self.data)

    def decode(self, head: Tensor, bias: Tensor, out: Mapping[str, Tensor] | None = None) -> Mapping[str, Tensor]:
        """``scores`` ``[T, N]`` and ``boxes`` ``[T, N, 4]`` of the coarse head.

        Args:
            head: ``[T, 6 A, h, w]``: background and foreground of A anchors, then their deltas.
            bias: ``[T, 6 A]``, or ``[6 A]`` for all targets.
            out: where to put both, and what is returned then.
        """
        targets, anchors = len(head), self.spec.anchors_per_cell
        wide = head.float() + (bias[:, :, None, None] if bias.dim() == 2 else bias[:, None, None])
        background, foreground, deltas = wide.split([anchors, anchors, 4 * anchors], dim=1)
        scores = (foreground - background).sigmoid().permute(0, 2, 3, 1).reshape(targets, -1)
        flat = deltas.permute(0, 2, 3, 1).reshape(targets, -1, 4)
        centers, sizes = (self._tensors[name] for name in ("anchor_centers", "anchor_sizes"))
        return _kept({"scores": scores, "boxes": self._boxes(flat, centers, sizes)}, out)

    def decode_fine(
        self, values: Tensor, bias: Tensor, proposals: Tensor, out: Mapping[str, Tensor] | None = None
    ) -> Mapping[str, Tensor]:
        """``scores`` ``[T, K]`` and ``boxes`` ``[T, K, 4]`` of the fine stage.

        Args:
            values: ``[T * K, 6]``: background, foreground, four deltas.
            bias: ``[6]``.
            proposals: ``[T, K, 4]``, which the boxes are relative to.
            out: where to put both, and what is returned then.
        """
        wide, shape = values.float() + bias, proposals.shape[:2]
        size = proposals[..., 2:] - proposals[..., :2] + 1
        boxes = self._boxes(
            wide[:, 2:].reshape(*shape, 4), proposals[..., :2] + 0.5 * size, size, self.spec.fine_weights
        )
        return _kept({"scores": (wide[:, 1] - wide[:, 0]).sigmoid().reshape(shape), "boxes": boxes}, out)

    def relate(self, own: Tensor, half: Tensor, count: int) -> Tensor:
        """The relation layer's halves of ``count`` proposals per target ``[T * K, C, 6, 6]`` and of targets
        ``[T, C, 6, 6]``, added and rectified: ``[T * K, C * 36]``."""
        both = own.float().unflatten(0, (-1, count)) + half.float()[:, None]
        return self._f.relu_(both).to(self.data).reshape(len(own), -1)

    def roi(self, deep: Tensor, shallow: Tensor, boxes: Tensor) -> Tensor:
        """The RoI operator (docs/notes/model.md, "Sampling"): normalised samples ``[T * K, channels, cells, cells]`` of
        both maps ``[T, C, H, W]`` in boxes ``[T, K, 4]``."""
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
        both = torch.cat(samples, dim=-1) * self._tensors["roi_scale"] + self._tensors["roi_shift"]
        both = torch.where(inside[..., None], both, both.new_zeros(()))
        return both.permute(0, 1, 4, 2, 3).reshape(-1, both.shape[-1], cells, cells).to(self.data)

    def _positions(self, low: Tensor, high: Tensor, size: int) -> Tensor:
        """Sample positions ``[T, K, 6]`` along an axis, in the reference's order of float32 operations."""
        last, cells = size - 1, self.spec.roi_cells
        low, high = ((edge - self.spec.first_cell) / self.spec.stride / last for edge in (low, high))
        step = (high - low) * last / (cells - 1)
        return (low * last)[..., None] + self._torch.arange(cells, device=low.device) * step[..., None]

    def _boxes(self, deltas: Tensor, center: Tensor, size: Tensor, weights: tuple[float, ...] = ONES) -> Tensor:
        """Boxes from deltas ``[T, n, 4]`` (docs/notes/model.md, "Box decoding")."""
        parts = [deltas[..., i] / weights[i] for i in range(4)]
        low, high = [], []
        for axis in range(2):
            log = parts[axis + 2].nan_to_num(MAX_LOG_SCALE, MAX_LOG_SCALE, MAX_LOG_SCALE).clamp(max=MAX_LOG_SCALE)
            moved, half = parts[axis] * size[..., axis] + center[..., axis], 0.5 * (log.exp() * size[..., axis])
            low.append(moved - half)
            high.append(moved + half)
        return self._torch.stack(low + high, dim=-1)


def _kept(found: dict[str, Tensor], out: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
    """What was found, put into ``out`` where there is one."""
    if out is None:
        return found
    for name, tensor in found.items():
        out[name].copy_(tensor)
    return out
