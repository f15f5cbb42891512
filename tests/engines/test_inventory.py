"""What is installed, and the advice that follows from the GPUs."""

from __future__ import annotations

import importlib.metadata
import subprocess

import pytest

from spm_engines import Gpu, advise, gpus, inventory, libraries
from spm_export import cli


def test_versions_are_those_of_the_environment() -> None:
    found = {library.name: library.version for library in libraries()}
    assert found["numpy"] == importlib.metadata.version("numpy")
    assert found["tensorrt"] is None or found["tensorrt"] == importlib.metadata.version("tensorrt")


def test_every_missing_library_is_listed_without_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(inventory.importlib.metadata, "version", missing)
    assert {library.version for library in libraries()} == {None}


def test_gpus_are_read_from_the_driver_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "Tesla P100-PCIE-16GB, 6.0, 580.95\nNVIDIA H200, 9.0, 580.95\nsome warning\n"
    monkeypatch.setattr(inventory.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(inventory.subprocess, "run",
                        lambda *args, **kwargs: subprocess.CompletedProcess(args, 0, stdout=answer, stderr=""))
    assert gpus() == [Gpu("Tesla P100-PCIE-16GB", (6, 0), "580.95"), Gpu("NVIDIA H200", (9, 0), "580.95")]


def test_a_driver_tool_that_fails_means_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise subprocess.CalledProcessError(9, "nvidia-smi")

    monkeypatch.setattr(inventory.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(inventory.subprocess, "run", fail)
    assert gpus() == []


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((5, 2), "too old"), ((6, 0), "onnxruntime-gpu 1.26"), ((7, 0), "TensorRT 10.4"), ((7, 5), "no bfloat16"),
     ((8, 6), "TensorRT for RTX"), ((12, 0), "TensorRT 10.16")],
)
def test_each_generation_gets_its_road(capability: tuple[int, int], expected: str) -> None:
    (line,) = advise([Gpu("card", capability, "580.1")])
    assert expected in line


def test_without_a_gpu_a_cpu_backend_is_advised() -> None:
    (line,) = advise([], "x86_64")
    assert "onnxruntime" in line
    assert "x86_64" in line


def test_doctor_prints_packages_and_advice(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "opencv-python-headless" in printed
    assert "onnxruntime" in printed
