"""What the distributions hold: a small wheel to track with, without weights; the weights; sources that can be built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from ..support.layers import PACKAGES, ROOT

pytest.importorskip("build")
pytestmark = pytest.mark.heavy
WEIGHTS = "spm_alexnet.safetensors"
MOST_BYTES = 2_000_000
"""Of the wheel: the clip is half of it."""


def run(*command: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git has, weights included, to build in."""
    ignored = shutil.ignore_patterns(".*", "*.so", "*.egg-info", "__pycache__", "build", "dist", "results", "site")
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("distributions") / "checkout", ignore=ignored))


def build(kind: str, source: Path, out: Path) -> Path:
    # Without a C compiler, which is quicker and must work too.
    run(sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "-o", str(out), ".", folder=source, CC="false")
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    return build("wheel", checkout, checkout.parent / "wheel")


def test_the_wheel_has_every_module_and_no_weights(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {
        str(Path(package) / path.relative_to(folder))
        for package, folder in PACKAGES.items()
        if package != "tests"
        for pattern in ("*.py", "*.pyi", "py.typed", "*.cu", "*.h", "*.mp4", "*.html", "*.css", "*.js", "*.svg")
        for path in folder.rglob(pattern)
    }
    assert wanted - names == set()
    assert [name for name in names if name.endswith((".safetensors", ".pt", ".onnx"))] == []
    assert not {name for name in names if name.startswith(("tests/", "spm_weights/", "docs/"))}
    assert wheel.stat().st_size < MOST_BYTES


def test_what_is_installed_of_the_wheel_says_where_the_weights_are(wheel: Path, tmp_path: Path) -> None:
    """Unpacked it is what pip installs; no checkout is near."""
    pytest.importorskip("torch")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    command = [sys.executable, "-m", "spm_export.cli", "--out", "bundle"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("spm-export: the default weights are not installed")
    assert "pip install ./export/weights" in done.stderr
    assert not (tmp_path / "bundle").exists()


def test_the_weights_are_a_distribution_that_the_exporter_finds(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    weights = build("wheel", checkout / "export" / "weights", tmp_path / "wheel")
    for archive in (weights, wheel):
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(tmp_path / "site")
    code = "from spm_export.model.checkpoint import default_weights, load_model; load_model(); print(default_weights())"
    found = run(sys.executable, "-c", code, folder=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert Path(found.strip()) == tmp_path / "site" / "spm_weights" / WEIGHTS


def test_the_source_distribution_can_be_built_and_read(checkout: Path, tmp_path: Path) -> None:
    with tarfile.open(build("sdist", checkout, tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in (
        *("CHANGELOG.md", "CONTRIBUTING.md", "README.md", "LICENSE", "NOTICE", "setup.py", "pyproject.toml"),
        *("scripts/demo.sh", "scripts/environment.sh", "scripts/test.sh", "benchmarks/gpu_check.py", "docs/conf.py"),
        *("spm_rt/frame/_sampling.cpp", "spm_rt/gpu/kernels/frame.cu", "export/spm_export/data/bunny.mp4"),
        *("tests/test_borders.py", "findings/README.md"),
    ):
        assert wanted in names
    assert [name for name in names if name.endswith((".safetensors", ".so", ".pyc"))] == []


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "seen"), [("lenient", False), ("strict", True)])
def test_a_strict_editable_installation_is_seen_by_mypy(mode: str, seen: bool, checkout: Path, tmp_path: Path) -> None:
    """The other kind is found by an import hook, which type checkers do not run."""
    run(sys.executable, "-m", "venv", "env", folder=tmp_path)
    python = str(tmp_path / "env" / "bin" / "python")
    pip = (python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--ignore-installed")
    ours = sysconfig.get_path("purelib")  # setuptools of today; a new environment's may be old
    run(*pip, "--config-settings", f"editable_mode={mode}", "-e", ".", folder=checkout, PYTHONPATH=ours)
    (tmp_path / "use.py").write_text(
        "from spm_export.bundle import export_bundle\nimport spm_rt\nx: int = spm_rt.Tracker\n"
    )
    command = [sys.executable, "-m", "mypy", "--python-executable", python, "--no-incremental", "use.py"]
    told = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "", "MYPYPATH": ""}
    )
    assert ("Incompatible types" in told.stdout) is seen
    assert ("Cannot find implementation" in told.stdout) is not seen
