"""int8 graphs: post-training quantisation, written as QuantizeLinear and DequantizeLinear pairs.

The convolutions of the backbone, the relation convolution and its two large linear layers are quantised; the coarse
head (whose kernel comes at run time), LRN, box decoding, the last two small layers and what makes the light model's
feature maps of its backbone stay float32. Feature maps go from one graph to the other channels last, as in
:mod:`spm_export.graphs.fast`.

Weights are int8, symmetric, one scale per output channel. Inputs are uint8 with a zero point, and use as many codes as
:mod:`~spm_export.graphs.quantizable` says of the model: CPUs without VNNI multiply in pairs that are added in 16 bits,
where 2 * 127 * 127 fits, 2 * 255 * 64 too, and 2 * 255 * 127 does not. What no int8 layer reads next may use all codes.

So it is in the graphs for CPUs. TensorRT has signed codes without a zero point only, one scale per tensor: the portable
graphs (:class:`SignedBuilder`) compute the same layers on the same ranges that way.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from spm_rt.bundle.forms import FORMS, form_for

from ..model.weights import Arrays
from .builder import Activation, GraphBuilder
from .fast import TRIMMED
from .portable import Maker, Weights
from .quantizable import ALEXNET, INPUT_LEVELS, WEIGHT_LIMIT, Quantizable

OUTPUT_LEVELS = 255
BIAS_LIMIT = 2**30
"""The highest code of a bias: with all products, a sum stays an int32."""
SIGNED_LEVELS = 127
"""Codes of a grid: up to 0..255 with a zero point (CPUs), -127..127 without one (TensorRT)."""
EQUALIZED = "_equalized"
"""Behind the name of a weight: in place of it wherever int8 layers are."""
DIVISORS = ".input_scale"
"""Behind the name of a layer: what its input is multiplied by where nothing before could be divided."""

WEIGHT_SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)
"""Of the largest weight of an output, that its highest code may stand for."""

Floats = NDArray[np.float32]


class RoundedWeight(NamedTuple):
    """A weight as it is in a graph: codes ``[O, ...]``, their steps ``[O]``, and what is added to the bias for them."""

    codes: NDArray[np.int8]
    scales: Floats
    shift: Floats

    @property
    def values(self) -> Floats:
        return np.asarray(self.codes * self.scales.reshape(-1, *[1] * (self.codes.ndim - 1)), np.float32)


@dataclasses.dataclass(frozen=True)
class Grid:
    """An affine quantisation: ``value = (code - zero) * scale``, codes 0..levels."""

    scale: float
    zero: int
    levels: int = INPUT_LEVELS

    def ends_with(self, activation: Activation) -> bool:
        """Whether rounding to uint8 leaves out what an activation with a limit leaves out."""
        limited = activation is not True and activation > 0
        return limited and self.zero == 0 and self.levels == OUTPUT_LEVELS and self.high <= activation * (1 + 1e-6)

    @property
    def high(self) -> float:
        return (self.levels - self.zero) * self.scale

    @property
    def signed_scale(self) -> float:
        """The step of -127..127 over the same range, or over more on one side: never a coarser one."""
        return max(self.zero, self.levels - self.zero) * self.scale / SIGNED_LEVELS

    def codes(self, values: Floats) -> Floats:
        return np.asarray(np.clip(np.rint(values / self.scale) + self.zero, 0, self.levels), np.float32)

    def rounded(self, values: Floats) -> Floats:
        """The values that are left of ``values``."""
        return np.asarray((self.codes(values) - self.zero) * self.scale, np.float32)


def best_grid(values: Floats, levels: int = INPUT_LEVELS, importance: Floats | None = None) -> Grid:
    """The grid up to the code ``levels`` with the least squared error on samples ``[n]`` or ``[n, C]``.

    Zero is always on it, exactly. ``importance`` ``[C]`` is what an error of each channel counts.
    """
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if high == low:
        return Grid(1.0, 0, levels)
    best, least = Grid(1.0, 0, levels), np.inf
    for share in np.linspace(0.3, 1.0, 36):
        scale = (high - low) * share / levels
        grid = Grid(float(np.float32(scale)), int(np.clip(round(-low * share / scale), 0, levels)), levels)
        error = squared_error(grid.rounded(values), values, importance)
        if error < least:
            best, least = grid, error
    return best


def squared_error(found: Floats, values: Floats, importance: Floats | None = None) -> float:
    """Mean squared error; summed over the channels of ``[n, C]`` by what each counts, where that is given."""
    errors = np.square(found - values)
    return float(errors.mean() if importance is None else errors.mean(axis=0) @ importance)


def quantize_weight(weight: Floats, limit: int = WEIGHT_LIMIT, least: Floats | float = 0) -> RoundedWeight:
    """Each weight of ``[O, ...]`` rounded by itself; per output the scale with the least squared error.

    Codes end at ``limit`` on both sides; no scale is less than ``least``, which is ``[O]`` or one for all.
    """
    flat = weight.reshape(len(weight), -1)
    largest = np.abs(flat).max(axis=1)
    largest[largest == 0] = 1
    scales, errors = largest / limit, np.full(len(flat), np.inf)
    for share in WEIGHT_SHARES:
        scale = (share * largest / limit)[:, None]
        error = np.square(to_codes(flat, scale, limit) * scale - flat).sum(axis=1)
        better = error < errors
        errors[better], scales[better] = error[better], scale[better, 0]
    scales = np.maximum(scales, least).astype(np.float32)
    codes = to_codes(flat, scales[:, None], limit).astype(np.int8)
    return RoundedWeight(codes.reshape(weight.shape), scales, np.zeros_like(scales))


def to_codes(values: NDArray[Any], scale: NDArray[Any], limit: int) -> NDArray[Any]:
    """The nearest codes from ``-limit`` to ``limit``."""
    return np.asarray(np.clip(np.rint(values / scale), -limit, limit))


@dataclasses.dataclass(frozen=True)
class Quantization:
    """What is quantised, and how.

    Attributes:
        layers: those that compute in int8; the others stay float32.
        grids: of every layer's input, ``NAME.input``, and output after its activation, ``NAME.output``.
        factors: of some layers, ``[C]``: their input is divided by them, channel by channel, before it is rounded, and
            their weights are multiplied by them before those are (``model.balanced``). Such an input's grid, which
            the output before may share, is that of what was divided.
        model: what could be quantised.
        rounded: weights that were rounded with an eye on their inputs; the others are when the graphs are written.
    """

    layers: frozenset[str]
    grids: Mapping[str, Grid]
    factors: Mapping[str, Floats] = dataclasses.field(default_factory=dict)
    model: Quantizable = ALEXNET
    rounded: Mapping[str, RoundedWeight] = dataclasses.field(default_factory=dict)

    def exit(self, layer: str) -> Grid | None:
        """The grid of the output of a layer or sum: that of the next layer's input where int8 reads it next."""
        after = self.model.following.get(layer)
        return self.grids.get(f"{after}.input" if after in self.layers else f"{layer}.output")


class QuantizedBuilder(GraphBuilder):
    """A builder whose chosen layers compute in int8.

    Args:
        outputs: layers whose outputs are rounded too.
        integers: round biases as well, and let outputs use all codes, for ONNX Runtime's integer operators.
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

    def weight(self, name: str) -> ir.Value:
        """The named weight, equalised where it is."""
        return super().weight(self._current(name))

    def _current(self, name: str) -> str:
        return f"{name}{EQUALIZED}" if f"{name}{EQUALIZED}" in self._weights else name

    def layer(
        self, kind: str, x: ir.Value, name: str, *, activation: Activation = False, **attributes: Any
    ) -> ir.Value:
        known = name.removesuffix(TRIMMED)
        if known not in self._plan.layers:
            return super().layer(kind, self._kept(x), name, activation=activation, **attributes)
        entry, exit_ = self._plan.grids[f"{known}.input"], self._plan.exit(known)
        scale = self.weight(f"{name}.weight_scale")
        weight = self.op("DequantizeLinear", self.weight(f"{name}.weight_int8"), scale, axis=0)
        if (divisors := f"{name}{DIVISORS}") in self._weights:
            x = self.op("Mul", x, self.weight(divisors))
        inputs = [self.snap(x, entry), weight]
        if f"{name}.bias" in self._weights:
            inputs.append(self._bias(name, entry) if self._rounds_biases else self.weight(f"{name}.bias"))
        x = self.op(kind, *inputs, **attributes)
        if known not in self._outputs or exit_ is None:
            return self.activated(x, activation)
        if exit_.ends_with(activation):  # the codes end where the activation does
            return self.snap(x, exit_)
        return self.snap(self.activated(x, activation), exit_, clip=not self._rounds_biases)

    def add(self, x: ir.Value, y: ir.Value, name: str) -> ir.Value:
        """A sum; rounded for the int8 layer that reads it where both of its parts have been rounded."""
        total, grid = super().add(x, y, name), self._plan.exit(name)
        return total if grid is None or not {x, y} <= self._grid_of.keys() else self.snap(total, grid)

    def snap(self, x: ir.Value, grid: Grid, *, clip: bool = True) -> ir.Value:
        """``x`` rounded to a grid.

        uint8 goes on to 255. Where the grid ends before, ``clip`` keeps larger values from bringing back the overflow
        that it avoids; behind a layer, ONNX Runtime would then no longer see an integer operator.
        """
        if self._grid_of.get(x) == grid:
            return x
        if clip and grid.levels < OUTPUT_LEVELS:
            x = self.op("Min", x, self.constant(grid.high))
        scale, zero = self.constant(grid.scale), self._integers(np.array(grid.zero, np.uint8))
        snapped = self.op("DequantizeLinear", self.op("QuantizeLinear", x, scale, zero), scale, zero)
        self._grid_of[snapped] = grid
        return snapped

    def _kept(self, x: ir.Value) -> ir.Value:
        """For a float32 layer: right behind a DequantizeLinear, ONNX Runtime rounds its weights, all with one scale."""
        return self.op("Min", x, self.constant(self._grid_of[x].high)) if x in self._grid_of else x

    def _bias(self, name: str, entry: Grid) -> ir.Value:
        """The bias as int32 in steps of the product of both scales."""
        steps = np.asarray(self._weights[f"{name}.weight_scale"]) * np.float32(entry.scale)
        codes = np.rint(np.asarray(self._weights[self._current(f"{name}.bias")]) / steps).astype(np.int32)
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
    return functools.partial(QuantizedBuilder, plan=plan, outputs=plan.model.rounded_outputs[form], integers=integers)


def quantized_weights(weights: Arrays, plan: Quantization) -> Arrays:
    """The weights, with those of the plan beside them.

    ``NAME.weight_int8`` and ``NAME.weight_scale`` of its layers; other weights that it changes as ``NAME_equalized``.
    """
    equalized = _equalized(weights, plan)
    added: dict[str, NDArray[Any]] = {}
    for layer in sorted(plan.layers):
        for name in (layer, f"{layer}{TRIMMED}"):
            weight = equalized.pop(f"{name}.weight", weights.get(f"{name}.weight"))
            if weight is None:
                continue
            bias = equalized.get(f"{name}.bias", weights.get(f"{name}.bias", np.zeros(1, np.float32)))
            least = least_scales(bias, plan.grids[f"{layer}.input"])
            if found := plan.rounded.get(layer):
                equalized[f"{name}.bias"] = bias + found.shift
            codes, scales, _ = found or quantize_weight(weight, plan.model.weight_limit, least)
            added[f"{name}.weight_int8"], added[f"{name}.weight_scale"] = codes, scales
    named = {name if name.endswith(DIVISORS) else f"{name}{EQUALIZED}": array for name, array in equalized.items()}
    return {**weights, **added, **named}


def least_scales(bias: Floats, entry: Grid) -> Floats:
    """Of a layer's weights: a channel of next to no weight would have steps in which its bias is no int32."""
    return np.asarray(np.abs(bias) / (entry.scale * BIAS_LIMIT), np.float32)


def _equalized(weights: Arrays, plan: Quantization) -> Arrays:
    """What the factors change, by the names that it replaces."""
    changed: Arrays = {}
    for layer in sorted(plan.layers & plan.factors.keys()):
        factors = plan.factors[layer]
        own = changed.get(f"{layer}.weight", weights[f"{layer}.weight"])
        changed[f"{layer}.weight"] = own * by_input_channel(factors, own.shape)
        if not plan.model.balanced[layer]:
            changed[f"{layer}{DIVISORS}"] = (np.float32(1) / factors).reshape(1, -1, *[1] * (own.ndim - 2))
        for name in plan.model.balanced[layer]:
            array = changed.get(name, weights[name])
            after = array.ndim - 1 - array.shape.index(len(factors))  # axes behind that of the channels
            changed[name] = array / factors.reshape(-1, *[1] * after)
    return changed


def by_input_channel(factors: Floats, shape: tuple[int, ...]) -> Floats:
    """A factor per input channel ``[C]`` in the shape in which it meets a weight ``[O, C / groups, ...]``."""
    groups = len(factors) // shape[1]
    spread = np.repeat(factors.reshape(groups, shape[1]), shape[0] // groups, axis=0)
    return np.asarray(spread.reshape(*shape[:2], *[1] * (len(shape) - 2)))
