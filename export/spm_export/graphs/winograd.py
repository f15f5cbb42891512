"""Convolutions with fewer multiplications, as operators that any ONNX library has.

Winograd's minimal filtering computes m outputs of an r-tap correlation with m + r - 1 multiplications instead of m * r:
``y = A^T ((G g) * (B^T d))``; in two dimensions the saving is squared (Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", CVPR 2016).

The 3 x 3 convolutions are channels-last, so that the transforms are products with long contiguous rows, and the
multiplications over channels are one batched matrix product per tile position. The 5 x 5 convolution, whose maps are
larger, is treated along its rows only: two dimensions would move more memory than they save arithmetic.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .builder import GraphBuilder

Matrix = NDArray[np.floating]

# Interpolation points besides infinity. Small ones, and their order of growth, keep float32's rounding small.
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0, -0.5, 2.0)


@dataclasses.dataclass(frozen=True)
class Winograd:
    """Matrices of F(m, r): ``output`` A^T [m, n], ``kernel`` G [n, r], ``input`` B^T [n, n] with n = m + r - 1."""

    output: Matrix
    kernel: Matrix
    input: Matrix

    @property
    def tile(self) -> int:
        return len(self.input)

    @property
    def step(self) -> int:
        return len(self.output)


def winograd(outputs: int, taps: int = 3) -> Winograd:
    """F(outputs, taps) by the Toom-Cook construction: evaluate at points, multiply, interpolate."""
    n = outputs + taps - 1
    points = np.array(POINTS[: n - 1])
    if len(points) < n - 1:
        raise ValueError(f"F({outputs}, {taps}) needs {n - 1} points, there are {len(POINTS)}")
    scale = np.array([np.prod(p - np.delete(points, i)) for i, p in enumerate(points)] + [1.0])
    # The denominators go to the kernel's side, which is rounded once; the input's matrix is exact in float32.
    interpolate = np.linalg.inv(_powers(points, n)).T * scale[:, None]
    return Winograd(_powers(points, outputs).T, _powers(points, taps) / scale[:, None], np.round(interpolate, 12))


def _powers(points: Matrix, count: int) -> Matrix:
    """Rows of powers of each point, and infinity's: 0, ..., 0, 1."""
    at_infinity = np.eye(1, count, count - 1)
    return np.concatenate([points[:, None] ** np.arange(count), at_infinity])


def tiled_input(w: Winograd, size: int, outputs: int, pad: int) -> Matrix:
    """B^T applied to every tile of a padded row of ``size`` cells: ``[tiles * n, size]``."""
    tiles = -(-outputs // w.step)
    matrix = np.zeros((tiles * w.tile, size + 2 * pad + w.tile))
    for i in range(tiles):
        matrix[i * w.tile : (i + 1) * w.tile, i * w.step : i * w.step + w.tile] = w.input
    kept: Matrix = matrix[:, pad : pad + size]
    return kept


def tiled_output(w: Winograd, outputs: int) -> Matrix:
    """A^T applied to every tile, cut to ``outputs`` cells: ``[outputs, tiles * n]``."""
    tiles = -(-outputs // w.step)
    matrix: Matrix = np.kron(np.eye(tiles), w.output)[:outputs]
    return matrix


def positions_first(w: Winograd, size: int, outputs: int, pad: int) -> Matrix:
    """:func:`tiled_input` as one matrix per tile position: ``[n, tiles, size]``."""
    return tiled_input(w, size, outputs, pad).reshape(-1, w.tile, size).transpose(1, 0, 2)


def kernel_products(g: GraphBuilder, w: Winograd, weight: str, groups: int) -> ir.Value:
    """``G k G^T`` of a convolution's weight ``[O, C / groups, 3, 3]``: ``[n * n, groups, C / groups, O / groups]``.

    The first axis is position along x, then along y. It is written as operators on a constant, which libraries fold
    when they load the graph: the file keeps the small kernel.
    """
    outputs, inner, taps, _ = g.weight_shape(weight)
    outer = outputs // groups
    flat = g.reshape(g.weight(weight), [groups, outer, inner, taps * taps])
    flat = g.reshape(g.op("Transpose", flat, perm=[3, 0, 2, 1]), [taps * taps, groups * inner * outer])
    both = np.einsum("iy,jx->jiyx", w.kernel, w.kernel).reshape(w.tile**2, taps**2)
    return g.reshape(g.op("MatMul", g.constant(both), flat), [w.tile**2, groups, inner, outer])


def convolve(g: GraphBuilder, x: ir.Value, name: str, *, targets: int, size: int, groups: int = 1) -> ir.Value:
    """A padded 3 x 3 convolution with bias and ReLU of maps ``[T, size, size, C]``: ``[T, size, size, O]``."""
    w = winograd(4)
    t, n, m, tiles = targets, w.tile, w.step, -(-size // w.step)
    outputs, inner, *_ = g.weight_shape(f"{name}.weight")
    channels, outer = inner * groups, outputs // groups
    by_position = positions_first(w, size, size, 1)
    x = g.op("MatMul", g.constant(by_position), g.reshape(x, [t, 1, size, size * channels]))
    x = g.op("MatMul", g.constant(by_position[:, None]), g.reshape(x, [t, 1, n * tiles, size, channels]))
    # [T, position along x, position along y, tile y, tile x, C]: the positions are the products' batch.
    if groups > 1:
        x = g.reshape(x, [t, n * n, tiles * tiles, groups, inner])
        x = g.op("Transpose", x, perm=[0, 1, 3, 2, 4])
    x = g.reshape(x, [t, n * n, groups, tiles * tiles, inner])
    x = g.op("MatMul", x, kernel_products(g, w, f"{name}.weight", groups))
    back = g.constant(w.output)
    x = g.op("MatMul", back, g.reshape(x, [t * n, n, tiles * tiles * outputs]))
    x = g.op("MatMul", back, g.reshape(x, [t, n, m * tiles * tiles * outputs]))
    x = g.reshape(x, [t, m, m, groups, tiles, tiles, outer])
    x = g.reshape(g.op("Transpose", x, perm=[0, 4, 2, 5, 1, 3, 6]), [t, tiles * m, tiles * m, outputs])
    x = g.slice(x, 0, size, [1, 2])
    return g.op("Relu", g.op("Add", x, g.weight(f"{name}.bias")))


def convolve_and_pool(g: GraphBuilder, x: ir.Value, name: str, *, targets: int, size: int, groups: int) -> ir.Value:
    """A padded ``taps`` x ``taps`` convolution, ReLU and 3 x 3 max pool of stride 2: ``[T, O, size / 2, size / 2]``.

    Along a row of maps ``[T, C, size, size]`` F(4, taps); down the columns an ordinary convolution of ``taps`` x 1 in
    which each of the n tile positions is a group of its own. The four outputs of each tile stay apart as planes until
    the pool has made a quarter of them, and bias and ReLU come after it: both are monotone, so the maximum is the same.
    """
    outputs, inner, taps, _ = g.weight_shape(f"{name}.weight")
    w, channels = winograd(4, taps), inner * groups
    n, tiles = w.tile, size // w.step
    if size % w.step:
        raise ValueError(f"{name}: maps of {size} cells are no multiple of {w.step}")
    # One product per tile position, so that positions become channel groups.
    forward = positions_first(w, size, size, taps // 2).transpose(0, 2, 1)
    x = g.op("MatMul", g.reshape(x, [targets, 1, channels * size, size]), g.constant(forward))
    kernel = g.op("MatMul", g.reshape(g.weight(f"{name}.weight"), [-1, taps]), g.constant(w.kernel.T))
    kernel = g.reshape(kernel, [outputs, inner, taps, n])
    kernel = g.reshape(g.op("Transpose", kernel, perm=[3, 0, 1, 2]), [n * outputs, inner, taps, 1])
    x = g.reshape(x, [targets, n * channels, size, tiles])
    x = g.op("Conv", x, kernel, pads=[taps // 2, 0, taps // 2, 0], group=n * groups, kernel_shape=[taps, 1])
    x = g.op("MatMul", g.constant(w.output), g.reshape(x, [targets, n, outputs * size * tiles]))
    first, second, third, fourth = g.split(g.reshape(x, [targets, 4, outputs * size, tiles]), [1] * 4, axis=1)
    # Pooled columns 2 t and 2 t + 1 see columns 4 t - 1 .. 4 t + 1 and 4 t + 1 .. 4 t + 3.
    one_later = g.constant([0, 0, 0, 1, 0, 0, 0, -1])
    before = g.op("Pad", fourth, one_later, g.constant(np.array(-np.inf)), mode="constant")
    halves = [g.op("Max", before, first, second), g.op("Max", second, third, fourth)]
    x = g.reshape(g.op("Concat", *halves, axis=1), [targets, 2 * outputs, size, tiles])
    x = g.op("MaxPool", x, kernel_shape=[3, 1], strides=[2, 1], pads=[1, 0, 1, 0])
    x = g.op("Transpose", g.reshape(x, [targets, 2, outputs, size // 2, tiles]), perm=[0, 2, 3, 4, 1])
    x = g.reshape(x, [targets, outputs, size // 2, size // 2])
    return g.op("Relu", g.op("Add", x, g.reshape(g.weight(f"{name}.bias"), [1, outputs, 1, 1])))


def convolve_patches(g: GraphBuilder, x: ir.Value, weight: str, *, cells: int) -> ir.Value:
    """A padded 3 x 3 convolution of many small patches ``[P, cells * cells, C]``: ``[P, cells * cells, O]``, no bias.

    A patch is so small that both axes' transforms are one product.
    """
    w = winograd(3)
    outputs, channels, *_ = g.weight_shape(weight)
    tiles = -(-cells // w.step)
    per_axis = tiled_input(w, cells, cells, 1).reshape(tiles, w.tile, cells)
    # Rows in the order of tile position (x, y), then tile, so that positions become the batch of the product.
    forward = np.einsum("iay,jbx->baijyx", per_axis, per_axis).reshape(-1, cells * cells)
    out_axis = tiled_output(w, cells).reshape(cells, tiles, w.tile)
    backward = np.einsum("yia,xjb->yxbaij", out_axis, out_axis).reshape(cells * cells, -1)
    n2, t2 = w.tile**2, tiles**2
    x = g.reshape(g.op("MatMul", g.constant(forward), x), [-1, n2, t2, channels])
    x = g.reshape(g.op("Transpose", x, perm=[1, 0, 2, 3]), [n2, -1, channels])
    kernel = g.reshape(kernel_products(g, w, weight, 1), [n2, channels, outputs])
    x = g.op("MatMul", x, kernel)
    x = g.op("Transpose", g.reshape(x, [n2, -1, t2, outputs]), perm=[1, 0, 2, 3])
    return g.op("MatMul", g.constant(backward), g.reshape(x, [-1, n2 * t2, outputs]))
