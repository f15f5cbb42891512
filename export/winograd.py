"""3 x 3 convolutions with fewer multiplications, as matrix products that any ONNX library has.

Winograd's minimal filtering computes m outputs of an r-tap correlation with m + r - 1 multiplications instead of m * r:
``y = A^T ((G g) * (B^T d))``; in two dimensions the saving is squared (Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", CVPR 2016). Here everything is channels-last, so that the transforms are products with
long contiguous rows, and the multiplications over channels are one batched matrix product per tile position.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .builder import GraphBuilder

Matrix = NDArray[np.float64]

# Interpolation points besides infinity. Small ones, and their order of growth, keep float32's rounding small.
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)


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


def kernel_products(g: GraphBuilder, w: Winograd, weight: str, channels: int, outputs: int, groups: int) -> ir.Value:
    """``G k G^T`` of a convolution's weight ``[O, C / groups, 3, 3]``: ``[n * n * groups, C / groups, O / groups]``.

    It is written as operators on a constant, which libraries fold when they load the graph: the file keeps the small
    kernel.
    """
    taps, inner, outer = w.kernel.shape[1], channels // groups, outputs // groups
    flat = g.reshape(g.weight(weight), [groups, outer, inner, taps * taps])
    flat = g.reshape(g.op("Transpose", flat, perm=[3, 0, 2, 1]), [taps * taps, groups * inner * outer])
    spread = g.op("MatMul", g.constant(np.kron(w.kernel, w.kernel)), flat)
    return g.reshape(spread, [w.tile**2 * groups, inner, outer])


def convolve(
    g: GraphBuilder, x: ir.Value, name: str, *, targets: int, size: int, channels: int, outputs: int, groups: int = 1
) -> ir.Value:
    """A padded 3 x 3 convolution with bias and ReLU of maps ``[T, size, size, C]``: ``[T, size, size, O]``."""
    w = winograd(4)
    n, tiles = w.tile, -(-size // w.step)
    span = tiles * n
    rows = g.constant(tiled_input(w, size, size, 1))
    x = g.op("MatMul", rows, g.reshape(x, [targets, size, size * channels]))
    x = g.op("MatMul", rows, g.reshape(x, [targets * span, size, channels]))
    x = g.reshape(x, [targets, tiles, n, tiles, n, groups, channels // groups])
    x = g.op("Transpose", x, perm=[2, 4, 5, 0, 1, 3, 6])
    x = g.reshape(x, [n * n * groups, targets * tiles * tiles, channels // groups])
    x = g.op("MatMul", x, kernel_products(g, w, f"{name}.weight", channels, outputs, groups))
    x = g.reshape(x, [n, n, groups, targets, tiles, tiles, outputs // groups])
    x = g.op("Transpose", x, perm=[3, 4, 0, 5, 1, 2, 6])
    back = g.constant(tiled_output(w, size))
    x = g.op("MatMul", back, g.reshape(x, [targets, span, span * outputs]))
    x = g.op("MatMul", back, g.reshape(x, [targets * size, span, outputs]))
    x = g.op("Relu", g.op("Add", x, g.weight(f"{name}.bias")))
    return g.reshape(x, [targets, size, size, outputs])


def convolve_patches(g: GraphBuilder, x: ir.Value, weight: str, *, cells: int, channels: int, outputs: int) -> ir.Value:
    """A padded 3 x 3 convolution of many small patches ``[P, cells * cells, C]``: ``[P, cells * cells, O]``, no bias.

    A patch is so small that both axes' transforms are one product.
    """
    w = winograd(3)
    tiles = -(-cells // w.step)
    per_axis = tiled_input(w, cells, cells, 1).reshape(tiles, w.tile, cells)
    # Rows in the order of tile position (n, n), then tile, so that positions become the batch of the product.
    forward = np.einsum("iay,jbx->abijyx", per_axis, per_axis).reshape(-1, cells * cells)
    out_axis = tiled_output(w, cells).reshape(cells, tiles, w.tile)
    backward = np.einsum("yia,xjb->yxabij", out_axis, out_axis).reshape(cells * cells, -1)
    n2, t2 = w.tile**2, tiles**2
    x = g.reshape(g.op("MatMul", g.constant(forward), x), [-1, n2, t2, channels])
    x = g.reshape(g.op("Transpose", x, perm=[1, 0, 2, 3]), [n2, -1, channels])
    x = g.op("MatMul", x, kernel_products(g, w, weight, channels, outputs, 1))
    x = g.op("Transpose", g.reshape(x, [n2, -1, t2, outputs]), perm=[1, 0, 2, 3])
    return g.op("MatMul", g.constant(backward), g.reshape(x, [-1, n2 * t2, outputs]))
