"""Engines are loaded only when they are this user's own, whole, and made for what is here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spm_rt import Bundle, EngineError, TrackerSettings
from spm_rt.cache.engine_facts import (
    RESULTS,
    TUNING,
    EngineFacts,
    EngineTensor,
    compute_capability,
    differences,
    engine_facts,
    engine_key,
    this_platform,
)
from spm_rt.cache.engines import engine_path, find_engine, read_engine, read_facts, seal_facts
from spm_rt.files import seal_manifest

from ...support.fakes.bundle import hollow_bundle

PLAN = bytes(range(256)) * 20
FACTS = EngineFacts(
    "search",
    4,
    0,
    "float16",
    "portable",
    "a" * 64,
    "b" * 64,
    "tensorrt",
    "10.8.0.43",
    "sm_86",
    "NVIDIA A10",
    "linux_x86_64",
)
IO = (
    EngineTensor("crop", "input", "float32", (4, 3, 271, 271)),
    EngineTensor("scores", "output", "float32", (4, 1805)),
)


def store(folder: Path, facts: EngineFacts, plan: bytes = PLAN) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    path = engine_path(folder, facts)
    path.write_bytes(plan)
    path.chmod(0o600)
    done = dataclasses.replace(facts, tensors=IO, plan_sha256=hashlib.sha256(plan).hexdigest(), plan_bytes=len(plan))
    rewrite(path.with_suffix(".json"), seal_facts(done))
    return path


def rewrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "engines"


def change(**fields: Any) -> EngineFacts:
    return dataclasses.replace(FACTS, **fields)


def changed(name: str) -> EngineFacts:
    """With another value of one field."""
    others: dict[str, Any] = {"targets": 5, "proposals": 9, "tf32": True, "version_compatible": True, "workspace": 1}
    return change(**{name: others.get(name, "another")})


def test_what_was_stored_is_read(folder: Path) -> None:
    path = store(folder, FACTS)
    assert read_engine(path, FACTS) == PLAN
    facts = read_facts(path)
    assert facts.tensors == IO
    assert dataclasses.replace(facts, tensors=(), plan_sha256="", plan_bytes=0) == FACTS


def test_every_wish_has_its_own_key_and_results_have_none() -> None:
    names = {field.name for field in dataclasses.fields(EngineFacts)} - set(RESULTS)
    keys = {engine_key(changed(name)) for name in names}
    assert len(keys | {engine_key(FACTS)}) == len(names) + 1
    assert engine_key(change(tensors=IO, plan_sha256="c", plan_bytes=3)) == engine_key(FACTS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target": "sm_90", "gpu": "NVIDIA H100", "version": "11.4.0.106"},
         r"built for sm_86 \(NVIDIA A10\) with tensorrt 10\.8\.0\.43; this is sm_90 \(NVIDIA H100\) with"),
        ({"gpu": "NVIDIA RTX A6000"}, r"this is sm_86 \(NVIDIA RTX A6000\)"),
        ({"version": "10.8.0.44"}, r"with tensorrt 10\.8\.0\.43; this is .* 10\.8\.0\.44"),
        ({"library": "tensorrt_rtx"}, "this is sm_86 .* with tensorrt_rtx"),
        ({"platform": "windows_amd64"}, "built on linux_x86_64; this is windows_amd64"),
        ({"graph_sha256": "c" * 64}, "built from another bundle"),
        ({"weights_sha256": "c" * 64}, "built from another bundle"),
        ({"plugin_sha256": "d" * 64}, "built with no plugin instead of plugin dddddddddddd"),
        ({"stage": "relation"}, "stage is search instead of relation"),
        ({"targets": 1}, "targets is 4 instead of 1"),
        ({"proposals": 9}, "proposals is 0 instead of 9"),
        ({"precision": "float32"}, "precision is float16 instead of float32"),
    ],
)  # fmt: skip
def test_what_differs_is_named(fields: dict[str, Any], message: str, folder: Path) -> None:
    path = store(folder, FACTS)
    with pytest.raises(EngineError, match=message) as caught:
        read_engine(path, change(**fields))
    assert "spm-export BUNDLE --engine" in str(caught.value)


def test_every_wish_is_either_judged_or_named_as_tuning() -> None:
    for field in dataclasses.fields(EngineFacts):
        differs = bool(differences(FACTS, changed(field.name)))
        assert differs == (field.name not in (*TUNING, *RESULTS)), field.name


@pytest.mark.parametrize(
    ("built", "here", "runs"),
    [
        ("sm_86", "sm_86", True),
        ("sm_86", "sm_89", False),
        ("sm_86+sm_120", "sm_120", True),
        ("sm_86+sm_120", "sm_89", False),
        ("portable", "sm_80", True),
        ("portable", "sm_120", True),
        ("portable", "sm_75", False),
        ("ampere_plus", "sm_90", True),
        ("ampere_plus", "sm_70", False),
        ("sm_90", "portable", False),
    ],
)
def test_where_a_plan_runs(built: str, here: str, runs: bool) -> None:
    assert (differences(change(target=built, gpu=""), change(target=here)) == []) is runs


@pytest.mark.parametrize(
    ("built", "here", "loads"),
    [("10.8.0.43", "10.8.0.43", True), ("10.8.0.43", "10.13.3.9", True), ("10.8.0.43", "10.3.0.26", False),
     ("10.8.0.43", "11.4.0.106", False)],
)  # fmt: skip
def test_a_version_compatible_plan_is_loaded_by_later_versions_of_its_major(built: str, here: str, loads: bool) -> None:
    facts = change(version=built, version_compatible=True)
    assert (differences(facts, change(version=here)) == []) is loads


def test_any_flipped_byte_is_refused(folder: Path) -> None:
    path = store(folder, FACTS)
    for file in (path, path.with_suffix(".json")):
        good = file.read_bytes()
        for place in range(0, len(good), 7):
            rewrite(file, good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            with pytest.raises(EngineError):
                read_engine(path, FACTS)
        rewrite(file, good)
    assert read_engine(path, FACTS) == PLAN


def sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


MADE_SENSELESS = [
    ("cut short", b""),
    ("cut short or of another make", b"[]"),
    ("cut short", b"[" * 100_000),
    ("cut short", b"\xff\xfe"),
    ("this version of spm_rt reads", seal_manifest({"format": "something"})),
    ("version 2; this version", seal_manifest({"format": "spm_rt engine", "format_version": 2})),
    ("tensors", seal_manifest({"format": "spm_rt engine", "format_version": 1})),
]
DAMAGES: list[tuple[str, Callable[[Path], object]]] = [
    *(
        ("not the plan that was built", lambda path, plan=plan: rewrite(path, plan))
        for plan in (b"", PLAN[:-1], PLAN + b"x")
    ),
    *((message, lambda path, content=content: rewrite(sidecar(path), content)) for message, content in MADE_SENSELESS),
    (r"\.plan: no such engine", lambda path: path.unlink()),
    (r"\.json: no such engine", lambda path: (path.unlink(), sidecar(path).unlink())),
    ("no such engine", lambda path: shutil.rmtree(path.parent)),
]
DISTRUSTED: list[tuple[str, Callable[[Path], object]]] = [
    ("can be written to by others", lambda path: path.chmod(0o722)),
    ("can be written to by others", lambda path: sidecar(path).chmod(0o722)),
    ("can be written to by others", lambda path: path.parent.chmod(0o722)),
    ("loaded only from plain files", lambda path: path.symlink_to(path.rename(path.with_name("elsewhere")))),
]
on_posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners and no plain links on this system")


@pytest.mark.parametrize(("message", "damage"), [*DAMAGES, *(pytest.param(*one, marks=on_posix) for one in DISTRUSTED)])
def test_what_is_missing_damaged_or_not_the_users_own_is_refused(
    message: str, damage: Callable[[Path], object], folder: Path
) -> None:
    path = store(folder, FACTS)
    damage(path)
    with pytest.raises(EngineError, match=message):
        read_engine(path, FACTS)


@on_posix
def test_what_belongs_to_somebody_else_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store(folder, FACTS)
    if os.geteuid() == 0:  # make it somebody else's
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(EngineError, match="belongs to another user"):
        read_engine(path, FACTS)


# The engine that is loaded, of those that were built.

HERE = {"library": "tensorrt", "version": "10.8.0.43", "target": "sm_86", "gpu": "NVIDIA A10"}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return hollow_bundle(tmp_path, "float16")


def test_the_engine_made_for_this_card_is_preferred(bundle: Bundle, folder: Path) -> None:
    here = {**HERE, "library": "tensorrt_rtx", "version": "1.7.1.116", "gpu": ""}
    with pytest.raises(EngineError, match="no engine of search for 4 target"):
        find_engine(folder, bundle, "search", targets=4, **here)
    for target in ("sm_120", "portable", "sm_80+sm_86", "sm_86"):
        expected = store(folder, engine_facts(bundle, "search", targets=4, **{**here, "target": target}))
        if target != "sm_120":
            assert find_engine(folder, bundle, "search", targets=4, **here)[0] == expected
    other = find_engine(folder, bundle, "search", targets=4, **{**here, "target": "sm_89"})[0]
    assert other.name.startswith("search_t4_float16_portable_")


def test_of_several_engines_the_exact_one_for_fewest_proposals_is_preferred(bundle: Bundle, folder: Path) -> None:
    """Each of these is preferred to all before it."""
    order: list[dict[str, Any]] = [
        {"tf32": True, "proposals": 12},
        {"proposals": 64},
        {"proposals": 16},
        {"proposals": 9},
        {"proposals": 12, "plugin_sha256": "ab" * 32},
    ]
    store(folder, engine_facts(bundle, "relation", proposals=8, **HERE))
    with pytest.raises(EngineError, match=r"proposals is 8 instead of 9(.|\n)*"):
        find_engine(folder, bundle, "relation", **HERE)
    for made in order:
        path = store(folder, engine_facts(bundle, "relation", **HERE, **made))
        assert find_engine(folder, bundle, "relation", **HERE) == (path, read_facts(path))
        assert read_engine(path, read_facts(path)) == PLAN


def test_engines_have_room_for_the_proposals_that_are_asked_for(bundle: Bundle, folder: Path) -> None:
    made = {count: store(folder, engine_facts(bundle, "relation", proposals=count, **HERE)) for count in (9, 16)}
    for count, proposals in ((1, 9), (9, 9), (10, 16), (16, 16)):
        asked = Bundle.of(bundle, TrackerSettings(num_candidates=count))
        assert find_engine(folder, asked, "relation", **HERE)[0] == made[proposals]
    with pytest.raises(EngineError, match="spm-export BUNDLE --engine tensorrt --targets 1 --proposals 17"):
        find_engine(folder, Bundle.of(bundle, TrackerSettings(num_candidates=17)), "relation", **HERE)


@pytest.mark.parametrize("version", ["10.3.0.26", "10.8.0.43"])
def test_engines_are_made_of_the_form_that_the_version_reads(version: str, bundle: Bundle, folder: Path) -> None:
    """The later version loads what the earlier one built to be compatible with it, from another form of the graph."""
    built = engine_facts(bundle, "relation", **{**HERE, "version": version}, version_compatible=True)
    assert built.variant == {"10.3.0.26": "flat", "10.8.0.43": "portable"}[version]
    path = store(folder, built)
    assert find_engine(folder, bundle, "relation", **HERE)[0] == path


def test_what_does_not_fit_is_listed_and_damaged_ones_are_passed_over(bundle: Bundle, folder: Path) -> None:
    path = store(folder, engine_facts(bundle, "search", **HERE))
    broken = store(folder, engine_facts(bundle, "search", **{**HERE, "target": "sm_90"}))
    rewrite(broken.with_suffix(".json"), b"{")
    there = {**HERE, "target": "sm_90", "gpu": "NVIDIA H100", "version": "11.4.0.106"}
    with pytest.raises(EngineError) as caught:
        find_engine(folder, bundle, "search", **there)
    message = str(caught.value)
    assert f"{path.name}: built for sm_86 (NVIDIA A10) with tensorrt 10.8.0.43" in message
    assert broken.name not in message


@pytest.mark.parametrize(
    ("target", "expected"),
    [("sm_86", (8, 6)), ("sm_120", (12, 0)), ("portable", None), ("sm_", None), ("sm_8", None), ("sm_86+sm_89", None)],
)
def test_targets_as_compute_capabilities(target: str, expected: tuple[int, int] | None) -> None:
    assert compute_capability(target) == expected


def test_facts_come_from_the_bundle(tmp_path: Path) -> None:
    bundle = Bundle.of(hollow_bundle(tmp_path), TrackerSettings(num_candidates=7))
    template = engine_facts(bundle, "template", **HERE, variant="flat")
    assert template.graph_sha256 == "sha of template_1_flat.onnx"
    search = engine_facts(bundle, "search", **HERE, variant="flat")  # which has no function: the portable graph is flat
    assert (search.graph_sha256, search.variant) == ("sha of search_1_portable.onnx", "flat")
    assert (search.weights_sha256, search.proposals) == ("sha of weights.safetensors", 0)
    relation = engine_facts(bundle, "relation", **HERE)
    assert relation.graph_sha256 == "sha of relation_1_portable.onnx"
    assert (relation.proposals, relation.variant) == (7, "portable")
    assert engine_facts(bundle, "relation", proposals=3, **HERE).proposals == 3
    assert relation.platform == this_platform()
    assert json.loads(seal_facts(relation))["library"] == "tensorrt"
