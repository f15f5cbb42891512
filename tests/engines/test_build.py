"""Cached engines: built once, found again, and never damaged, whatever happens to the process that writes."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from spm_engines import build
from spm_engines import store as cache
from spm_engines.build import Built, build_engine, build_engines, stages_for
from spm_engines.toolchain import BuildOptions, Toolchain
from spm_rt import Bundle, EngineError
from spm_rt.cache.engine_facts import EngineTensor
from spm_rt.cache.engines import find_engine, read_engine, read_facts

from ..support.fakes.bundle import hollow_bundle

OPTIONS = BuildOptions("tensorrt")
TOOLS = Toolchain(None, "tensorrt", "10.16.1.11", "sm_86", "NVIDIA A10")
IO = (EngineTensor("crop", "input", "float32", (1, 3, 271, 271)),)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
BuildSearch = Callable[..., Built]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return hollow_bundle(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return cache.prepare_folder(tmp_path / "engines")


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the compiler; the file has one line for each time it was called, by whichever process."""
    calls = tmp_path / "calls"
    calls.touch()

    def compile_slowly(
        bundle: Bundle, stage: str, targets: int, options: BuildOptions, tools: Toolchain, timing: Path
    ) -> tuple[bytes, tuple[EngineTensor, ...]]:
        time.sleep(0.05)
        with calls.open("a") as stream:
            stream.write(f"{stage} {targets} {tools.target} {tools.version}\n")
        return f"{stage} {targets} {tools}".encode() * 1000, IO

    monkeypatch.setattr(build, "build_plan", compile_slowly)
    monkeypatch.setattr(build, "open_toolchain", lambda options, precision: TOOLS)
    return calls


@pytest.fixture
def build_search(bundle: Bundle, folder: Path, built: Path) -> BuildSearch:
    """The engine of the search graph, by default with the tools of this file."""
    return lambda tools=TOOLS, **more: build_engine(bundle, "search", 1, OPTIONS, tools, folder, **more)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_a_miss_builds_and_a_hit_does_not(bundle: Bundle, folder: Path, built: Path) -> None:
    steps: list[str] = []
    first = build_engines(bundle, OPTIONS, folder=folder, step=steps.append)
    assert [(b.facts.stage, b.facts.targets, b.state) for b in first] == [
        (stage, targets, "built") for targets in (1, 4) for stage in stages_for(targets)
    ]
    assert len(steps) == len(lines(built)) == 5
    again = build_engines(bundle, OPTIONS, (4,), folder)
    assert [(b.state, b.path, b.facts) for b in again] == [("cached", b.path, b.facts) for b in first[3:]]
    assert len(lines(built)) == 5


@pytest.mark.parametrize(
    ("library", "target", "ending"),
    [
        ("tensorrt_rtx", "sm_75", "--engine tensorrt-rtx --targets 1 --compute-capability 7.5"),
        ("tensorrt_rtx", "sm_86", "--engine tensorrt-rtx --targets 1"),
        ("tensorrt", "sm_75", "--engine tensorrt --targets 1"),
    ],
)
def test_a_missing_engine_is_asked_for_in_words_that_build_it(
    library: str, target: str, ending: str, bundle: Bundle, folder: Path
) -> None:
    """A card below 8.0 has to be named to TensorRT for RTX."""
    with pytest.raises(EngineError, match=f"spm-export BUNDLE {re.escape(ending)}$"):
        find_engine(folder, bundle, "search", library=library, version="1.7", target=target)


def test_what_is_stored_is_what_the_runtime_reads(bundle: Bundle, folder: Path, built: Path) -> None:
    for one in build_engines(bundle, OPTIONS, (1,), folder):
        plan = read_engine(one.path, one.facts)
        assert plan.startswith(f"{one.facts.stage} 1".encode())
        assert read_facts(one.path) == one.facts
        assert one.facts.tensors == IO
        assert one.path.stat().st_mode & 0o777 == one.path.with_suffix(".json").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("options", "tools"),
    [
        ({"tf32": True}, {}),
        ({"workspace": 1 << 20}, {}),
        ({"version_compatible": True}, {}),
        ({"proposals": 16}, {}),
        ({}, {"version": "10.16.1.12"}),
        ({}, {"target": "sm_89"}),
        ({}, {"gpu": "NVIDIA RTX A6000"}),
        ({}, {"plugin_sha256": "a" * 64}),
    ],
)
def test_whatever_else_is_asked_for_is_a_miss(
    options: dict[str, Any], tools: dict[str, Any], bundle: Bundle, folder: Path, built: Path
) -> None:
    usual = (bundle, "relation", 1, OPTIONS, TOOLS, folder)
    before = build_engine(*usual)
    other = (dataclasses.replace(OPTIONS, **options), dataclasses.replace(TOOLS, **tools))
    after = build_engine(*usual[:3], *other, folder)
    assert after.state == "built"
    assert after.path != before.path
    assert build_engine(*usual).state == "cached"


def test_another_export_of_the_bundle_is_a_miss(bundle: Bundle, build_search: BuildSearch) -> None:
    build_search()
    bundle.manifest["files"]["weights.safetensors"]["sha256"] = "other weights"
    (note,) = build_search().notes
    assert "built from another bundle" in note


def test_a_foreign_engine_is_named_and_another_one_built_or_none_where_that_is_asked_for(
    build_search: BuildSearch, built: Path
) -> None:
    build_search()
    with pytest.raises(EngineError, match=r"nothing was built:\n.*built for sm_86 .* 10\.16\.1\.11; this is"):
        build_search(dataclasses.replace(TOOLS, version="11.4.0.106"), refuse_stale=True)
    assert len(lines(built)) == 1
    (note,) = build_search(Toolchain(None, "tensorrt", "11.4.0.106", "sm_90", "NVIDIA H100")).notes
    assert note.endswith(
        "built for sm_86 (NVIDIA A10) with tensorrt 10.16.1.11; this is sm_90 (NVIDIA H100) with tensorrt 11.4.0.106"
    )


@pytest.mark.parametrize("which", [".plan", ".json"])
def test_a_flipped_byte_is_refused_by_readers_and_mended_by_the_builder(which: str, build_search: BuildSearch) -> None:
    one = build_search()
    file = one.path.with_suffix(which)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(EngineError):
        read_engine(one.path, one.facts)
    with pytest.raises(EngineError, match="nothing was built"):
        build_search(refuse_stale=True)
    mended = build_search()
    assert (mended.state, mended.facts, len(mended.notes)) == ("rebuilt", one.facts, 1)
    read_engine(one.path, one.facts)


def _build_into(queue: Any, build_search: BuildSearch) -> None:
    built = build_search()
    queue.put((built.state, len(read_engine(built.path, built.facts))))


@needs_fork
def test_sixteen_processes_at_once_build_once(build_search: BuildSearch, built: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    processes = [context.Process(target=_build_into, args=(queue, build_search)) for _ in range(16)]
    for process in processes:
        process.start()
    answers = [queue.get() for _ in processes]
    for process in processes:
        process.join(60)
    assert sorted(state for state, _ in answers) == ["built"] + ["cached"] * 15
    assert len({size for _, size in answers}) == 1
    assert len(lines(built)) == 1


@needs_fork
@pytest.mark.parametrize("write", [1, 2])
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_kill_9_while_writing_leaves_no_damaged_file(
    write: int, moment: str, build_search: BuildSearch, folder: Path
) -> None:
    """The plan is written first, then its sidecar: die in the first write or in the second, before its rename."""
    calls, original = itertools.count(1), getattr(os, moment)

    def dies(*arguments: Any) -> Any:
        if next(calls) == write:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    child = os.fork()
    if child == 0:
        setattr(cache.os, moment, dies)
        build_search()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert [path.suffix for path in folder.iterdir() if path.suffix == ".json"] == []
    assert len(list(folder.glob(".*.tmp"))) == 1
    again = build_search()
    assert again.state == "built"
    read_engine(again.path, again.facts)
    assert list(folder.glob(".*.tmp")) == []


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("spm_rt.files.os.replace", OSError(errno.ENOSPC, "No space left on device")),
        ("spm_rt.files.os.fsync", OSError(errno.ENOSPC, "No space left on device")),
        ("spm_rt.files._part", OSError(errno.ENOSPC, "No space left on device")),
        ("spm_engines.build.build_plan", EngineError("cannot build it")),
    ],
)
def test_a_full_disk_or_a_compiler_that_fails_is_an_error_and_leaves_nothing(
    what: str, error: Exception, build_search: BuildSearch, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(what, Mock(side_effect=error))
        with pytest.raises(EngineError, match=error.args[-1]):
            build_search()
    assert {path.suffix for path in folder.iterdir()} == {".lock"}
    assert build_search().state == "built"


def test_a_folder_of_others_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    with pytest.raises(EngineError, match="can be written to by others"):
        cache.prepare_folder(tmp_path / "shared")
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match="no folder to keep engines in"):
        cache.prepare_folder(tmp_path / "file" / "below")


def test_graphs_that_the_bundle_lacks_are_named(bundle: Bundle, folder: Path, built: Path) -> None:
    with pytest.raises(Exception, match="no graphs for 8 targets"):
        build_engines(bundle, OPTIONS, (8,), folder)


def test_the_sidecar_is_json_that_tells_all(bundle: Bundle, folder: Path, built: Path) -> None:
    one = build_engine(bundle, "relation", 4, OPTIONS, TOOLS, folder)
    found = json.loads(one.path.with_suffix(".json").read_bytes())
    assert (
        found
        | {
            **{"library": "tensorrt", "version": "10.16.1.11", "target": "sm_86", "gpu": "NVIDIA A10"},
            **{"precision": "float32", "targets": 4, "proposals": 9, "graph_sha256": "sha of relation_4_portable.onnx"},
            "tensors": [{"name": "crop", "mode": "input", "dtype": "float32", "shape": [1, 3, 271, 271]}],
        }
        == found
    )
    assert len(found["plan_sha256"]) == 64
