"""Compiling the kernels without a GPU, and the cache of what was compiled."""

from __future__ import annotations

import multiprocessing
import os
import re
from pathlib import Path

import pytest

from spm_rt.errors import BackendError
from spm_rt.gpu import kernels
from spm_rt.gpu.kernels import nvrtc
from spm_rt.store import VARIABLE

ENTRIES = {
    "roi": {"spm_roi_f32", "spm_roi_f16", "spm_roi_bf16"},
    "frame": {"spm_begin", "spm_frame_sum", "spm_crop_f32", "spm_crop_f16", "spm_crop_bf16", "spm_select", "spm_fuse"},
    "layers": {
        f"spm_{name}_{data}"
        for name in ("pool_norm", "activate", "decode", "decode_fine", "relate", "prepare")
        for data in ("f32", "f16", "bf16")
    },
}


@pytest.fixture(scope="module")
def library() -> nvrtc.Nvrtc:
    if not nvrtc.candidates():
        pytest.skip("NVRTC is not installed (nvidia-cuda-nvrtc-cu12)")
    found = nvrtc.find()
    if 60 not in found.architectures:
        pytest.skip(f"NVRTC {found.version} does not compile for compute capability 6.0: NVRTC 12 is needed")
    return found


# The text.


@pytest.mark.parametrize("unit", kernels.UNITS)
def test_the_text_includes_nothing_and_has_every_kernel(unit: str) -> None:
    text = kernels.source(unit)
    assert "#include" not in text
    assert "#pragma once" not in text
    for name in ENTRIES[unit]:
        assert re.search(rf"\b{name}\(|\b{name},", text)


def test_launches_are_those_that_the_text_counts_on() -> None:
    text = kernels.source("roi") + kernels.source("frame")
    for name in (
        "CROP_THREADS",
        "SUM_THREADS",
        "SELECT_THREADS",
        "MAX_ANCHORS",
        "MAX_CANDIDATES",
        "ROI_THREADS",
        "RIVALS",
    ):
        match = re.search(rf"\b{name} = (\d+)", text)
        assert match, name
        assert int(match[1]) == getattr(kernels, name)
    assert kernels.FUSE_THREADS == kernels.MAX_CANDIDATES
    assert f"ROI_BLOCK_CHANNELS = {kernels.ROI_BLOCK_CHANNELS}," in text
    assert kernels.roi_launch(9, 640).blocks == (9, 640 // 32, 1)
    assert [kernels.STATE.itemsize, kernels.SETTINGS.itemsize, kernels.RESULT.itemsize] == [128, 80, 184]
    assert kernels.crop_launch(271).blocks == (287, 1, 1)
    assert 287 * 256 >= 271 * 271 > 286 * 256


# The compiler.


@pytest.mark.parametrize("capability", [60, 75, 80, 90, 120])
def test_ptx_is_made_for_every_generation(capability: int, library: nvrtc.Nvrtc) -> None:
    for unit in kernels.UNITS:
        ptx = library.compile(kernels.source(unit), f"compute_{capability}").decode()
        assert f".target sm_{capability}" in ptx
        assert set(re.findall(r"\.entry (\w+)", ptx)) == ENTRIES[unit]


def test_nothing_is_contracted_and_nothing_approximate(library: nvrtc.Nvrtc) -> None:
    ptx = library.compile(kernels.source("roi"), "compute_75").decode()
    assert "div.rn.f32" in ptx
    for word in ("fma.", "mad.f32", "div.approx", "div.full", ".ftz"):
        assert word not in ptx


def test_machine_code_is_made_for_one_card(library: nvrtc.Nvrtc) -> None:
    code = library.compile(kernels.source("roi"), "sm_90")
    assert code[:4] == b"\x7fELF"
    assert b"spm_roi_f16" in code


def test_what_the_compiler_says_is_passed_on(library: nvrtc.Nvrtc) -> None:
    with pytest.raises(BackendError, match=r"cannot compile wrong\.cu for compute_75: wrong\.cu\(1\): error"):
        library.compile("__global__ void f() { nothing(); }", "compute_75", "wrong.cu")


def test_a_card_that_no_compiler_here_knows_is_named(library: nvrtc.Nvrtc) -> None:
    with pytest.raises(BackendError, match=r"compute capability 35 \(there are: 12\.\d+ for 50 to 12"):
        nvrtc.find(35)


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "candidates", list)
    with pytest.raises(BackendError, match="`pip install nvidia-cuda-nvrtc-cu12`"):
        nvrtc.find(75)


def test_a_file_that_is_no_compiler_is_named(tmp_path: Path) -> None:
    path = tmp_path / "libnvrtc.so.12"
    path.write_bytes(b"no library")
    with pytest.raises(BackendError, match=r"libnvrtc\.so\.12: cannot be loaded as NVRTC"):
        nvrtc.Nvrtc(str(path))


@pytest.mark.parametrize("architecture", ["sm75", "7.5", "sm_", "compute_7x"])
def test_misspelt_architectures_are_refused(architecture: str) -> None:
    with pytest.raises(BackendError, match="not of the form sm_75"):
        nvrtc.capability_of(architecture)


# The cache.


class Counting:
    """An NVRTC that makes something small and counts."""

    _words = "12.9"

    def __init__(self) -> None:
        self.made = 0

    def compile(self, text: str, architecture: str, name: str) -> bytes:
        self.made += 1
        return f"{architecture} {name} {len(text)}".encode()


def compiled(library: Counting, unit: str = "roi", architecture: str = "sm_90") -> bytes:
    return nvrtc.compiled(unit, architecture, library=library)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "deep" / "folder"))
    return tmp_path / "deep" / "folder" / "kernels"


def test_another_card_unit_compiler_or_source_is_compiled_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Counting()
    compiled(library)
    compiled(library, architecture="sm_80")
    compiled(library, unit="frame")
    assert library.made == 3
    library._words = "12.8"
    compiled(library)
    assert library.made == 4
    monkeypatch.setattr(nvrtc, "source", lambda unit: "other text")
    compiled(library)
    assert library.made == 5
    assert len(list(folder.iterdir())) == 5


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners on this system")
@pytest.mark.parametrize("what", ["file", "folder", "owner"])
def test_code_that_others_may_have_written_is_compiled_anew(what: str, folder: Path) -> None:
    old_mask = os.umask(0o002)
    library = Counting()
    first = compiled(library)
    os.umask(old_mask)
    assert compiled(library) == first
    assert library.made == 1
    (path,) = folder.glob("*/code.bin")
    if what == "owner":
        if os.geteuid():
            pytest.skip("only root can give files away")
        os.chown(path, 12345, -1)
    else:
        (path if what == "file" else path.parent).chmod(0o777)
    assert compiled(library) == first
    assert library.made == 2


@pytest.mark.parametrize("cache", ["off", "blocked"])
def test_where_nothing_can_be_kept_it_is_done_without(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(VARIABLE, cache if cache == "off" else str(tmp_path / "file" / "folder"))
    library = Counting()
    assert compiled(library) == compiled(library)
    assert library.made == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def _compile_many(folder: Path) -> None:
    for _ in range(20):
        compiled(Counting())
        for path in folder.glob("*/code.bin"):
            path.unlink(missing_ok=True)


def test_processes_that_write_at_once_leave_whole_files(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_compile_many, args=(folder,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert list(folder.glob(".spm_part.*")) == []
