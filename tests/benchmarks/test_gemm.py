"""Peaks and steadiness: what is measured, and what is made of it. No figure of time is judged here."""

from __future__ import annotations

import numpy as np
import pytest

from spm_bench.timing import gemm
from spm_bench.timing.gemm import Peaks, Product, Steadiness

SMALL = ((32, 16, 24),)


@pytest.mark.heavy
def test_every_library_multiplies_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "_blas_threads", lambda: 1)
    products = gemm._products((32, 16, 24), 1)
    found = {(product.precision, product.library) for product in products}
    assert {("float32", "numpy"), ("float32", "onnxruntime"), ("int8", "onnxruntime")} <= found
    left, right = gemm._operands((32, 16, 24))
    assert left.shape == (32, 24)
    assert right.shape == (24, 16)
    by_numpy = next(product.run for product in products if product.library == "numpy")
    np.testing.assert_allclose(np.asarray(by_numpy()), left @ right, rtol=1e-4, atol=1e-4)
    for product in products:
        product.run()


def test_integers_are_multiplied_as_integers() -> None:
    import onnx

    model = onnx.load_from_string(gemm._model(np.zeros((4, 3), np.uint8), np.zeros((3, 2), np.int8)))
    assert [node.op_type for node in model.graph.node] == ["MatMulInteger"]


def test_the_best_of_all_visits_is_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([3.0, 10.0, 50.0, 5.0, 8.0, 60.0])
    products = [
        Product("float32", "one", (8, 8, 8), lambda: None),
        Product("float32", "two", (8, 8, 8), lambda: None),
        Product("int8", "two", (8, 8, 8), lambda: None),
    ]
    monkeypatch.setattr(gemm, "_products", lambda shape, threads: products)
    monkeypatch.setattr(gemm, "_best_rate", lambda product: next(rates))
    peaks = Peaks(1, ("float32", "int8", "bfloat16"), SMALL)
    peaks.visit()
    peaks.visit()
    assert peaks.peak("float32") == 10.0
    assert peaks.peak("int8") == 60.0
    assert peaks.peak("bfloat16") is None
    report = peaks.report()["float32"]
    assert report["library"] == "two"
    assert report["by_visit"] == [10.0, 8.0]


@pytest.mark.heavy
def test_only_wanted_precisions_are_measured() -> None:
    peaks = Peaks(1, ("int8",), SMALL)
    peaks.visit()
    assert list(peaks.report()) == ["int8"]
    assert (peaks.peak("int8") or 0) > 0


@pytest.mark.parametrize(("said", "threads"), [("1", 1), ("", 3), ("many", 3), ("8", 3)])
def test_threads_of_blas(said: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in gemm.BLAS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setattr(gemm, "usable_cores", lambda: 3)
    assert gemm._blas_threads() == threads


def test_spread_of_the_steadiness() -> None:
    steadiness = Steadiness()
    steadiness.visit()
    assert len(steadiness.times) == 1
    assert steadiness.spread() == 0
    steadiness.times = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert steadiness.spread() == pytest.approx((4 - 2) / 3)
