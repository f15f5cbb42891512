"""What is installed, and the advice that follows from the GPUs."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from unittest.mock import Mock

import pytest

from spm_engines import Gpu, InspectedLibrary, advise, doctor, gpus, libraries
from spm_engines.gpu_support import SUPPORT, warnings_for
from spm_export import cli
from spm_rt.gpu.kernels import nvrtc


def test_versions_are_those_of_the_environment() -> None:
    found = {library.name: library.version for library in libraries()}
    assert found["numpy"] == importlib.metadata.version("numpy")
    assert found["tensorrt"] is None or found["tensorrt"] == importlib.metadata.version("tensorrt")


def test_every_missing_library_is_listed_without_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.metadata, "version", Mock(side_effect=importlib.metadata.PackageNotFoundError))
    assert {library.version for library in libraries()} == {None}


def test_gpus_are_read_from_the_driver_tool_and_one_that_fails_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "Tesla P100-PCIE-16GB, 6.0, 580.95\nNVIDIA H200, 9.0, 580.95\nsome warning\n"
    outcomes = [subprocess.CompletedProcess([], 0, answer, ""), subprocess.CalledProcessError(9, "nvidia-smi")]
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(doctor.subprocess, "run", Mock(side_effect=outcomes))
    assert gpus() == [Gpu("Tesla P100-PCIE-16GB", (6, 0), "580.95"), Gpu("NVIDIA H200", (9, 0), "580.95")]
    assert gpus() == []


@pytest.mark.parametrize(
    ("name", "capability", "expected"),
    [
        ("GTX 980", (5, 2), "too old"),
        ("P100", (6, 0), "onnxruntime-gpu 1.26"),
        ("GTX 1080", (6, 1), "onnxruntime-gpu 1.26"),
        ("V100", (7, 0), "TensorRT 10.4"),
        ("T4", (7, 5), "no bfloat16"),
        ("A100", (8, 0), "TensorRT 11"),
        ("RTX 3060", (8, 6), "TensorRT for RTX"),
        ("Orin", (8, 7), "JetPack"),
        ("RTX 4090", (8, 9), "TensorRT for RTX"),
        ("H100", (9, 0), "TensorRT 11"),
        ("B200", (10, 0), "TensorRT 10.16"),
        ("RTX 5090", (12, 0), "TensorRT 10.16"),
    ],
)
def test_each_generation_gets_its_advice(name: str, capability: tuple[int, int], expected: str) -> None:
    (line,) = advise([Gpu(name, capability, "580.1")])
    assert expected in line
    assert line.startswith(f"{name} (compute capability {capability[0]}.{capability[1]}, driver 580.1): ")


def test_the_table_is_in_order_and_its_precisions_are_what_cards_have() -> None:
    assert [r.lowest for r in SUPPORT] == sorted(r.lowest for r in SUPPORT)
    for r in SUPPORT:
        assert ("bfloat16" in r.precisions) == (r.lowest >= (8, 0))
        assert ("int8" in r.precisions) == (r.lowest >= (7, 5))


@pytest.mark.parametrize(
    ("capability", "versions", "expected"),
    [
        ((6, 0), {"tensorrt": "10.4.0"}, ["TensorRT 10.4.0 has no kernels for it that this project can use"]),
        ((6, 0), {"onnxruntime-gpu": "1.27.0"}, ["onnxruntime-gpu 1.27.0 has no kernels for it: pip install 'onnx"]),
        ((6, 0), {"onnxruntime-gpu": "1.26.0"}, []),
        ((7, 0), {"tensorrt": "10.5.0"}, ["TensorRT 10.5.0 does not serve it; 10.0 to 10.4 does"]),
        ((7, 0), {"tensorrt": "10.4.0.26"}, []),
        ((7, 5), {"tensorrt-rtx": "1.7"}, ["TensorRT for RTX: build with --compute-capability 7.5"]),
        ((9, 0), {"tensorrt": "11.4.0", "tensorrt-rtx": "1.7"}, ["TensorRT for RTX does not list it"]),
        ((12, 0), {"tensorrt": "10.3.0"}, ["TensorRT 10.3.0 does not serve it; 10.8 and later does"]),
        ((12, 0), {"tensorrt": "11.4.0", "tensorrt-rtx": "1.7", "onnxruntime-gpu": "1.31"}, []),
    ],
)
def test_what_is_installed_and_does_not_fit_is_named(
    capability: tuple[int, int], versions: dict[str, str], expected: list[str]
) -> None:
    found = warnings_for(Gpu("card", capability, "580.1"), versions)
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True))


def test_findings_name_what_cannot_be_loaded_and_what_the_card_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: object() if name == "tensorrt" else None)
    monkeypatch.setattr(doctor, "inspect_library", lambda name: InspectedLibrary(None, "libnvinfer.so.10 is missing"))
    monkeypatch.setattr(nvrtc, "candidates", list)
    found = doctor.findings([Gpu("T4", (7, 5), "580.1")], [])
    assert "tensorrt: installed, but it cannot be loaded: libnvinfer.so.10 is missing" in found
    assert "T4: float32, float16, int8 bundles" in found
    assert any("RoI plugin for TensorRT: none" in line for line in found)
    monkeypatch.setattr(doctor, "inspect_library", lambda name: InspectedLibrary("11.4.0", aot=True, builder=True))
    monkeypatch.setattr(nvrtc, "candidates", lambda: ["libnvrtc.so.12"])
    found = doctor.findings([Gpu("V100", (7, 0), "580.1")], [])
    assert "RoI plugin for TensorRT: found" in found
    assert "tensorrt 11.4.0: builds engines here; takes ahead-of-time plugins" in found
    assert "V100: TensorRT 11.4.0 does not serve it; 10.0 to 10.4 does" in found


def test_without_a_gpu_a_cpu_backend_is_advised() -> None:
    (line,) = advise([], "x86_64")
    assert "onnxruntime" in line
    assert "x86_64" in line


def test_doctor_prints_packages_and_advice(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for part in ("opencv-python-headless", "PyAV", "onnxruntime", "RoI plugin for TensorRT", "engines are kept in"):
        assert part in printed


def test_doctor_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    assert {"libraries", "gpus", "findings", "advice"} == json.loads(capsys.readouterr().out).keys()
