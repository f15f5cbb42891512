"""The PyTorch backend on the CPU against ONNX Runtime; its CUDA graphs over a stand-in."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spm_rt import BackendError, Bundle, BundleError, Tracker
from spm_rt.backends import load_backend
from spm_rt.backends.pytorch.backend import PyTorchBackend, Stage
from spm_rt.backends.pytorch.network import read_weights
from spm_rt.results import Box

Frames = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def bundle(synthetic_bundle: Path) -> Bundle:
    return Bundle.open(synthetic_bundle)


def both(bundle: Bundle, targets: int) -> tuple[Any, Any]:
    """Contexts of ONNX Runtime and PyTorch with the same template and crop, searched."""
    rng = np.random.default_rng(targets)
    contexts = [load_backend(bundle, name, targets=targets).context() for name in ("onnxruntime", "pytorch")]
    crop = rng.uniform(0, 255, contexts[0].crop.shape).astype(np.float32)
    other = rng.uniform(0, 255, crop.shape).astype(np.float32)
    box = np.tile(np.array([[90, 85, 180, 170]], np.float32), (targets, 1)) + 3 * np.arange(targets)[:, None]
    for context in contexts:
        context.crop[:] = crop
        context.set_template(box.astype(np.float32))
        context.crop[:] = other
    return contexts[0], contexts[1]


@pytest.mark.parametrize("targets", [1, 2])
def test_all_three_stages_agree_with_onnx_runtime(targets: int, bundle: Bundle) -> None:
    theirs, ours = both(bundle, targets)
    for wanted, got, tolerance in zip(theirs.search(), ours.search(), (1e-5, 1e-3), strict=True):
        np.testing.assert_allclose(got, wanted, atol=tolerance)
    rng = np.random.default_rng(9)
    for count in (1, 4, 9, 4):
        center, size = rng.uniform(0, 271, (targets, count, 2)), rng.uniform(5, 200, (targets, count, 2))
        proposals = np.concatenate([center - size / 2, center + size / 2], axis=-1).astype(np.float32)
        for wanted, got, tolerance in zip(theirs.relate(proposals), ours.relate(proposals), (1e-5, 1e-3), strict=True):
            assert got.shape == wanted.shape
            np.testing.assert_allclose(got, wanted, atol=tolerance)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_is_near(precision: str, bundle: Bundle) -> None:
    context = PyTorchBackend(bundle, precision=precision).context()
    wanted, _ = both(bundle, 1)
    rng = np.random.default_rng(1)
    context.crop[:] = rng.uniform(0, 255, context.crop.shape)
    context.set_template(np.array([[90, 85, 180, 170]], np.float32))
    context.crop[:] = wanted.crop
    scores, boxes = context.search()
    near = 0.02 if precision == "float16" else 0.1
    np.testing.assert_allclose(scores, wanted.search()[0], atol=near)
    assert np.isfinite(boxes).all()
    assert precision in context._backend.description


def test_tracking_gives_the_same_boxes(default_bundle: Path, clip: Frames, clip_box: Box) -> None:
    found = []
    for name in ("onnxruntime", "pytorch"):
        tracker = Tracker.load(default_bundle, name)
        tracker.init(clip[0], clip_box)
        found.append([tracker.update(frame).box for frame in clip[1:6]])
    np.testing.assert_allclose(found[1], found[0], atol=0.01)


def test_positions_that_are_no_numbers_give_zeros(bundle: Bundle) -> None:
    network = PyTorchBackend(bundle).network
    deep, shallow = (torch.full((1, c, 34, 34), torch.nan) for c in (384, 256))
    boxes = torch.tensor([[[torch.nan, 10, 100, 90], [10, 10, torch.inf, 90], [300, 300, 400, 400]]])
    assert (network.crop_features(deep, shallow, boxes) == 0).all()


def test_templates_move_between_contexts(bundle: Bundle) -> None:
    backend = PyTorchBackend(bundle)
    first, second = backend.context(), PyTorchBackend(bundle, targets=2).context()
    rng = np.random.default_rng(3)
    crops = rng.uniform(0, 255, (2, 3, 271, 271)).astype(np.float32)
    box = np.array([[90, 85, 180, 170]], np.float32)
    wanted = []
    for slot in (0, 1):
        first.crop[:] = crops[slot]
        first.set_template(box)
        second.put_template(slot, first.template())
        first.crop[:] = crops[1 - slot]
        wanted.append(first.search()[0][0].copy())
    second.crop[:] = crops[::-1]
    np.testing.assert_allclose(second.search()[0], wanted, atol=1e-5)


# What cannot be had.


@pytest.mark.parametrize("device", ["gpu", "cuda:first", "", "meta"])
def test_unknown_devices_are_named(device: str, bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=f"device {device!r} is unknown to pytorch"):
        load_backend(bundle, "pytorch", device=device)


def test_a_machine_without_a_gpu_says_so(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match=r"device 'cuda': this PyTorch \(.*\) sees no GPU"):
        load_backend(bundle, "pytorch", device="cuda")


def test_unknown_precisions_are_refused(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="precision 'int8': float32, float16 or bfloat16"):
        PyTorchBackend(bundle, precision="int8")


def test_damaged_weights_are_named(bundle: Bundle, tmp_path: Path) -> None:
    whole = bundle.path / "weights.safetensors"
    path = tmp_path / "weights.safetensors"
    for cut in (0, 4, 100, whole.stat().st_size - 1000):
        path.write_bytes(whole.read_bytes()[:cut])
        with pytest.raises(BundleError, match="not readable as safetensors"):
            read_weights(path, torch)
    shutil.copy(whole, path)
    assert read_weights(path, torch).keys() == read_weights(whole, torch).keys()


# CUDA graphs, over a stand-in: what is captured is kept and done again when it is replayed.


class FakeCuda:
    def __init__(self, error: str = "") -> None:
        self.replays, self.error = 0, error
        self.spoil: Callable[[], Any] = lambda: None
        cuda, backend = self, SimpleNamespace(device="cuda")

        class Graph:
            def replay(self) -> None:
                cuda.replays += 1
                cuda.work()
                cuda.spoil()

        @contextlib.contextmanager
        def graph(made: Graph) -> Iterator[None]:
            if cuda.error:
                raise RuntimeError(cuda.error)
            yield

        nothing = SimpleNamespace(synchronize=lambda: None)
        self.work: Callable[[], None] = lambda: None
        self.torch = SimpleNamespace(
            cuda=SimpleNamespace(
                CUDAGraph=Graph, graph=graph, synchronize=lambda device: None, current_stream=lambda device: nothing
            )
        )
        backend.torch, backend.on_gpu, backend.graphs = self.torch, True, True
        backend.entered, backend.recording = contextlib.nullcontext, lambda made, stream: graph(made)
        self.backend: Any = backend


def steady(cuda: FakeCuda) -> tuple[Stage, torch.Tensor]:
    """Work whose result is always the same."""
    given = torch.zeros(3)

    def work() -> None:
        given.copy_(torch.tensor([1.0, 2, 3]))

    cuda.work = work
    return Stage(cuda.backend, work, {"scores": given}), given


def test_work_is_captured_after_two_usual_runs() -> None:
    cuda = FakeCuda()
    stage, _ = steady(cuda)
    replays = []
    for _ in range(4):
        stage.run()
        replays.append(cuda.replays)
    assert replays == [0, 1, 2, 3]  # the first replay is the comparison


def test_a_failed_capture_is_given_up_with_a_warning() -> None:
    cuda = FakeCuda(error="operation not permitted when stream is capturing")
    stage, given = steady(cuda)
    stage.run()
    with pytest.warns(RuntimeWarning, match="CUDA graphs are not used: operation not permitted"):
        stage.run()
    stage.run()
    assert cuda.replays == 0
    assert not cuda.backend.graphs
    assert given.tolist() == [1, 2, 3]


@pytest.mark.parametrize("wrong", [1.01, float("nan")])
def test_a_capture_that_computes_something_else_is_given_up(wrong: float) -> None:
    cuda = FakeCuda()
    stage, given = steady(cuda)
    cuda.spoil = lambda: given.copy_(wrong * given)
    stage.run()
    with pytest.warns(RuntimeWarning, match="captured scores differ"):
        stage.run()
    assert given.tolist() == [1, 2, 3]
    stage.run()
    assert cuda.replays == 1


def test_without_graphs_everything_is_launched() -> None:
    cuda = FakeCuda()
    cuda.backend.graphs = False
    stage, given = steady(cuda)
    for _ in range(4):
        given.zero_()
        stage.run()
        assert given.tolist() == [1, 2, 3]
    assert cuda.replays == 0
