"""Bundles are read strictly: whatever is missing, altered or cut short is refused, and named."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_rt import Bundle, BundleError, ModelSpec, TrackerSettings
from spm_rt.bundle import FORMAT_VERSION, FORMS, MANIFEST, STAGES
from spm_rt.bundle.manifest import read_manifest
from spm_rt.files import file_digest, seal_manifest

WEIGHTS = "weights.safetensors"
CUTS = 50
FLIPS = {MANIFEST: 240, WEIGHTS: 20}
TOTAL_FLIPS = 1000
Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def own_bundle(tmp_path_factory: pytest.TempPathFactory, light_bundle: Path) -> Path:
    """A copy of a small one, to make links to.

    onnx refuses a model whose weights have a second name, and others read the original.
    """
    return Path(shutil.copytree(light_bundle, tmp_path_factory.mktemp("own") / "bundle"))


@pytest.fixture
def bundle(tmp_path: Path, own_bundle: Path) -> Path:
    """A bundle whose files are links: :func:`rewrite` replaces one."""
    return Path(shutil.copytree(own_bundle, tmp_path / "bundle", copy_function=os.link))


def rewrite(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def change_manifest(folder: Path, change: Callable[[Manifest], object]) -> None:
    """Change the manifest and seal it again, as somebody would who knows how."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    change(manifest)
    rewrite(folder / MANIFEST, seal_manifest(manifest))


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_bundle_opens(default_bundle: Path) -> None:
    bundle = Bundle.open(default_bundle)
    assert bundle.spec == ModelSpec()
    assert bundle.settings == TrackerSettings()
    assert bundle.targets == (1,)
    assert bundle.manifest["format_version"] == FORMAT_VERSION


def test_a_bundle_may_be_moved(bundle: Path, tmp_path: Path) -> None:
    bundle.rename(tmp_path / "elsewhere")
    assert Bundle.open(str(tmp_path / "elsewhere")).path == tmp_path / "elsewhere"


@pytest.mark.parametrize("variant", FORMS)
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_graph_in_every_form(stage: str, variant: str, default_bundle: Path) -> None:
    assert Bundle.open(default_bundle).graph(stage, variant=variant).is_file()


def test_graphs_for_several_targets_are_found(synthetic_bundle: Path) -> None:
    bundle = Bundle.open(synthetic_bundle)
    assert bundle.targets == (1, 2)
    assert bundle.graph("search", targets=2) != bundle.graph("search", targets=1)


def test_graphs_for_other_numbers_of_targets_are_refused(default_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"no graphs for 3 targets \(there are: 1\)"):
        Bundle.open(default_bundle).graph("search", targets=3)


def test_every_file_cut_short_anywhere_is_refused(bundle: Path) -> None:
    for name in files_of(bundle):
        whole = bundle / name
        size = whole.stat().st_size
        cut = bundle / f"{name}.cut"
        shutil.copy(whole, cut)
        kept = bundle.parent / name
        whole.rename(kept)
        # From the longest to the shortest, so that one copy is enough.
        for length in sorted({int(v) for v in np.linspace(0, size - 1, CUTS)}, reverse=True):
            os.truncate(cut, length)
            os.link(cut, whole)
            with pytest.raises(BundleError, match=name):
                Bundle.open(bundle)
            whole.unlink()
        cut.unlink()
        kept.rename(whole)
    Bundle.open(bundle)


def test_a_single_flipped_bit_anywhere_is_refused(bundle: Path) -> None:
    rng = np.random.default_rng(8)
    names = files_of(bundle)
    others = [name for name in names if name not in FLIPS]
    share = -(-(TOTAL_FLIPS - sum(FLIPS.values())) // len(others))
    done = 0
    for name in names:
        path = bundle / name
        content = path.read_bytes()
        rewrite(path, content)
        for _ in range(FLIPS.get(name, share)):
            position, bit = int(rng.integers(len(content))), int(rng.integers(8))
            flip(path, position, content[position] ^ (1 << bit))
            with pytest.raises(BundleError, match=name):
                Bundle.open(bundle)
            flip(path, position, content[position])
            done += 1
    assert done >= TOTAL_FLIPS
    Bundle.open(bundle)


def flip(path: Path, position: int, value: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(position)
        stream.write(bytes([value]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", r"no such bundle folder.*spm-export"),
        ("file", "not a packed bundle"),
        ("folder", f"{MANIFEST}: cannot be read"),
    ],
)
def test_what_is_no_folder_with_a_manifest_is_no_bundle(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(BundleError, match=message):
        Bundle.open(tmp_path / name)


def test_every_missing_file_is_named(bundle: Path) -> None:
    for name in files_of(bundle):
        (bundle / name).rename(bundle.parent / name)
        with pytest.raises(BundleError, match=f"{name}: cannot be read"):
            Bundle.open(bundle)
        (bundle.parent / name).rename(bundle / name)


def test_files_that_do_not_belong_there_are_left_alone(bundle: Path) -> None:
    rewrite(bundle / "notes.txt", b"mine")
    assert Bundle.open(bundle).targets == (1, 2)


def test_a_file_with_something_appended_is_refused(bundle: Path) -> None:
    rewrite(bundle / "search.onnx", (bundle / "search.onnx").read_bytes() + b"\n")
    with pytest.raises(BundleError, match=r"search\.onnx"):
        Bundle.open(bundle)


def test_two_files_exchanged_are_refused(bundle: Path) -> None:
    search, relation = (bundle / f"{stage}.onnx" for stage in ("search", "relation"))
    first, second = search.read_bytes(), relation.read_bytes()
    rewrite(search, second)
    rewrite(relation, first)
    with pytest.raises(BundleError, match=r"relation\.onnx"):
        Bundle.open(bundle)


FOREIGN = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "object": b"{}",
    "no text": b"\xff\xfe",
    "half": b"{",
    "words": b"text",
    "another format": b'{"format": "another"}',
    "nested deeply": b"[" * 100_000,
    "zeros": b"\x00" * 100,
}
ALTERED: dict[str, Callable[[bytes], bytes]] = {
    "another style": lambda content: json.dumps(json.loads(content)).encode(),
    "another setting": lambda content: content.replace(b'"window_influence": 0.5', b'"window_influence": 0.4'),
    "something appended": lambda content: content + b"\n",
}


@pytest.mark.parametrize("kind", [*FOREIGN, *ALTERED])
def test_manifests_that_no_export_wrote_are_refused(kind: str, bundle: Path) -> None:
    content = (bundle / MANIFEST).read_bytes()
    damaged = FOREIGN[kind] if kind in FOREIGN else ALTERED[kind](content)
    assert damaged != content
    rewrite(bundle / MANIFEST, damaged)
    with pytest.raises(BundleError, match=MANIFEST if kind in FOREIGN else f"{MANIFEST}.*altered after export"):
        Bundle.open(bundle)


def test_forms_that_nobody_knows_are_named(default_bundle: Path) -> None:
    with pytest.raises(BundleError, match="form 'expanded' are unknown; there are: portable, flat, plain, fast, fast_"):
        Bundle.open(default_bundle).graph("search", variant="expanded")


CHANGES: dict[str, Callable[[Manifest], object]] = {
    "no model": lambda m: m.pop("model"),
    "no tracker": lambda m: m.pop("tracker"),
    "no files": lambda m: m.pop("files"),
    "no graphs": lambda m: m.pop("graphs"),
    "files are a list": lambda m: m.update(files=[1]),
    "a file without facts": lambda m: m["files"].update({"search.onnx": None}),
    "a file without a digest": lambda m: m["files"]["search.onnx"].pop("sha256"),
    "a file of no size": lambda m: m["files"]["search.onnx"].update(bytes="many"),
    "graphs are text": lambda m: m.update(graphs="text"),
    "a number of targets in words": lambda m: m["graphs"].update(two=m["graphs"]["1"]),
    "a stage missing": lambda m: m["graphs"]["1"].pop("search"),
    "a variant missing": lambda m: m["graphs"]["1"]["search"].pop("portable"),
    "a graph that is a list": lambda m: m["graphs"]["1"]["search"].update(portable=[]),
    "no graphs for one target": lambda m: m.update(graphs={}),
    "an unknown setting": lambda m: m["tracker"].update(speed=1),
    "a setting missing": lambda m: m["tracker"].pop("mode"),
    "a setting out of range": lambda m: m["tracker"].update(size_rate=7),
    "a self-test in words": lambda m: m.update(self_test="words"),
    "a self-test without a part": lambda m: m["self_test"].pop("allowed"),
    "a self-test with a part more": lambda m: m["self_test"].update(songs=3),
    "a self-test without an output": lambda m: m["self_test"]["outputs"].pop("relation.boxes"),
    "a self-test cut short": lambda m: m["self_test"]["outputs"]["search.scores"].pop(),
    "a self-test of other rows": lambda m: m["self_test"]["positions"].append(1805),
    "a self-test without rows": lambda m: m["self_test"].update(positions=[]),
    "a self-test that allows nothing": lambda m: m["self_test"]["allowed"].update({"search.scores": 0}),
    "a self-test of no numbers": lambda m: m["self_test"]["outputs"]["search.boxes"].__setitem__(0, 1e300),
    "a self-test without proposals": lambda m: [
        m["self_test"]["outputs"][name].clear() for name in ("relation.scores", "relation.boxes")
    ],
    "a mistyped specification": lambda m: m["model"].update(crop_size="big"),
}
NAMES = ["../search.onnx", "/etc/hostname", "folder/search.onnx", "", ".", "..", MANIFEST]
UNREADABLE = {"bytes": 1, "sha256": "0" * 64}
AGAIN = "Run spm-export again with "
SOURCE = {"source": "cm.pt + fm.pt"}
setting = functools.partial(methodcaller, "update")
REASONS: list[tuple[str, Callable[[Manifest], object]]] = [
    *(("bundle format .* reads format 2", setting(format_version=v)) for v in (0, 1, 3, "2", None, 1.5, [2])),
    (rf"{AGAIN}what it was made of \(cm\.pt \+ fm\.pt\)$", setting(format_version=1, checkpoint=SOURCE)),
    (f"{AGAIN}the checkpoint that it was made of$", setting(format_version=1, checkpoint={"sha256": "0"})),
    (f"{AGAIN}the checkpoint that it was made of$", setting(format_version=1, checkpoint=None)),
    ("A newer version of spm_rt wrote it: install that one$", setting(format_version=3, checkpoint=SOURCE)),
    *(("not a plain file name", lambda m, name=name: m["files"].update({name: UNREADABLE})) for name in NAMES),
    ("has no entry under files", lambda m: m["graphs"]["1"]["search"].update(portable="../search.onnx")),
    *((MANIFEST, change) for change in CHANGES.values()),
]


@pytest.mark.parametrize(("message", "change"), REASONS)
def test_sealed_manifests_that_make_no_sense_are_refused(
    message: str, change: Callable[[Manifest], object], bundle: Path
) -> None:
    change_manifest(bundle, change)
    with pytest.raises(BundleError, match=message):
        Bundle.open(bundle)


def test_sealing_is_the_same_every_time(default_bundle: Path) -> None:
    raw = (default_bundle / MANIFEST).read_bytes()
    assert seal_manifest(read_manifest(default_bundle / MANIFEST)) == raw


def test_digests_are_those_of_the_files(default_bundle: Path) -> None:
    manifest = read_manifest(default_bundle / MANIFEST)
    assert set(manifest["files"]) == set(files_of(default_bundle)) - {MANIFEST}
    for name, facts in manifest["files"].items():
        assert facts == {"bytes": (default_bundle / name).stat().st_size, "sha256": file_digest(default_bundle / name)}


def test_what_cannot_be_a_bundle_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="a bundle is a folder or a zip archive, which this is not"):
        Bundle.open(os.devnull)
    with pytest.raises(BundleError, match="no such bundle folder"):
        Bundle.open(tmp_path / ("n" * 300))
