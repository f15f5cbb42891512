"""int8 graphs: post-training quantisation, written as QuantizeLinear and DequantizeLinear pairs.

The convolutions of the backbone, the relation convolution and its two large linear layers are quantised; the coarse
head (whose kernel comes at run time), LRN, box decoding and the last two small layers stay float32. Feature maps go
from one graph to the other channels last, as in :mod:`spm_export.graphs.fast`.

Weights are int8, symmetric, one scale per output channel. Inputs are uint8 with a zero point, and use the codes
0..127 only: CPUs without VNNI multiply in pairs that are added in 16 bits, where 2 * 127 * 127 fits and 2 * 255 * 127
does not. What no int8 layer reads next may use all codes.

So it is in the graphs for CPUs. TensorRT has signed codes without a zero point only, one scale per tensor: the portable
graphs (:class:`SignedBuilder`) compute the same layers on the same ranges that way.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from spm_rt.bundle.forms import FORMS, form_for

from ..model.weights import Arrays
from .builder import GraphBuilder
from .fast import TRIMMED
from .portable import Maker, Weights

LAYERS = {
    "search": ("conv1", "conv2", "conv3", "conv4", "conv5"),
    "relation": ("relate_proposal", "linear1", "linear2"),
}
"""What can be quantised, by graph and in the order of computation."""

INPUT_LEVELS = 127
OUTPUT_LEVELS = 255
SIGNED_LEVELS = 127
"""Codes of a grid: 0..127 and 0..255 with a zero point (CPUs), -127..127 without one (TensorRT)."""
ROUNDED_OUTPUTS: dict[str, tuple[str, ...]] = {
    "fast": ("conv1", "conv2", "conv3"),
    "fast_expanded": (*LAYERS["search"], *LAYERS["relation"]),
}
"""Layers whose outputs are rounded, by form of graph.

ONNX Runtime (``fast_expanded``) makes integer operators only of layers that are rounded on all sides, biases too.
OpenVINO (``fast``) needs the inputs alone, and keeps more accuracy; but what conv1 to conv3 write is large, and bytes
are written, pooled and read in less time. Beyond conv3 the maps are small, and the fine stage reads them.
"""
NEXT = {"conv3": "conv4", "conv4": "conv5", "linear1": "linear2"}
"""Layers whose output is another one's input, and is rounded once for both."""

WEIGHT_LIMIT = 127

Floats = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Grid:
    """An affine quantisation: ``value = (code - zero) * scale``, codes 0..levels."""

    scale: float
    zero: int
    levels: int = INPUT_LEVELS

    @property
    def signed_scale(self) -> float:
        """The step of -127..127 over the same range, or over more on one side: never a coarser one."""
        return max(self.zero, self.levels - self.zero) * self.scale / SIGNED_LEVELS

    def codes(self, values: Floats) -> Floats:
        return np.asarray(np.clip(np.rint(values / self.scale) + self.zero, 0, self.levels), np.float32)

    def rounded(self, values: Floats) -> Floats:
        """The values that are left of ``values``."""
        return np.asarray((self.codes(values) - self.zero) * self.scale, np.float32)


def best_grid(values: Floats, levels: int = INPUT_LEVELS) -> Grid:
    """The grid with the least squared error on samples ``[n]``; zero is always on it, exactly."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if high == low:
        return Grid(1.0, 0, levels)
    best, least = Grid(1.0, 0, levels), np.inf
    for share in np.linspace(0.3, 1.0, 36):
        scale = (high - low) * share / levels
        grid = Grid(float(np.float32(scale)), int(np.clip(round(-low * share / scale), 0, levels)), levels)
        error = float(np.square(grid.rounded(values) - values).mean())
        if error < least:
            best, least = grid, error
    return best


def quantize_weight(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """int8 weights and their scales ``[O]`` for ``[O, ...]``; per channel the scale with the least squared error."""
    flat = weight.reshape(len(weight), -1)
    largest = np.abs(flat).max(axis=1)
    largest[largest == 0] = 1
    scales, least = largest / WEIGHT_LIMIT, np.full(len(flat), np.inf)
    for share in (1.0, 0.95, 0.9, 0.85, 0.8, 0.7):
        scale = (share * largest / WEIGHT_LIMIT)[:, None]
        error = np.square(_codes(flat, scale) * scale - flat).sum(axis=1)
        better = error < least
        least[better], scales[better] = error[better], scale[better, 0]
    scales = scales.astype(np.float32)
    codes = _codes(flat, scales[:, None]).astype(np.int8)
    return codes.reshape(weight.shape), scales


def _codes(values: Floats, scale: Floats) -> Floats:
    return np.asarray(np.clip(np.rint(values / scale), -WEIGHT_LIMIT, WEIGHT_LIMIT), np.float32)


@dataclasses.dataclass(frozen=True)
class Quantization:
    """What is quantised, and how.

    Attributes:
        layers: names from ``LAYERS`` that compute in int8; the others stay float32.
        grids: of every layer's input, ``NAME.input``, and output after its activation, ``NAME.output``.
    """

    layers: frozenset[str]
    grids: Mapping[str, Grid]


class QuantizedBuilder(GraphBuilder):
    """A builder whose chosen layers compute in int8.

    Args:
        outputs: layers whose outputs are rounded too.
        integers: round biases as well, and let outputs use all codes, as ONNX Runtime's integer operators do.
    """

    def __init__(
        self,
        name: str,
        opset: int,
        weights: Weights,
        plan: Quantization,
        outputs: Collection[str] = (),
        integers: bool = False,
    ) -> None:
        super().__init__(name, opset, weights)
        self._plan, self._outputs, self._rounds_biases = plan, outputs, integers
        self._grid_of: dict[ir.Value, Grid] = {}

    def layer(self, kind: str, x: ir.Value, name: str, *, activation: bool = False, **attributes: Any) -> ir.Value:
        known = name.removesuffix(TRIMMED)
        if known not in self._plan.layers:
            return super().layer(kind, x, name, activation=activation, **attributes)
        entry, exit_ = (self._plan.grids[f"{known}.{side}"] for side in ("input", "output"))
        scale = self.weight(f"{name}.weight_scale")
        weight = self.op("DequantizeLinear", self.weight(f"{name}.weight_int8"), scale, axis=0)
        inputs = [self.snap(x, entry), weight]
        if f"{name}.bias" in self._weights:
            inputs.append(self._bias(name, entry) if self._rounds_biases else self.weight(f"{name}.bias"))
        x = self.op(kind, *inputs, **attributes)
        x = self.op("Relu", x) if activation else x
        return self.snap(x, exit_, clip=not self._rounds_biases) if known in self._outputs else x

    def snap(self, x: ir.Value, grid: Grid, *, clip: bool = True) -> ir.Value:
        """``x`` rounded to a grid.

        uint8 goes on to 255. Where the grid ends before, ``clip`` keeps larger values from bringing back the overflow
        that it avoids; behind a layer, ONNX Runtime would then no longer see an integer operator.
        """
        if self._grid_of.get(x) == grid:
            return x
        if clip and grid.levels < OUTPUT_LEVELS:
            x = self.op("Min", x, self.constant((grid.levels - grid.zero) * grid.scale))
        scale, zero = self.constant(grid.scale), self._integers(np.array(grid.zero, np.uint8))
        snapped = self.op("DequantizeLinear", self.op("QuantizeLinear", x, scale, zero), scale, zero)
        self._grid_of[snapped] = grid
        return snapped

    def _bias(self, name: str, entry: Grid) -> ir.Value:
        """The bias as int32 in steps of the product of both scales."""
        steps = np.asarray(self._weights[f"{name}.weight_scale"]) * np.float32(entry.scale)
        codes = np.rint(np.asarray(self._weights[f"{name}.bias"]) / steps).astype(np.int32)
        return self.op("DequantizeLinear", self._integers(codes), self.constant(steps), axis=0)

    def _integers(self, values: NDArray[Any]) -> ir.Value:
        self._constants += 1
        return self.op("Constant", name=f"constant_{self._constants}", value=ir.tensor(values))


class SignedBuilder(QuantizedBuilder):
    """A builder whose chosen layers compute in int8 as TensorRT wants it said.

    Inputs are int8 with a zero point of 0 and one scale; outputs are left alone, since TensorRT merges a layer with the
    next one's QuantizeLinear by itself.
    """

    def snap(self, x: ir.Value, grid: Grid, *, clip: bool = True) -> ir.Value:
        """``x`` rounded to the signed codes of a grid's range; what is outside becomes -128 or 127."""
        scale, zero = self.constant(grid.signed_scale), self._integers(np.array(0, np.int8))
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, scale, zero), scale, zero)


def quantizing(form: str, plan: Quantization) -> Maker:
    """What makes the builder of a form of graph whose layers the plan rounds."""
    if not FORMS[form].for_cpus:
        return functools.partial(SignedBuilder, plan=plan)
    integers = form == form_for("ONNX Runtime on CPUs")
    return functools.partial(QuantizedBuilder, plan=plan, outputs=ROUNDED_OUTPUTS[form], integers=integers)


def quantized_weights(weights: Arrays, plan: Quantization) -> Arrays:
    """The weights with the int8 ones of the plan beside them: ``NAME.weight_int8`` and ``NAME.weight_scale``."""
    added: dict[str, NDArray[Any]] = {}
    for layer in sorted(plan.layers):
        for name in (layer, f"{layer}{TRIMMED}"):
            if f"{name}.weight" in weights:
                added[f"{name}.weight_int8"], added[f"{name}.weight_scale"] = quantize_weight(weights[f"{name}.weight"])
    return {**weights, **added}
