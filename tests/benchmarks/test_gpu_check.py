"""gpu_check on a machine without a GPU, and its kernel part over an emulated driver."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spm_bench.cli import main
from spm_bench.gpu import agreement, layers
from spm_bench.gpu import parts as gpu_parts
from spm_bench.gpu import several as gpu_several
from spm_rt import Bundle, TrackResult
from spm_rt.backends.pytorch.kernels import Kernels
from spm_rt.backends.pytorch.network import Network, read_weights
from spm_rt.precision import PRECISIONS

from ..support.bench import spm_bench
from ..support.emulator.driver import CUresult, Emulator, emulated_gpu
from ..support.emulator.host_build import built_for_the_host
from ..support.emulator.networks import OnHost
from ..support.fakes.backend import Shifted, bright_multi_tracker, bright_tracker

SCRIPT = Path(gpu_parts.__file__).parents[2] / "gpu_check.py"


def test_without_a_gpu_it_says_so_and_fails(tmp_path: Path, synthetic_bundle: Path) -> None:
    """As a script from a checkout, in a process that can import neither a driver nor bindings for it."""
    (tmp_path / "cuda").mkdir()
    (tmp_path / "cuda" / "__init__.py").write_text("raise ImportError('not here')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    out = tmp_path / "report.json"
    command = [sys.executable, str(SCRIPT.resolve()), str(synthetic_bundle), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads(out.read_text())
    assert report["gpu"] is None
    assert "pip install cuda-bindings" in report["missing"][0]
    assert set(report["packages"]) == {"torch", "cuda.bindings", "onnxruntime", "tensorrt", "cupy"}
    assert report["wrong"] == []
    assert "nothing was checked" in done.stderr


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["gpu", "--help"])
    assert "Exit status: 0 all there was to check is right" in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Emulator:
    return emulated_gpu(built_for_the_host(), monkeypatch)


def test_the_kernels_pass_on_an_emulated_gpu(machine: Emulator, synthetic_bundle: Path) -> None:
    found = gpu_parts.check_kernels(Bundle.open(synthetic_bundle), 12)
    assert found["checks"] == dict.fromkeys(
        ["roi float32", "roi float16", "roi bfloat16", "crop", "proposals", "fusion"], True
    ), found["largest_error"]


def test_a_wrong_kernel_is_found(machine: Emulator, synthetic_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = gpu_parts.KernelRunner.run

    def spoilt(self: Any, unit: str, launch: Any, *arguments: Any) -> None:
        real(self, unit, launch, *arguments)
        for array in arguments:
            if isinstance(array, np.ndarray) and launch.name in ("spm_crop_f32", "spm_fuse", "spm_roi_f32"):
                spoil(array)

    monkeypatch.setattr(gpu_parts.KernelRunner, "run", spoilt)
    checks = gpu_parts.check_kernels(Bundle.open(synthetic_bundle), 3)["checks"]
    assert {name for name, right in checks.items() if not right} >= {"crop", "fusion", "roi float32"}


@pytest.mark.parametrize("kind", layers.LIMITS)
@pytest.mark.parametrize("wrong", [False, True])
def test_the_kernels_between_products_are_compared(
    wrong: bool, kind: str, machine: Emulator, synthetic_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, cpu = Bundle.open(synthetic_bundle).spec, torch.device("cpu")
    weights = read_weights(synthetic_bundle / "weights.safetensors", torch)
    plain = Network(torch, weights, spec, cpu, torch.float32).steps
    wanted = Network(OnHost(), weights, spec, cpu, getattr(torch, kind)).steps
    ours = Kernels(wanted, 0, kind)
    for step in ("prepare", "pool_norm", "activate", "relate", "decode", "decode_fine") if wrong else ():
        monkeypatch.setattr(ours, step, a_tenth_more(getattr(ours, step)))
    found = layers.layer_errors(plain, ours, torch)
    assert len(found) == 7
    assert all((error > layers.LIMITS[kind]) is wrong for error in found.values()), found


def a_tenth_more(step: Any) -> Any:
    def run(*given: Any, **more: Any) -> Any:
        found = step(*given, **more)
        return {name: 1.1 * x for name, x in found.items()} if isinstance(found, dict) else 1.1 * found

    return run


def spoil(array: NDArray[Any]) -> None:
    """Something else in every result: another box, another level, another feature."""
    if array.dtype.names:
        if "box" in array.dtype.names:
            array["box"] += 1
    elif array.dtype == np.float32 and array.ndim == 3:
        array += 1
    elif array.dtype == np.uint32:
        array[:] = np.float32(9).view(np.uint32)


RESULTS: list[agreement.Result] = [((193.0 + k, 158.0, 57.0, 72.0), 0.9) for k in range(agreement.FRAMES)]


def altered(frames: range, pixels: float, score: float) -> list[agreement.Result]:
    return [
        ((box[0] + pixels, *box[1:]), given + score) if k in frames else (box, given)
        for k, (box, given) in enumerate(RESULTS)
    ]


ONE, ALL, TENTH = range(12, 13), range(agreement.FRAMES), range(0, agreement.FRAMES, 10)


@pytest.mark.parametrize(
    ("precision", "frames", "pixels", "score", "boxes", "scores"),
    [
        *((precision, ONE, 100, 0, False, True) for precision in PRECISIONS),
        *((precision, ONE, 0, 0.3, True, False) for precision in PRECISIONS),
        *((precision, ONE, np.nan, 0, False, True) for precision in PRECISIONS),
        *((precision, ONE, 0, np.nan, True, False) for precision in PRECISIONS),
        *((precision, ONE, np.inf, 0, False, True) for precision in PRECISIONS),
        ("float32", ONE, 0.9e-3, 0.9e-4, True, True),
        ("float32", ONE, 1.1e-3, 1.1e-4, False, False),
        ("float16", ALL, 0.1, 0.007, True, True),
        ("float16", ALL, 0.5, 0.009, False, False),
        ("bfloat16", ONE, 2.5, 0.06, True, True),
        ("bfloat16", range(0, agreement.FRAMES, 7), 2.5, 0.06, False, True),
        ("bfloat16", ALL, 0.1, 0.07, True, False),
    ],
)
def test_boxes_and_scores_are_judged_by_the_precision(
    precision: str, frames: range, pixels: float, score: float, boxes: bool, scores: bool
) -> None:
    found = agreement.judge(altered(frames, pixels, score), RESULTS, precision)
    assert found["checks"] == {"boxes": boxes, "scores": scores}, found
    assert found["bounds"]["precision"] == precision


class Off:
    """A tracker whose boxes and scores are altered in one frame of the clip."""

    def __init__(self, tracker: Any, pixels: float, score: float) -> None:
        self._tracker, self._pixels, self._score, self._frames = tracker, pixels, score, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracker, name)

    def update(self, frame: Any) -> TrackResult:
        self._frames += 1
        result: TrackResult = self._tracker.update(frame)
        if self._frames != 5:
            return result
        x, *rest = result.box
        return dataclasses.replace(result, box=(x + self._pixels, *rest), score=result.score + self._score)


@pytest.mark.parametrize(("pixels", "score"), [(0, 0), (100, 0), (0, 0.2)])
def test_a_tracker_follows_the_shipped_clip_from_the_box_of_the_reference(pixels: float, score: float) -> None:
    frames, box = agreement.pictures()
    wanted = agreement.follow(bright_tracker(), frames, box)
    drifting = Off(bright_tracker(), pixels, score)  # a box that is off is no start of the next frame
    found = agreement.parity(drifting, wanted, "bfloat16")
    assert found["checks"] == {"boxes": pixels == 0, "scores": score == 0}
    assert found["frames"] == agreement.FRAMES == len(wanted)
    assert found["largest_box_error_px"] == pytest.approx(pixels)
    assert found["mean_iou"] == pytest.approx(1 if pixels == 0 else 1 - 1 / agreement.FRAMES)


def test_several_targets_are_compared_and_timed() -> None:
    found = gpu_several.measure(bright_multi_tracker(), bright_tracker, 24, (1, 2, 4), "float32")
    assert found["checks"] == {"boxes of single trackers": True, "scores of single trackers": True}
    assert [one["largest_box_error_px"] for one in found["beside_single_trackers"]] == [0, 0, 0]
    assert set(found["host_frames"]) == {"1", "2", "4"}
    for number, row in found["host_frames"].items():
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        # Of the whole run, so it cannot be far above what the median says.
        assert 0 < row["target_frames_per_second"] < 3 * int(number) * 1e3 / row["p50_ms"]
    assert found["goal"] == {"16 targets": 10_000, "reached": False}


@pytest.mark.parametrize(
    ("pixels", "precision", "right"), [(0.1, "float32", False), (0.1, "float16", True), (100, "bfloat16", False)]
)
def test_other_boxes_than_single_trackers_are_found(pixels: float, precision: str, right: bool) -> None:
    multi = Shifted(bright_multi_tracker(), lambda box: (box[0] + pixels, *box[1:]))
    found = agreement.several_parity(multi, bright_tracker, gpu_several.COMPARED, precision)
    assert found["checks"]["boxes"] is right
    assert len(multi) == 0


def test_targets_lie_in_the_frame_and_are_many() -> None:
    boxes = gpu_several.target_boxes(16)
    assert len(set(boxes)) == 16
    assert all(x >= 0 and y >= 0 and x + w <= 1280 and y + h <= 720 for x, y, w, h in boxes)


def test_parts_that_cannot_run_are_named_and_others_do(machine: Emulator, synthetic_bundle: Path) -> None:
    """On an emulated GPU there is no PyTorch for it, no TensorRT, no CUDA provider: only the kernels are checked."""
    ran = spm_bench("gpu", synthetic_bundle, "--maps 3 --frames 20")
    assert ran.status == 0
    report = json.loads(ran.out)
    assert report["gpu"] == {"name": "Emulated GPU", "compute_capability": 90, "driver": 13000}
    assert report["kernels"]["checks"]["proposals"] is True
    named = {line.split(":")[0] for line in report["missing"]}
    assert {"pytorch float32", "onnxruntime cuda", "tensorrt", "resident float32", "throughput float16"} <= named
    several = ("resident float16", "resident tensorrt", "pytorch float32", "onnxruntime", "tensorrt-rtx")
    assert {f"several {name}" for name in several} <= named


def test_an_error_of_the_driver_is_something_wrong_not_missing(
    machine: Emulator, synthetic_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(bundle: Bundle, maps: int) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr(gpu_parts, "check_kernels", broken)
    ran = spm_bench("gpu", synthetic_bundle, "--maps 3")
    assert ran.status == 1
    assert json.loads(ran.out)["wrong"] == ["kernels: no such thing"]
    machine.fail("cuDeviceGetCount", CUresult.CUDA_ERROR_NO_DEVICE)
