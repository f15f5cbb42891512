"""Writing bundles: nothing but verified ones, whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

import spm_export.bundle as exporter
import spm_export.proof.verification as verification
from spm_export.bundle import VERIFICATION, ExportOptions, export_bundle, export_steps
from spm_export.cli import DEMO_BOX
from spm_export.graphs.forms import BUILDERS
from spm_export.model.network import SPMTracker
from spm_export.proof.compare import SAMPLES, TensorCheck, TrackCheck, check_tensors, sample_inputs
from spm_export.proof.verification import Verification
from spm_rt import Bundle, ExportError, ModelSpec, TrackerSettings
from spm_rt.bundle import FORMS, MANIFEST, STAGES
from spm_rt.bundle.contract import contract
from spm_rt.bundle.forms import graphs_of
from spm_rt.bundle.self_test import OUTPUTS
from spm_rt.models import MODELS

from ..support.disk import full_disk
from ..support.exports import UNVERIFIED, Frames, alter_weight, copy_graphs, verify_quickly

Export = Callable[..., Verification]
Patch = pytest.MonkeyPatch


@pytest.fixture
def quick(monkeypatch: Patch) -> None:
    """Verify on one input only, and only the graphs that matter most."""
    verify_quickly(monkeypatch, slice(1), ("portable", "fast_expanded"))


@pytest.fixture
def export(quick: None, synthetic_model: SPMTracker, clip: Frames) -> Export:
    def run(
        out: Path, options: ExportOptions | None = None, step: Callable[[str], None] = lambda _: None
    ) -> Verification:
        return export_bundle(synthetic_model, out, options or ExportOptions(), clip[:2], DEMO_BOX, "clip", step)

    return run


@pytest.fixture
def copied(monkeypatch: Patch, synthetic_bundle: Path) -> None:
    """What is exported has the graphs that a bundle of the same weights has already."""
    monkeypatch.setattr(exporter, "_write_graphs", lambda _, folder, *__: copy_graphs(synthetic_bundle, folder))


@pytest.fixture
def written(monkeypatch: Patch, copied: None) -> None:
    """The same, and it passes."""
    monkeypatch.setattr(exporter, "verify", lambda *_: UNVERIFIED)


@pytest.fixture
def older(tmp_path: Path, default_bundle: Path) -> Iterator[Path]:
    """A place with a bundle of other weights; at the end, it must be as it was, and nothing beside it."""
    place = tmp_path / "place"
    place.mkdir()
    shutil.copytree(default_bundle, place / "bundle")
    before = contents(place)
    yield place / "bundle"
    assert contents(place) == before
    Bundle.open(place / "bundle")


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# What is written.


def test_a_bundle_replaces_an_older_one_and_is_the_same_every_time(
    export: Export, tmp_path: Path, default_bundle: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(default_bundle, second)
    for out in (first, second):
        assert export(out).passed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]
    assert [path.name for path in sorted(first.iterdir())] == [path.name for path in sorted(second.iterdir())]
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_steps_are_as_many_as_foretold(
    quick: None, monkeypatch: Patch, synthetic_model: SPMTracker, clip: Frames, tmp_path: Path
) -> None:
    steps: list[str] = []
    # As many inputs as there are, but always the same small one.
    monkeypatch.setattr(verification, "check_tensors", lambda *_, step: [step() for _ in range(SAMPLES)] and [])
    options = ExportOptions(targets=(1, 3), settings=TrackerSettings(mode="coarse"), source="somewhere")
    export_bundle(synthetic_model, tmp_path / "b", options, clip[:3], DEMO_BOX, "clip", steps.append)
    assert len(steps) == export_steps(options, 3)
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.targets == (1, 3)
    assert bundle.settings == options.settings
    assert bundle.manifest["checkpoint"]["source"] == "somewhere"


def test_the_manifest_says_what_it_was_made_of(synthetic_bundle: Path) -> None:
    manifest = Bundle.open(synthetic_bundle).manifest
    assert manifest["opset"] == 17
    assert manifest["precision"] == "float32"
    assert len(manifest["checkpoint"]["sha256"]) == 64
    assert {"spm_rt", "torch", "onnx", "onnx-ir", "onnxruntime", "numpy", "safetensors"} <= manifest["tools"].keys()


def test_the_verification_is_in_the_bundle(either_bundle: Path) -> None:
    found = json.loads((either_bundle / VERIFICATION).read_text())
    assert found["passed"] is True
    seen = {(check["variant"], check["stage"], check["tensor"]) for check in found["tensors"]}
    assert {variant for variant, _, _ in seen} == {*FORMS, *(f"{v}, 2 targets" for v in FORMS), "self_test"}
    assert {stage for _, stage, _ in seen} == set(STAGES)
    outputs = {stage: len(sides["outputs"]) for stage, sides in contract(ModelSpec(), 1).items()}
    assert len(seen) == 2 * sum(outputs[stage] for stage, _ in graphs_of("float32")) + len(OUTPUTS)
    assert all(0 <= check["mean"] <= check["worst"] <= check["tolerance"] for check in found["tensors"])
    assert found["track"]["mean_iou"] > 0.999


def test_only_a_light_bundle_says_what_is_not_the_releases(either_bundle: Path) -> None:
    bundle = Bundle.open(either_bundle)
    told = bundle.manifest["model"]
    assert ("first_cell" in told) == (bundle.spec != ModelSpec())
    assert bundle.spec in MODELS.values()


def test_files_are_readable_by_everybody(synthetic_bundle: Path) -> None:
    assert synthetic_bundle.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in synthetic_bundle.iterdir()} == {0o644}


# The verification.


@pytest.mark.parametrize(
    ("name", "by", "message"),
    [
        ("conv4.bias", 0.01, r"nothing was written:(.|\n)*portable search\.deep: worst relative error"),
        ("linear2.bias", np.nan, r"relation\.scores: worst absolute error inf"),
    ],
)
def test_altered_weights_are_refused(
    name: str, by: float, message: str, export: Export, older: Path, monkeypatch: Patch
) -> None:
    alter_weight(monkeypatch, name, by)
    with pytest.raises(ExportError, match=message):
        export(older)


def test_one_altered_graph_of_one_variant_is_refused(export: Export, tmp_path: Path, monkeypatch: Patch) -> None:
    build = BUILDERS["relation", "portable"]
    other = ModelSpec(fine_weights=(5.0, 5.0, 10.0, 9.0))

    def altered(weights: Any, options: Any, *rest: Any) -> Any:
        return build(weights, dataclasses.replace(options, spec=other), *rest)

    monkeypatch.setitem(BUILDERS, ("relation", "portable"), altered)
    with pytest.raises(ExportError) as caught:
        export(tmp_path / "bundle")
    assert "portable relation.boxes: worst absolute error" in str(caught.value)
    assert "search." not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


FAR = TrackCheck("clip", 2, 0.9, 0.5, 0.5, 3.0, 9.0, 0.8)


def test_boxes_that_differ_are_refused(copied: None, export: Export, older: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(verification, "check_tensors", lambda *_, **__: [])
    monkeypatch.setattr(verification, "check_tracks", lambda *_: FAR)
    with pytest.raises(ExportError, match=r"mean IoU 0\.90000 \(0\.999 allowed\), lowest 0\.50000, 50\.0% of frames"):
        export(older)


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        ({}, True),
        ({"mean_iou": 0.9989}, False),
        ({"close_share": 0.98}, False),
        ({"min_iou": 0.1}, True),
        ({"free_iou": 0.0}, True),
        ({"mean_iou": float("nan")}, False),
    ],
)
def test_what_a_track_must_reach(change: dict[str, float], passed: bool) -> None:
    good = TrackCheck("clip", 100, 0.99999, 0.995, 1.0, 0.001, 0.01, 0.99)
    assert dataclasses.replace(good, **change).passed is passed


@pytest.mark.parametrize(
    ("worst", "passed"), [(0.0, True), (1e-4, True), (1.1e-4, False), (float("inf"), False), (float("nan"), False)]
)
def test_what_a_tensor_must_reach(worst: float, passed: bool) -> None:
    assert TensorCheck("flat", "search", "scores", "absolute", worst, 0.0, 1e-4).passed is passed


def test_verification_names_only_what_it_was_asked_for(
    synthetic_model: SPMTracker, synthetic_bundle: Path, clip: Frames
) -> None:
    inputs = list(itertools.islice(sample_inputs(synthetic_model, clip[:2], DEMO_BOX), 1))
    steps: list[int] = []
    checks = check_tensors(synthetic_model, Bundle.open(synthetic_bundle), inputs, 1, ["flat"], lambda: steps.append(1))
    assert {check.variant for check in checks} == {"flat"}
    assert all(check.passed for check in checks)
    assert len(steps) == 1


def test_inputs_are_as_many_as_foretold_and_include_the_rim(synthetic_model: SPMTracker, clip: Frames) -> None:
    inputs = dict(sample_inputs(synthetic_model, clip[:6], DEMO_BOX))
    assert len(inputs) == SAMPLES
    proposals = np.concatenate([given["proposals"] for given in inputs.values()], axis=1)
    assert (proposals[..., :2] < 0).any()
    assert (proposals[..., 2:] > 271).any()


# Failures on the way.


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_older_bundle(export: Export, older: Path) -> None:
    with full_disk(20_000_000), pytest.raises(ExportError, match=r"cannot be written .*; nothing was changed"):
        export(older)


WRITERS = ("bundle.save_file", "graphs.files.ir.save")
"""What the graphs and weights are written with."""
LATER = ("_write_graphs", "_write_manifest", "verify", "put_in_place", "folder_beside", "Path.chmod")


@pytest.mark.parametrize("what", [*WRITERS, *(f"bundle.{name}" for name in LATER)])
def test_a_disk_that_fills_up_anywhere_leaves_the_older_bundle(
    what: str, export: Export, older: Path, monkeypatch: Patch, request: pytest.FixtureRequest
) -> None:
    if what not in WRITERS:
        request.getfixturevalue("written")
    monkeypatch.setattr(f"spm_export.{what}", no_space)
    with pytest.raises(ExportError, match=r"No space left on device.*nothing was changed"):
        export(older)


def test_an_interrupted_export_leaves_the_older_bundle(
    written: None, export: Export, older: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(exporter, "verify", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        export(older)


def test_a_bundle_damaged_while_it_was_written_is_not_put_in_place(
    written: None, export: Export, older: Path, monkeypatch: Patch
) -> None:

    def damage(model: SPMTracker, bundle: Bundle, *_: object) -> Verification:
        manifest = exporter._write_manifest

        def then_damage(*given: Any) -> None:
            manifest(*given)
            (bundle.path / "search.onnx").write_bytes(b"")

        monkeypatch.setattr(exporter, "_write_manifest", then_damage)
        return UNVERIFIED

    monkeypatch.setattr(exporter, "verify", damage)
    with pytest.raises(Exception, match=r"search\.onnx"):
        export(older)


def test_the_manifest_is_written_last(written: None, export: Export, tmp_path: Path, monkeypatch: Patch) -> None:
    export(tmp_path / "bundle")
    assert VERIFICATION in json.loads((tmp_path / "bundle" / MANIFEST).read_text())["files"]
