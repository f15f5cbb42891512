"""Manifests sealed by somebody who knows how, and graphs under the names of others: refused, on one line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spm_rt import Bundle, BundleError
from spm_rt.bundle import MANIFEST, STAGES
from spm_rt.bundle.forms import graph_file
from spm_rt.bundle.graph_ends import read_ends
from spm_rt.files import seal_manifest
from spm_rt.precision import PRECISIONS

from ...support.fakes.bundle import facts_of, field, hollow_graph, small_bundle

Manifest = dict[str, Any]
HUGE = 10**399
NUMBERS: dict[str, Any] = {
    **{"400 digits": HUGE, "-400 digits": -HUGE, "negative": -3, "text": "9", "true": True, "null": None, "list": [9]},
    **{"an object": {"a": 9}, "a large float": 1e308, "beyond 64 bits": 1 << 70, "half": 9.5, "nested": [[[[9]]]]},
}
PLACES: dict[str, Callable[[Manifest, Any], object]] = {
    **{f"model {name}": lambda m, v, name=name: m["model"].update({name: v}) for name in ("crop_size", "roi_cells")},
    "model list": lambda m, v: m["model"].update(anchor_ratios=[v]),
    "model mean": lambda m, v: m["model"].update(pixel_mean_bgr=[v, v]),
    "tracker whole": lambda m, v: m["tracker"].update(num_near_candidates=v),
    "tracker share": lambda m, v: m["tracker"].update(size_rate=v),
    "tracker text": lambda m, v: m["tracker"].update(mode=v),
    "bytes": lambda m, v: m["files"]["weights.safetensors"].update(bytes=v),
    "digest": lambda m, v: m["files"]["weights.safetensors"].update(sha256=v),
    "precision": lambda m, v: m.update(precision=v),
    "version": lambda m, v: m.update(format_version=v),
    "files": lambda m, v: m.update(files=v),
    "graphs": lambda m, v: m.update(graphs=v),
    "stages": lambda m, v: m["graphs"].update({"1": v}),
    "forms": lambda m, v: m["graphs"]["1"].update(search=v),
    "graph": lambda m, v: m["graphs"]["1"]["search"].update(portable=v),
    "self-test": lambda m, v: m.update(self_test=v),
    "self-test's numbers": lambda m, v: m.update(
        self_test={"positions": [v], "outputs": {"search.scores": v}, "allowed": {"search.scores": v}}
    ),
}
NAMES = ["\ud800.onnx", "a\u0000b", "two\nlines", "search.onnx:stream", "x" * 101, "search.onnx ", "\u0661", "C:\\x"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("small") / "bundle")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """The small bundle's manifest, and links to its files."""
    place = tmp_path / "bundle"
    place.mkdir()
    for path in sound.iterdir():
        (place / path.name).hardlink_to(path)
    return place


def change_manifest(folder: Path, change: Callable[[Manifest], object]) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    change(manifest)
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).write_bytes(seal_manifest(manifest))


def refused(folder: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.open(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("place", PLACES)
def test_values_of_other_types_and_sizes_are_refused(place: str, number: str, folder: Path) -> None:
    change_manifest(folder, lambda manifest: PLACES[place](manifest, NUMBERS[number]))
    refused(folder, f"{MANIFEST}|not a graph")


@pytest.mark.parametrize("targets", ["0", "-1", "01", "+1", " 1", "1_0", "\u0661", "1025", "1e1", "9" * 400, ""])
def test_numbers_of_targets_have_one_spelling(targets: str, folder: Path) -> None:
    change_manifest(folder, lambda m: m["graphs"].update({targets: m["graphs"]["1"]}))
    refused(folder, MANIFEST)


@pytest.mark.parametrize("name", NAMES)
def test_names_that_some_system_reads_otherwise_are_refused(name: str, folder: Path) -> None:
    change_manifest(folder, lambda m: m["files"].update({name: facts_of(b"")}))
    refused(folder, "not a plain file name")


DEPTHS = (500, 5_000, 200_000)
RAW: dict[str, Callable[[bytes], bytes]] = {
    "NaN": lambda raw: raw.replace(b'"size_rate": 0.5', b'"size_rate": NaN'),
    "Infinity": lambda raw: raw.replace(b'"size_rate": 0.5', b'"size_rate": -Infinity'),
    "overflowing": lambda raw: raw.replace(b'"size_rate": 0.5', b'"size_rate": 1e999'),
    "5000 digits": lambda raw: raw.replace(b'"size_rate": 0.5', b'"size_rate": ' + b"9" * 5000),
    "two of a name": lambda raw: raw.replace(b'"size_rate": 0.5', b'"size_rate": 0.5, "size_rate": 0.5'),
    **{f"{n} deep": lambda raw, n=n: raw.replace(b'"size_rate": 0.5', b'"x": ' + b"[" * n + b"]" * n) for n in DEPTHS},
    "too long": lambda raw: raw + b" " * (1 << 24),
    "UTF-16": lambda raw: raw.decode().encode("utf-16"),
}


@pytest.mark.parametrize("kind", RAW)
def test_what_is_no_plain_json_is_refused(kind: str, folder: Path) -> None:
    raw = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).write_bytes(RAW[kind](raw))
    refused(folder, MANIFEST)


@pytest.mark.parametrize("depth", DEPTHS[:1])
def test_deep_values_are_refused_also_where_the_seal_is_right(depth: int, folder: Path) -> None:
    deep: list[Any] = []
    for _ in range(depth):
        deep = [deep]
    change_manifest(folder, lambda m: m["tracker"].update(size_rate=deep))
    refused(folder, MANIFEST)


def test_random_changes_are_refused_or_sound(folder: Path) -> None:
    """Any value anywhere, replaced by any other."""
    rng, whole = random.Random(7), json.loads((folder / MANIFEST).read_bytes())
    opened = longest = 0
    for _ in range(600):
        manifest = json.loads(json.dumps(whole))
        place: Any = manifest
        while True:
            key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if not isinstance(place[key], (dict, list)) or not place[key] or rng.random() < 0.2:
                break
            place = place[key]
        if isinstance(place, dict) and rng.random() < 0.2:
            place[rng.choice(["", "x", str(key) + "x"])] = place.pop(key)
        else:
            place[key] = rng.choice([*NUMBERS.values(), "", "x", {}, [], 0, 1, 0.25, False])
        (folder / MANIFEST).unlink()
        (folder / MANIFEST).write_bytes(seal_manifest(manifest))
        try:
            Bundle.open(folder)
            opened += 1
        except BundleError as error:
            longest = max(longest, len(str(error).splitlines()))
    assert longest == 1
    assert opened < 300


# Graphs.


def put(folder: Path, content: bytes, name: str = "search.onnx") -> None:
    """A file in the place of one of the bundle's, and what the manifest says of it."""
    (folder / name).unlink()
    (folder / name).write_bytes(content)
    change_manifest(folder, lambda m: m["files"].update({name: facts_of(content)}))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_small_bundles_of_every_precision_are_sound(precision: str, tmp_path: Path) -> None:
    assert Bundle.open(small_bundle(tmp_path / "bundle", precision)).precision == precision


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("other", STAGES)
def test_the_graph_of_another_stage_is_refused(stage: str, other: str, folder: Path) -> None:
    change_manifest(folder, lambda m: m["graphs"]["1"][stage].update(portable=m["graphs"]["1"][other]["portable"]))
    if stage == other:
        assert Bundle.open(folder)
    else:
        refused(folder, rf"not the graph of {stage}: its inputs are .* instead of .*; run spm-export again")


def test_graphs_for_another_number_of_targets_are_refused(folder: Path) -> None:
    change_manifest(folder, lambda m: m["graphs"].update({"1": m["graphs"]["2"]}))
    refused(folder, r"for 1 target\(s\): \w+ is float32 \[2, .*\] instead of float32 \[1, ")


@pytest.mark.parametrize("stage", STAGES)
def test_graphs_in_another_precision_are_refused(stage: str, folder: Path) -> None:
    put(folder, hollow_graph(stage, 1, "float16"), graph_file(stage, "portable", 1))
    refused(folder, "is float16 .* instead of float32")


GRAPH = hollow_graph("search")
OTHERS = {
    "empty": b"",
    "text": b"a graph",
    "no graph": field(1, 8),
    "two graphs": GRAPH * 2,
    "a number for a graph": field(7, 3),
    "cut short": GRAPH[:-7],
    "an end of a varint missing": b"\x3a" + b"\xff" * 12,
    "a group": b"\x3b\x3c",
    "a name that is no text": field(7, field(11, field(1, b"\xff\xfe"))),
    "larger than any graph": bytes(1 << 27),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_graph_is_refused(kind: str, folder: Path) -> None:
    put(folder, OTHERS[kind])
    refused(folder, r"search\.onnx: not (an ONNX graph|the graph of search)")


def test_damaged_graphs_never_raise_anything_else() -> None:
    rng = random.Random(2)
    for _ in range(2000):
        content = bytearray(GRAPH)
        for _ in range(rng.randrange(1, 6)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        try:
            read_ends(bytes(content))
        except (ValueError, IndexError):
            continue


def test_ends_are_those_that_onnx_reads(default_bundle: Path) -> None:
    onnx = pytest.importorskip("onnx")
    for path in sorted(default_bundle.glob("*.onnx")):
        graph = onnx.load(path, load_external_data=False).graph
        wanted = {
            side: {
                value.name: tuple(size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim)
                for value in values
            }
            for side, values in (("inputs", graph.input), ("outputs", graph.output))
        }
        found = read_ends(path.read_bytes())
        assert {s: {n: shape for n, (_, shape) in ends.items()} for s, ends in found.items()} == wanted
