"""The self-test: its formula, its place in the manifest, and what it notices."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_export.model.network import SPMTracker
from spm_export.proof.self_test import check_self_test, record_self_test
from spm_rt import Bundle, TrackerSettings
from spm_rt.backends import load_backend
from spm_rt.bundle import MANIFEST
from spm_rt.bundle.self_test import (
    MOST_PROPOSALS,
    OUTPUTS,
    SQUARE,
    SelfTest,
    observe,
    self_test_crop,
    self_test_proposals,
)
from spm_rt.files import seal_manifest


@pytest.fixture(scope="module")
def self_test(bundle: Bundle) -> SelfTest:
    assert bundle.self_test is not None
    return bundle.self_test


@pytest.mark.parametrize("size", [271, 20])
def test_the_formula_is_what_its_description_says(size: int) -> None:
    """In Python's whole numbers, pixel by pixel."""
    crop = self_test_crop(size)
    across = -(-size // SQUARE)
    assert crop.shape == (1, 3, size, size)
    for plane, row, column in np.random.default_rng(1).integers(0, (3, size, size), (200, 3)).tolist():
        value = plane * across * across + row // SQUARE * across + column // SQUARE + 1
        for factor, shift in ((2654435761, 15), (2246822519, 13)):
            value = value * factor % 2**32
            value ^= value >> shift
        assert crop[0, plane, row, column] == value // 2**24
    assert 100 < crop.mean() < 155
    assert crop.std() > 60


def test_proposals_move_away() -> None:
    np.testing.assert_array_equal(self_test_proposals(2), [[[94, 90, 178, 182], [106, 102, 190, 194]]])


def test_it_is_in_the_manifest_and_small(bundle: Bundle, self_test: SelfTest, default_model: SPMTracker) -> None:
    content = bundle.manifest["self_test"]
    assert len(json.dumps(content)) < 3000
    assert 12 <= len(self_test.positions) <= 16
    assert self_test.proposals == MOST_PROPOSALS
    assert self_test.to_json() == content
    again = record_self_test(default_model, "float32", bundle.settings)
    assert again is not None
    assert max(again.differences(self_test.outputs).values()) < 1e-3
    # It says something: the target is found where it is, and not everywhere.
    assert self_test.outputs["search.scores"].max() > 0.9
    assert self_test.outputs["search.scores"].min() < 0.3


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "pytorch"])
def test_all_backends_pass(name: str, bundle: Bundle, self_test: SelfTest) -> None:
    pytest.importorskip({"pytorch": "torch"}.get(name, name))
    backend = load_backend(bundle, name, threads=1)
    found = observe(backend.context(), self_test.positions, self_test.proposals)
    assert self_test.deviations(found) == ""
    checks = check_self_test(self_test, backend)
    assert [f"{check.stage}.{check.tensor}" for check in checks] == list(OUTPUTS)
    assert all(check.passed and check.variant == "self_test" for check in checks)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("wrong", [0.03, float("nan"), float("inf")])
def test_one_wrong_number_is_noticed(name: str, wrong: float, self_test: SelfTest) -> None:
    found: dict[str, Any] = {key: array.copy() for key, array in self_test.outputs.items()}
    found[name].flat[3] += wrong
    assert self_test.deviations(found).startswith(f"{name} by {wrong if wrong == 0.03 else 'inf'}")
    assert "," not in self_test.deviations(found)


def test_other_weights_do_not_pass(self_test: SelfTest, synthetic_bundle: Path) -> None:
    backend = load_backend(Bundle.open(synthetic_bundle), "onnxruntime", threads=1)
    complaint = self_test.deviations(observe(backend.context(), self_test.positions, self_test.proposals))
    assert all(name in complaint for name in OUTPUTS)


def test_tolerances_are_those_of_the_precision(default_model: SPMTracker) -> None:
    half = record_self_test(default_model, "float16", TrackerSettings(num_candidates=2, num_near_candidates=1))
    assert half is not None
    assert half.proposals == 2
    assert half.allowed == {
        "search.scores": 16 / 2048,
        "search.boxes": 1.0,
        "relation.scores": 16 / 2048,
        "relation.boxes": 0.25,
    }
    assert record_self_test(default_model, "int8", TrackerSettings()) is None


def test_older_bundles_have_none(default_bundle: Path, tmp_path: Path) -> None:
    manifest = json.loads((default_bundle / MANIFEST).read_bytes())
    for path in default_bundle.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / MANIFEST).unlink()
    (tmp_path / MANIFEST).write_bytes(seal_manifest({k: v for k, v in manifest.items() if k != "self_test"}))
    assert Bundle.open(tmp_path).self_test is None


def test_what_is_recorded_can_be_read(self_test: SelfTest, bundle: Bundle) -> None:
    odd = dataclasses.replace(self_test, outputs={n: a * np.float32(1 / 3) for n, a in self_test.outputs.items()})
    read = SelfTest.from_json(json.loads(json.dumps(odd.to_json())), bundle.spec.anchor_count)
    assert max(read.differences(odd.outputs).values()) < 2e-5
