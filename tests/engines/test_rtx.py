"""TensorRT for RTX compiles the graphs of all precisions, here and now and without a GPU.

What cannot be seen without a GPU is whether the plans run: docs/guide/engines.md keeps the list.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import itertools
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from spm_engines import cli as command
from spm_engines.build import stages_for
from spm_engines.plan import build_plan
from spm_engines.toolchain import BuildOptions, Toolchain, open_toolchain
from spm_export import cli
from spm_rt import Bundle, EngineError
from spm_rt.bundle import STAGES
from spm_rt.cache.engine_facts import EngineTensor
from spm_rt.cache.engines import find_engine, read_engine

from ..support.exports import TARGETS_OF

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="the package tensorrt-rtx is not installed (pip install 'spm-rt[rtx]'; Linux and Windows on x86-64)",
)
Cards = tuple[tuple[int, int], ...]
CARDS: dict[str, Cards] = {"sm_86+sm_120": ((8, 6), (12, 0)), "portable": ()}
"""A plan for several cards takes no longer than one for one of them, and is not made if one of them is not served."""
BY_COMMAND = {("int8", 1, "portable"), ("int8", 4, "portable"), ("float16", 1, "portable")}
"""What the tests of the command line build."""
CASES = [
    case
    for precision, numbers in TARGETS_OF.items()
    for case in itertools.product((precision,), numbers, CARDS)
    if case not in BY_COMMAND
]
PORTABLE = BuildOptions("tensorrt_rtx")
K = 9
Capture = pytest.CaptureFixture[str]
BundleOf = Callable[[str], Bundle]
Command = Callable[..., Any]
BuildFrom = Callable[..., bytes]


@dataclasses.dataclass(frozen=True)
class BuiltPlan:
    """What is left of a plan: up to 90 MB each, they are not kept."""

    tensors: set[EngineTensor]
    size: int
    checksum: int


Plans = Callable[..., BuiltPlan]


@pytest.fixture
def build_here(typed_bundle: BundleOf, tmp_path: Path, capsys: Capture) -> Command:
    """``spm-export BUNDLE --engine tensorrt-rtx`` with a cache of this test's: what it prints, ``out`` and ``err``."""

    def build(precision: str, *arguments: str, status: int = 0) -> Any:
        bundle = str(typed_bundle(precision).path)
        assert cli.main([bundle, "--engine", "tensorrt-rtx", "--cache", str(tmp_path / "e"), *arguments]) == status
        return capsys.readouterr()

    return build


@pytest.fixture
def build_from(typed_bundle: BundleOf, tmp_path: Path) -> BuildFrom:
    """The plan of a stage's graph in a bundle of other files, which says that it is of the given precision."""

    def build(precision: str, stage: str, graph: Path | bytes) -> bytes:
        file, good = tmp_path / f"{stage}.onnx", typed_bundle(precision)
        if isinstance(graph, bytes):
            file.write_bytes(graph)
        else:
            file.symlink_to(graph)
            (tmp_path / "weights.safetensors").symlink_to(graph.with_name("weights.safetensors"))
        bundle = Bundle(tmp_path, good.manifest, good.spec, good.settings)
        return build_plan(bundle, stage, 1, PORTABLE, open_toolchain(PORTABLE, precision))[0]

    return build


@pytest.fixture(scope="module")
def built_plan(typed_bundle: BundleOf) -> Plans:
    """A plan by precision, stage, number of targets, cards and form of the graph, compiled once."""

    @functools.cache
    def built_plan(
        precision: str, stage: str, targets: int = 1, cards: Cards = (), form: str = "portable"
    ) -> BuiltPlan:
        options = BuildOptions("tensorrt_rtx", cards)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Toolchain, "variant", form)
            tools = open_toolchain(options, precision)
            plan, tensors = build_plan(typed_bundle(precision), stage, targets, options, tools)
        return BuiltPlan(set(tensors), len(plan), zlib.adler32(plan))

    return built_plan


def agreed(stage: str, t: int, half: str) -> set[EngineTensor]:
    """The contract of docs/reference/graphs.md, written out: ``half`` is the bundle's precision; int8 gives float32."""
    half = "float32" if half == "int8" else half
    head = [("head_kernel", half, (t, 30, 256, 6, 6)), ("head_bias", "float32", (t, 30))]
    maps = [("shallow", half, (t, 256, 34, 34)), ("deep", half, (t, 384, 34, 34))]
    crop, target_half = ("crop", "float32", (t, 3, 271, 271)), ("target_half", half, (t, 256, 6, 6))
    boxes = [("scores", "float32", (t, 1805)), ("boxes", "float32", (t, 1805, 4))]
    fine = [("scores", "float32", (t, K)), ("boxes", "float32", (t, K, 4))]
    inputs, outputs = {
        "template": ([crop, ("box", "float32", (t, 4))], [*head, target_half]),
        "search": ([crop, *head], [*boxes, *maps]),
        "relation": ([*maps, target_half, ("proposals", "float32", (t, K, 4))], fine),
    }[stage]
    return {
        EngineTensor(name, mode, dtype, shape)
        for mode, side in (("input", inputs), ("output", outputs))
        for name, dtype, shape in side
    }


@pytest.mark.parametrize(("precision", "targets", "target"), CASES)
def test_all_graphs_build_and_their_tensors_are_the_contracts(
    precision: str, targets: int, target: str, typed_bundle: BundleOf, built_plan: Plans
) -> None:
    assert open_toolchain(BuildOptions("tensorrt_rtx", CARDS[target]), precision).target == target
    for stage in STAGES:
        plan = built_plan(precision, stage, targets, CARDS[target])
        assert plan.tensors == agreed(stage, targets, precision)
        assert plan.size > weight_bytes(typed_bundle(precision), stage, targets)


def check_engine(entry: dict[str, Any], bundle: Bundle) -> None:
    """The same of an engine that the command built."""
    tensors = {EngineTensor(**{**tensor, "shape": tuple(tensor["shape"])}) for tensor in entry["tensors"]}
    assert tensors == agreed(entry["stage"], entry["targets"], bundle.precision)
    assert entry["plan_bytes"] > weight_bytes(bundle, entry["stage"], entry["targets"])


def test_turing_is_served_in_float16_alone(typed_bundle: BundleOf) -> None:
    """For 7.5 the library has no matrix product in float32, which the last layers of relation need.

    The refusals come first: the plan that a process builds next is larger than it would be otherwise (TensorRT for RTX
    1.7.1), and is not one that another test looks at.
    """
    options, both = BuildOptions("tensorrt_rtx", ((7, 5),)), BuildOptions("tensorrt_rtx", ((7, 5), (8, 6)))
    for precision, cards in (("float32", options), ("int8", options), ("float32", both)):
        with pytest.raises(EngineError, match=r"SM75.*FP32 GEMM is not supported"):
            build_plan(typed_bundle(precision), "relation", 1, cards, open_toolchain(cards, precision))
    for stage in STAGES:
        assert build_plan(typed_bundle("float16"), stage, 1, options, open_toolchain(options, "float16"))[0]


@pytest.mark.parametrize("stage", ["search", "relation"])
@pytest.mark.parametrize("form", ["portable", "flat"])
def test_int8_engines_hold_int8_weights(form: str, stage: str, typed_bundle: BundleOf, built_plan: Plans) -> None:
    """A compiler that went back to float32 would need at least the bytes of the float32 graph's weights."""
    size = built_plan("int8", stage, form=form).size
    assert size < 0.5 * weight_bytes(typed_bundle("float32"), stage, 1)
    assert size < 0.5 * built_plan("float32", stage, form=form).size


def test_an_int8_bundle_on_the_command_line(build_here: Command, typed_bundle: BundleOf, tmp_path: Path) -> None:
    bundle = typed_bundle("int8")
    engines = json.loads(build_here("int8", "--json").out)["engines"]
    wanted = [(stage, n) for n in TARGETS_OF["int8"] for stage in stages_for(n)]
    assert [(e["stage"], e["targets"]) for e in engines] == wanted
    assert {(e["precision"], e["state"], e["target"]) for e in engines} == {("int8", "built", "portable")}
    assert {tensor["dtype"] for e in engines for tensor in e["tensors"]} == {"float32"}
    here = {"library": "tensorrt_rtx", "version": engines[0]["version"], "target": "sm_89"}
    for e in engines:
        check_engine(e, bundle)
        found = find_engine(tmp_path / "e" / "engines", bundle, e["stage"], targets=e["targets"], **here)[0]
        assert found == Path(e["path"])


def test_a_zero_point_would_be_refused(typed_bundle: BundleOf, build_from: BuildFrom) -> None:
    """Why int8 is said in two ways: the graphs for CPUs round to uint8 with a zero point."""
    with pytest.raises(EngineError, match="Non-zero zero point is not supported"):
        build_from("int8", "search", typed_bundle("int8").graph("search", variant="fast"))


@pytest.mark.parametrize("stage", ["search", "relation"])
def test_a_float32_graph_is_not_taken_for_int8(stage: str, typed_bundle: BundleOf, build_from: BuildFrom) -> None:
    """Earlier versions' int8 bundles held float32 graphs for TensorRT."""
    with pytest.raises(EngineError, match=r"says int8, this graph computes in float32.*export it again"):
        build_from("int8", stage, typed_bundle("float32").graph(stage))


def test_a_graph_that_cannot_be_read_is_named(build_from: BuildFrom) -> None:
    with pytest.raises(EngineError, match=r"search\.onnx: tensorrt_rtx .* cannot read it"):
        build_from("float16", "search", b"nothing of the kind")


def weight_bytes(bundle: Bundle, stage: str, targets: int) -> float:
    """A plan holds its weights: nearly the bytes that its graph refers to."""
    graph = onnx.load(bundle.graph(stage, targets=targets), load_external_data=False).graph
    lengths = [int(e.value) for tensor in graph.initializer for e in tensor.external_data if e.key == "length"]
    return 0.95 * sum(lengths)


def test_plans_for_other_cards_are_other_plans(built_plan: Plans) -> None:
    every_cards: list[Cards] = [((8, 6),), ((12, 0),), *CARDS.values()]
    assert len({built_plan("float16", "search", cards=cards).checksum for cards in every_cards}) == 4


@pytest.mark.parametrize("variant", ["portable", "flat"])
def test_another_number_of_proposals(variant: str, typed_bundle: BundleOf) -> None:
    options = BuildOptions("tensorrt_rtx", proposals=16)
    bundle = typed_bundle("float16")
    _, tensors = build_plan(bundle, "relation", 4, options, open_toolchain(options, "float16"))
    assert {t.shape for t in tensors if t.name in ("proposals", "boxes")} == {(4, 16, 4)}


# What was built stands in the cache, and can be built again from the bundle alone.

WITHOUT = """
import sys
import zlib
for name in ("torch", "onnx", "onnx_ir", "onnxruntime", "openvino", "safetensors"):
    sys.modules[name] = None
from spm_export.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_engines_are_reproducible_from_the_bundle_alone(
    build_here: Command, typed_bundle: BundleOf, tmp_path: Path
) -> None:
    bundle = typed_bundle("float16")
    one_target = ["--targets", "1", "--json"]
    arguments = [str(bundle.path), "--engine", "tensorrt-rtx", "--cache", str(tmp_path / "e"), *one_target]
    done = subprocess.run([sys.executable, "-c", WITHOUT, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)["engines"]
    assert [entry["state"] for entry in entries] == ["built"] * 3
    tools = open_toolchain(PORTABLE, "float16")
    for entry in entries:
        check_engine(entry, bundle)
        plan, tensors = build_plan(bundle, entry["stage"], 1, PORTABLE, tools)
        assert_same_but_for_order(plan, Path(entry["path"]).read_bytes())
        assert set(tensors) == agreed(entry["stage"], 1, "float16")
        assert entry["target"] == "portable"
    # The second time, nothing is built.
    again = json.loads(build_here("float16", *one_target).out)
    assert [entry["state"] for entry in again["engines"]] == ["cached"] * 3
    # The runtime finds it on a card that the portable plan serves, and is told why on one that it does not serve.
    here = {"library": "tensorrt_rtx", "version": tools.version, "target": "sm_89"}
    cache = tmp_path / "e" / "engines"
    path, facts = find_engine(cache, bundle, "search", **here)
    assert read_engine(path, facts) == path.read_bytes()
    assert facts.tensors
    with pytest.raises(EngineError, match=r"built for portable with tensorrt_rtx .*; this is sm_75 with tensorrt_rtx"):
        find_engine(cache, bundle, "search", **{**here, "target": "sm_75"})


def assert_same_but_for_order(plan: bytes, other: bytes) -> None:
    """The library lists a network's inputs and outputs in an order that changes from one build to the next."""
    assert len(plan) == len(other)
    counts = [np.bincount(np.frombuffer(each, np.uint8), minlength=256) for each in (plan, other)]
    np.testing.assert_array_equal(*counts)
    assert sum(a != b for a, b in zip(plan[::97], other[::97], strict=True)) < 0.001 * len(plan) / 97


def test_a_table_for_people(build_here: Command, tmp_path: Path) -> None:
    printed = build_here("float16", "--targets", "1", "--compute-capability", "8.6,12.0")
    assert "sm_86+sm_120" in printed.out
    assert f"engines in {tmp_path / 'e' / 'engines'}" in printed.out
    assert "building engines" in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--compute-capability", "9.0"], "TensorRT for RTX compiles for 7.5, 8.0"),
        (["--targets", "8"], "no graphs for 8 targets"),
        (["--hardware-compatible"], "plans are portable as they"),
    ],
)
def test_what_is_refused(arguments: list[str], message: str, build_here: Command) -> None:
    assert message in build_here("float16", *arguments, status=1).err


def test_without_a_folder_nothing_is_built(
    typed_bundle: BundleOf, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPM_RT_CACHE", "off")
    assert cli.main([str(typed_bundle("float16").path), "--engine", "tensorrt-rtx"]) == 1
    assert "SPM_RT_CACHE is off" in capsys.readouterr().err


def test_probing_says_that_it_builds_here() -> None:
    assert any(line.startswith("tensorrt-rtx") and "builds engines here" in line for line in command.findings([], []))
