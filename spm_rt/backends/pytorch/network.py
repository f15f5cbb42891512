"""The three graphs' arithmetic in PyTorch, on a bundle's own weights: no exporter, no ONNX (docs/notes/gpu.md).

It follows the graphs (docs/reference/graphs.md, "Rewrites"): the composed coarse head, the split relation convolution,
conv5 on the window that its crop reads, batch norm after the sampling. Products are the library's; what lies between
them (:mod:`spm_rt.backends.pytorch.operators`, :mod:`spm_rt.backends.pytorch.kernels`) is float32 inside, also in half
precision.

PyTorch is imported by the backend that makes a :class:`Network` and passed in: this module can be read without it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle.contract import FLOAT32_WEIGHTS
from ...errors import BackendError, BundleError
from ...gpu.kernels import InputForm
from ...settings import ModelSpec
from .operators import Operators
from .products import Fastest, without_groups

Tensor = Any


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
        planes: see below.

    Attributes:
        steps: what lies between the products: PyTorch's operators, or our kernels.
        planes: channels of the first layer's input: three colours, and planes of zeros behind them.
    """

    FIRST = "conv1"
    """The layer that reads the crop."""

    def __init__(
        self,
        torch: Any,
        weights: dict[str, Tensor],
        spec: ModelSpec,
        device: Any,
        data: Any,
        *,
        channels_last: bool = False,
        planes: int = 3,
    ) -> None:
        self._torch, self._f, self.spec, self.data = torch, torch.nn.functional, spec, data
        self.order = torch.channels_last if channels_last else torch.contiguous_format
        self._w, self._bias, self.planes, weights = {}, {}, planes, dict(weights)
        try:
            for part in ("weight", "bias"):  # both outputs of the fine stage are one product
                weights[f"outputs.{part}"] = torch.cat([weights[f"{name}.{part}"] for name in ("classify", "regress")])
            first = f"{self.FIRST}.weight"
            weights[first] = self._f.pad(weights[first], (0, 0, 0, 0, 0, planes - 3))
            for name, tensor in weights.items():
                value = tensor.to(device, torch.float32 if name in FLOAT32_WEIGHTS else data)
                convolution = value.dim() == 4 and name.endswith(".weight")
                self._w[name] = value.contiguous(memory_format=self.order) if convolution else value.contiguous()
                if name.endswith(".bias"):
                    self._bias[name.removesuffix(".bias")] = tensor.to(device, torch.float32).contiguous()
            steps = {name: self._w[name].reshape(-1) for name in ("pixel_mean", "roi_scale", "roi_shift")}
            steps |= {name: self._w[name].reshape(-1, 2) for name in ("anchor_centers", "anchor_sizes")}
        except KeyError as error:
            raise BackendError(f"the bundle's weights lack {error}: it is of another version") from error
        self.steps = Operators(torch, spec, data, self.order, steps)
        self.fastest = Fastest(torch)
        self._dense: dict[str, Tensor] = {}

    @property
    def input_form(self) -> InputForm:
        """What :meth:`prepare` makes, for kernels that make it without a crop in between."""
        name, last = str(self.data).removeprefix("torch."), self.order == self._torch.channels_last
        return InputForm(name, self.planes, last, self.steps.mean.data_ptr())

    def input_buffer(self, targets: int) -> Tensor:
        """Zeros of that form."""
        shape = (targets, self.planes, self.spec.crop_size, self.spec.crop_size)
        zeros = self.steps.mean.new_zeros(shape, dtype=self.data)
        return zeros.contiguous(memory_format=self.order)

    def prepare(self, crop: Tensor) -> Tensor:
        """Raw crops ``[T, 3, S, S]`` as :meth:`template` and :meth:`search` take them."""
        return self.steps.prepare(crop, self.planes)

    def template(self, x: Tensor, box: Tensor) -> dict[str, Tensor]:
        """``head_kernel``, ``head_bias`` and ``target_half`` of prepared crops and boxes ``[T, 4]``."""
        shallow, deep = self.features(x)
        kernel, bias = self._head(self._top(shallow, deep, self.spec.template_cells))
        roi = self.steps.roi(deep, shallow, box[:, None])
        half = self._f.conv2d(roi, self._w["relate_target.weight"], self._w["relate.bias"], padding=1)
        return {"head_kernel": kernel, "head_bias": bias, "target_half": half.contiguous()}

    def search(
        self, x: Tensor, kernel: Tensor, bias: Tensor, out: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """``scores`` ``[T, N]``, ``boxes`` ``[T, N, 4]`` (in ``out``, where given), ``shallow``, ``deep`` of crops."""
        shallow, deep = self.features(x)
        embedding = self._top(shallow, deep, self.spec.search_cells)
        return {**self.steps.decode(*self._response(embedding, kernel, bias), out), "shallow": shallow, "deep": deep}

    def relation(
        self,
        shallow: Tensor,
        deep: Tensor,
        target_half: Tensor,
        proposals: Tensor,
        out: Mapping[str, Tensor] | None = None,
    ) -> Mapping[str, Tensor]:
        """``scores`` ``[T, K]`` and ``boxes`` ``[T, K, 4]`` (in ``out``, where given) of proposals ``[T, K, 4]``."""
        own = self._product(self.steps.roi(deep, shallow, proposals), "relate_proposal", padding=1)
        x = self.steps.relate(own, target_half, proposals.shape[1])
        for name in ("linear1", "linear2"):
            x = self.steps.activate(self._f.linear(x, self._w[f"{name}.weight"]), self._bias[name])
        values = self._f.linear(x, self._w["outputs.weight"])
        return self.steps.decode_fine(values, self._bias["outputs"], proposals, out)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """conv2 (after its LRN) and conv4 of prepared crops."""
        x = self.steps.pool_norm(self._product(x, "conv1", padding=5, stride=2), self._bias["conv1"])
        shallow = self.steps.pool_norm(self._product(x, "conv2", padding=2, groups=2), self._bias["conv2"])
        x = self._rectified(shallow, "conv3", padding=1)
        return shallow, self._rectified(x, "conv4", padding=1, groups=2)

    def _product(self, x: Tensor, name: str, **how: int) -> Tensor:
        """A convolution without its bias."""
        return self.fastest(name, x.shape, self._products(x, name, **how))

    def _products(self, x: Tensor, name: str, groups: int = 1, **how: int) -> dict[str, Callable[[], Tensor]]:
        """Ways to compute it: as it is, and two groups as one convolution with zeros, which may be fewer kernels."""
        weight = self._w[f"{name}.weight"]
        ways = {"plain": lambda: self._f.conv2d(x, weight, groups=groups, **how)}
        if groups == 2 and self.fastest.seconds:
            if name not in self._dense:
                dense = without_groups(self._torch, weight, groups)
                self._dense[name] = dense.contiguous(memory_format=self.order)
            ways["without groups"] = lambda: self._f.conv2d(x, self._dense[name], **how)
        return ways

    def _rectified(self, x: Tensor, name: str, *, padding: int = 0, groups: int = 1) -> Tensor:
        """A convolution, its bias and rectifier: the latter by our kernel, or all by the library at once."""

        def ours(product: Callable[[], Tensor]) -> Callable[[], Tensor]:
            return lambda: self.steps.activate(product(), self._bias[name])

        products = self._products(x, name, padding=padding, groups=groups)
        ways = {way: ours(product) for way, product in products.items()}
        fused: Any = getattr(self._torch, "cudnn_convolution_relu", None)
        if self.fastest.seconds and fused:
            bias, kernels = self._w[f"{name}.bias"], {"at once": (self._w[f"{name}.weight"], groups)}
            if name in self._dense:
                kernels["at once without groups"] = (self._dense[name], 1)
            for way, (weight, parts) in kernels.items():
                ways[way] = partial(fused, x, weight, bias, (1, 1), (padding, padding), (1, 1), parts)
        return self.fastest(name, x.shape, ways)

    def _top(self, shallow: Tensor, deep: Tensor, cells: int) -> Tensor:
        """The central cells of conv5, from the window of conv4 that they see (one cell more on each side)."""
        return self._rectified(self._window(deep, cells).contiguous(memory_format=self.order), "conv5", groups=2)

    @staticmethod
    def _window(maps: Tensor, cells: int) -> Tensor:
        """The central cells of maps, and one more on each side."""
        first = (maps.shape[-1] - cells) // 2 - 1
        return maps[:, :, first : first + cells + 2, first : first + cells + 2]

    def _response(self, embedding: Tensor, kernel: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Background and foreground of the anchors, then their deltas: ``[T, 30, 19, 19]``; and their bias."""
        ways = {"plain": lambda: self._grouped_response(embedding, kernel)}
        if len(embedding) > 1:
            ways["as matrices"] = lambda: self._matrix_response(embedding, kernel)
        return self.fastest("response", embedding.shape, ways), bias

    def _grouped_response(self, embedding: Tensor, kernel: Tensor) -> Tensor:
        """One convolution with a group per target."""
        targets, channels, size = embedding.shape[:3]
        if targets > 1:
            embedding = embedding.reshape(1, targets * channels, size, size)
        head = self._f.conv2d(embedding, kernel.flatten(0, 1), groups=targets)
        return head.reshape(targets, -1, *head.shape[2:])

    def _matrix_response(self, embedding: Tensor, kernel: Tensor) -> Tensor:
        """One product with a matrix per target, whose rows are the windows that the kernel sees."""
        windows = embedding.unfold(2, kernel.shape[3], 1).unfold(3, kernel.shape[4], 1)
        cells = windows.shape[2:4]
        # Channels behind the window's cells, as in a kernel of the same order, which is not copied then.
        last = self.order == self._torch.channels_last
        rows = windows.permute(0, 2, 3, 4, 5, 1) if last else windows.permute(0, 2, 3, 1, 4, 5)
        columns = kernel.permute(0, 1, 3, 4, 2) if last else kernel
        head = rows.reshape(len(embedding), cells.numel(), -1) @ columns.flatten(2).transpose(1, 2)
        return head.transpose(1, 2).unflatten(2, cells)

    def head_order(self, kernel: Tensor) -> Tensor:
        """A ``head_kernel`` in the order in which the response reads it: convolutions' kernels like the maps."""
        if kernel.dim() == 5 and self.order == self._torch.channels_last:
            return kernel.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        return kernel

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
        return self.head_order(self._torch.cat(kernels, dim=1).to(self.data)), self._torch.cat(biases, dim=1)
