"""The machine's own peak: matrix products that are as large and as regular as a library likes them.

A peak is the best that any library, shape and moment gave; measured before, between and after whatever is judged by it,
since clocks and neighbours change. Work is in multiply-adds: one GMAC is two GFLOP.
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from spm_rt.backends import BACKENDS
from spm_rt.backends.openvino.backend import shared_core
from spm_rt.machine import usable_cores

SHAPES = ((768, 768, 768), (1024, 1024, 1024), (4624, 256, 1200), (1156, 384, 2304))
"""Rows, columns and inner size of the products: two squares, and two of the sizes that convolutions have here."""
STEADY_PRODUCT = (512, 512, 512)
REPEATS = 3
BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Product(NamedTuple):
    """One matrix product that can be run."""

    precision: str
    """``float32``, ``bfloat16`` or ``int8``: the type that is multiplied; sums are of a wider one"""
    library: str
    shape: tuple[int, int, int]
    run: Callable[[], object]


class Peaks:
    """Measures, as often as :meth:`visit` is called, and keeps the best.

    Args:
        threads: threads per product. Where BLAS under numpy has another number, it is not measured.
        precisions: which of ``float32``, ``bfloat16``, ``int8`` are wanted; what no library has here is left out.
        shapes: instead of :data:`SHAPES`.
    """

    def __init__(
        self,
        threads: int,
        precisions: Sequence[str] = ("float32",),
        shapes: Sequence[tuple[int, int, int]] | None = None,
    ) -> None:
        self._products = [
            product
            for shape in shapes or SHAPES
            for product in _products(shape, threads)
            if product.precision in precisions
        ]
        self._visits: list[list[float]] = []
        for product in self._products:
            product.run()

    def visit(self) -> None:
        """Run every product a few times."""
        self._visits.append([_best_rate(product) for product in self._products])

    def peak(self, precision: str) -> float | None:
        """The best so far in GMAC per second; None where nothing of this precision could be measured."""
        best = self.report().get(precision)
        return None if best is None else float(best["gmac_per_s"])

    def report(self) -> dict[str, dict[str, Any]]:
        """Per precision: the best rate, which library and shape gave it, and the best of each visit."""
        rates = np.array(self._visits).reshape(len(self._visits), len(self._products))
        report: dict[str, dict[str, Any]] = {}
        for precision in dict.fromkeys(product.precision for product in self._products):
            columns = [k for k, product in enumerate(self._products) if product.precision == precision]
            best = columns[int(rates[:, columns].max(axis=0).argmax())]
            report[precision] = {
                "gmac_per_s": float(rates[:, best].max()),
                "library": self._products[best].library,
                "shape": list(self._products[best].shape),
                "by_visit": [round(float(v), 1) for v in rates[:, columns].max(axis=1)],
                "libraries": sorted({self._products[k].library for k in columns}),
            }
        return report


class Steadiness:
    """The same small product again and again over a run: how steady the machine is. Times in seconds."""

    def __init__(self) -> None:
        self._run = _numpy_product(STEADY_PRODUCT)
        self.times: list[float] = []
        self._run()

    def visit(self) -> None:
        """Time it once (the median of a few, so that one interrupt does not count)."""
        self.times.append(float(np.median(_seconds(self._run, 5))))

    def spread(self) -> float:
        """Distance of the quartiles over the median; 0 on a machine that does nothing else."""
        return quartile_spread(self.times)


def quartile_spread(values: Sequence[float]) -> float:
    """Distance of the quartiles over the median."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float((high - low) / middle)


def _seconds(run: Callable[[], object], count: int) -> list[float]:
    """Of each of a few runs."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def _best_rate(product: Product) -> float:
    """GMAC per second of the quickest of a few runs."""
    return math.prod(product.shape) / min(_seconds(product.run, REPEATS)) / 1e9


def _products(shape: tuple[int, int, int], threads: int) -> list[Product]:
    """All that can be measured here."""
    runs: list[tuple[str, str, Callable[[], object]]] = []
    if _blas_threads() == threads:
        runs.append(("float32", "numpy", _numpy_product(shape)))
    if importlib.util.find_spec("onnxruntime") is not None:
        for precision in ("float32", "int8"):
            runs.append((precision, "onnxruntime", _onnxruntime_product(shape, threads, integers=precision == "int8")))
    if importlib.util.find_spec("openvino") is not None:
        able = "BF16" in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        for precision, kind in {"float32": "f32", **({"bfloat16": "bf16"} if able else {})}.items():
            runs.append((precision, "openvino", _openvino_product(shape, threads, kind)))
    if "torch" in sys.modules:  # not worth its import: it is measured where it takes part anyway
        runs += [(precision, "torch", _torch_product(shape, precision)) for precision in ("float32", "bfloat16")]
    return [Product(precision, library, shape, run) for precision, library, run in runs]


def _blas_threads() -> int:
    """Threads that BLAS under numpy takes: what its variables say, else every core the process may use."""
    said = [os.environ[name] for name in BLAS_VARIABLES if os.environ.get(name, "").isdigit()]
    return min(int(said[0]), usable_cores()) if said else usable_cores()


def _operands(shape: tuple[int, int, int]) -> tuple[Any, Any]:
    rows, columns, inner = shape
    random = np.random.default_rng(0)
    return (random.standard_normal((rows, inner), np.float32), random.standard_normal((inner, columns), np.float32))


def _numpy_product(shape: tuple[int, int, int]) -> Callable[[], object]:
    left, right = _operands(shape)
    result = np.empty((shape[0], shape[1]), np.float32)
    return lambda: np.matmul(left, right, out=result)


def _onnxruntime_product(shape: tuple[int, int, int], threads: int, *, integers: bool) -> Callable[[], object]:
    """MatMul with a constant right side, as layers have it; of integers: uint8 times int8."""
    onnxruntime = BACKENDS["onnxruntime"].import_library()
    left, right = _operands(shape)
    if integers:
        left, right = (left * 40 + 128).clip(0, 255).astype(np.uint8), (right * 30).clip(-127, 127).astype(np.int8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session: Any = onnxruntime.InferenceSession(_model(left, right), options, providers=["CPUExecutionProvider"])
    result = np.empty((shape[0], shape[1]), np.int32 if integers else np.float32)
    left_value, result_value = (onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in (left, result))
    binding = session.io_binding()
    binding.bind_ortvalue_input("left", left_value)
    binding.bind_ortvalue_output("product", result_value)

    # The arrays belong to the values, and the values to this function: the binding alone would not keep them.
    def run(_kept: object = (left_value, result_value, left, result)) -> object:
        return session.run_with_iobinding(binding)

    return run


def _openvino_product(shape: tuple[int, int, int], threads: int, kind: str) -> Callable[[], object]:
    """The same in OpenVINO; in bfloat16 it converts the left side and the result by itself."""
    openvino = BACKENDS["openvino"].import_library()
    left, right = _operands(shape)
    core = shared_core()
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": kind, "INFERENCE_NUM_THREADS": threads}
    request = core.compile_model(core.read_model(_model(left, right)), "CPU", options).create_infer_request()
    left_tensor = openvino.Tensor(left, shared_memory=True)
    request.set_tensor("left", left_tensor)

    def run(_kept: object = (left_tensor, left)) -> object:
        return request.infer()

    return run


def _torch_product(shape: tuple[int, int, int], precision: str) -> Callable[[], object]:
    import torch

    left, right = (torch.from_numpy(side) for side in _operands(shape))
    if precision == "bfloat16":
        left, right = left.bfloat16(), right.bfloat16()
    return lambda: torch.mm(left, right)


def _model(left: Any, right: Any) -> bytes:
    """An ONNX file of one product with a constant right side."""
    import onnx
    from onnx import TensorProto, helper

    name, taken, made = "MatMul", TensorProto.FLOAT, TensorProto.FLOAT
    if left.dtype == np.uint8:
        name, taken, made = "MatMulInteger", TensorProto.UINT8, TensorProto.INT32
    node = helper.make_node(name, ["left", "right"], ["product"])
    left_info = helper.make_tensor_value_info("left", taken, list(left.shape))
    product_info = helper.make_tensor_value_info("product", made, [left.shape[0], right.shape[1]])
    weights = [onnx.numpy_helper.from_array(right, "right")]
    graph = helper.make_graph([node], "product", [left_info], [product_info], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
