"""What TensorRT is asked for, over a stand-in of its builder; and everything that can be wrong before it is asked.

tests/engines/test_rtx.py compiles for real.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from spm_engines import Gpu, doctor, plugin, toolchain
from spm_engines.plan import build_plan
from spm_engines.toolchain import BuildOptions, Toolchain, open_toolchain
from spm_rt import EngineError
from spm_rt.backends.tensorrt.messages import library_log

from ..support.fakes import tensorrt_builder as fake_builder
from ..support.fakes.bundle import hollow_bundle

A10 = Gpu("NVIDIA A10", (8, 6), "580.1")
V100 = Gpu("Tesla V100", (7, 0), "580.1")
T4 = Gpu("Tesla T4", (7, 5), "580.1")
H200 = Gpu("NVIDIA H200", (9, 0), "580.1")
P100 = Gpu("Tesla P100", (6, 0), "580.1")
PLAIN, AMPERE_PLUS = BuildOptions("tensorrt"), BuildOptions("tensorrt", hardware_compatible=True)
Ask = Callable[..., dict[str, Any]]


def rtx(*capabilities: tuple[int, int]) -> BuildOptions:
    return BuildOptions("tensorrt_rtx", capabilities)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Say which TensorRT there is, and which GPU."""
    return lambda gpu, version="10.16.1.11": fake_builder.install(monkeypatch, gpu, version)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Write a package called tensorrt that is found before any other."""

    def forget() -> None:
        toolchain.load_library.cache_clear()
        doctor.inspect_library.cache_clear()

    def write(code: str) -> None:
        (tmp_path / "tensorrt.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        forget()

    yield write
    sys.modules.pop("tensorrt", None)
    forget()


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """What the stand-in is asked for, for the relation graph of a bundle whose graphs it parses."""

    def ask(
        options: BuildOptions = PLAIN, precision: str = "float32", tools: Toolchain | None = None, **more: Any
    ) -> dict[str, Any]:
        bundle = hollow_bundle(tmp_path, precision)
        monkeypatch.setattr(fake_builder.OnnxParser, "tensors", lambda path: fake_builder.graph_tensors(bundle, path))
        library_log.cache_clear()
        built, _ = build_plan(bundle, "relation", 4, options, tools or open_toolchain(options, precision), **more)
        found: dict[str, Any] = json.loads(built)
        return found

    return ask


@pytest.mark.parametrize("version", ["10.0.1", "10.16.1.11", "11.4.0.106"])
def test_networks_are_strongly_typed_without_tf32(version: str, machine: Any, ask: Ask) -> None:
    machine(A10, version)
    found = ask()
    assert (found["network"], found["flags"], found["hardware"], found["workspace"]) == (1 << 1, [], "NONE", 0)
    assert found["shapes"]["proposals"] == [4, 9, 4]


def test_everything_else_is_on_request(machine: Any, ask: Ask) -> None:
    machine(A10)
    options = BuildOptions(
        "tensorrt", hardware_compatible=True, version_compatible=True, tf32=True, workspace=1 << 28, proposals=9
    )
    found = ask(options, "float16")
    assert found["flags"] == ["TF32", "VERSION_COMPATIBLE"]
    assert found["hardware"] == "AMPERE_PLUS"
    assert found["workspace"] == 1 << 28
    tools = open_toolchain(options, "float16")
    assert (tools.target, tools.gpu) == ("ampere_plus", "")


def test_a_plan_is_for_the_card_at_hand(machine: Any) -> None:
    machine(A10)
    tools = open_toolchain(PLAIN, "bfloat16")
    assert (tools.target, tools.gpu, tools.variant) == ("sm_86", "NVIDIA A10", "portable")
    machine(T4, "10.3.0.26")
    assert open_toolchain(PLAIN, "float16").variant == "flat"
    machine(V100, "10.4.0.26")
    assert open_toolchain(PLAIN, "float16").target == "sm_70"


def test_timing_is_kept_and_a_foreign_one_is_not_used(machine: Any, ask: Ask, tmp_path: Path) -> None:
    machine(A10)
    tmp_path.chmod(0o700)
    timing = tmp_path / "timing.cache"
    assert ask(timing=timing)["timing"] == ""
    assert timing.read_bytes() == b"+measured"
    assert ask(timing=timing)["timing"] == "+measured"
    timing.write_bytes(b"foreign")
    assert ask(timing=timing)["timing"] == ""
    timing.chmod(0o666)  # others might have written it
    assert ask(timing=timing)["timing"] == ""


def test_the_plugin_is_registered_and_known_by_its_code(
    machine: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(A10)
    register = Mock(return_value=plugin.Plugin("aot", "e" * 64))
    monkeypatch.setattr(plugin, "register_plugin", register)
    tools = open_toolchain(BuildOptions("tensorrt", plugin=True), "float16")
    register.assert_called_once_with(tools.module, 86)
    assert tools.plugin_sha256 == "e" * 64
    assert ask(tools=tools)["network"] == (1 << 1) | (1 << 3)


@pytest.mark.parametrize(
    ("gpu", "version", "precision", "options", "message"),
    [
        (None, "10.16.1", "float32", PLAIN, "no NVIDIA driver answers here.*tensorrt-rtx, which needs none"),
        (V100, "11.4.0.106", "float16", PLAIN, "Tesla V100: TensorRT 11.4.0.106 has no kernels for it"),
        (P100, "10.0.1", "float32", PLAIN, "Tesla P100: TensorRT 10.0.1 has no kernels for it"),
        (T4, "11.4.0", "bfloat16", PLAIN, "compute capability 7.5 has no bfloat16: export with --precision float16"),
        (T4, "11.4.0", "float16", AMPERE_PLUS, "hardware-compatible plans need compute capability 8"),
        (None, "", "float16", rtx((9, 0)), r"9\.0: TensorRT for RTX compiles for 7\.5, 8\.0, 8\.6.*one portable plan"),
        (
            H200,
            "1.7.1.116",
            "float16",
            rtx(),
            r"H200: TensorRT for RTX 1\.7\.1\.116 does not run on .* 9\.0",
        ),
        (
            H200,
            "1.7.1.116",
            "float16",
            rtx(),
            r"This card takes TensorRT 11 .*other cards.*--compute-capability",
        ),
        (V100, "1.7.1.116", "float16", rtx(), r"capability 7\.0, only on 7\.5, .*takes TensorRT 10\.4 at most"),
        (None, "", "bfloat16", rtx((8, 6), (7, 5)), r"7\.5 has no bfloat16"),
    ],
)
def test_what_this_machine_or_library_cannot_do_is_said(
    gpu: Gpu | None, version: str, precision: str, options: BuildOptions, message: str, machine: Any
) -> None:
    machine(gpu, version)
    with pytest.raises(EngineError, match=message):
        open_toolchain(options, precision)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"library": "tensorflow"}, "'tensorflow': one of tensorrt, tensorrt_rtx"),
        ({"library": "tensorrt", "compute_capabilities": ((8, 6),)}, "goes with tensorrt-rtx only"),
        ({"library": "tensorrt_rtx", "plugin": True}, "knows no plugins"),
        ({"library": "tensorrt_rtx", "version_compatible": True}, "no version-compatible plans"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        BuildOptions(**options)


def test_targets_of_rtx_are_named_in_order(machine: Any) -> None:
    machine(None, "1.7.1.116")
    tools = open_toolchain(rtx((12, 0), (8, 6), (8, 6)), "float16")
    assert (tools.target, tools.variant, tools.gpu) == ("sm_86+sm_120", "portable", "")
    assert open_toolchain(rtx(), "float16").target == "portable"


def test_plans_for_other_cards_are_built_on_any(machine: Any) -> None:
    machine(H200, "1.7.1.116")
    assert open_toolchain(rtx((8, 6)), "float16").target == "sm_86"
    machine(H200, "1.8.0.1")  # which may take it
    assert open_toolchain(rtx(), "float16").target == "portable"


@pytest.mark.parametrize(
    ("part", "how", "message"),
    [
        (fake_builder.OnnxParser, "fails", r"relation_4_portable\.onnx: .* cannot read it: Unsupported node"),
        (fake_builder.Builder, "missing", "gives no builder here: CUDA initialization failure with error: 35"),
        (fake_builder.Builder, "fails", r"cannot build it: no tactic for anything$"),
    ],
)
def test_a_parser_or_builder_that_fails_says_why_on_one_line(
    part: type, how: str, message: str, machine: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(A10)
    monkeypatch.setattr(part, how, True)
    with pytest.raises(EngineError, match=message):
        ask()


def test_a_network_that_is_not_the_contracts_is_refused(
    machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(A10)
    bundle = hollow_bundle(tmp_path, "float16")
    given, made = fake_builder.graph_tensors(bundle, "relation_4_portable.onnx")
    given[0].dtype = fake_builder.DataType.FLOAT
    monkeypatch.setattr(fake_builder.OnnxParser, "tensors", lambda path: (given, made))
    with pytest.raises(EngineError, match=r"not the contract's: input shallow float16 .*; input shallow float32"):
        build_plan(bundle, "relation", 4, PLAIN, open_toolchain(PLAIN, "float16"))


LOADS = (
    "__version__ = '{}'\nclass ILogger:\n    def __init__(self): pass\n"
    "class Builder:\n    def __init__(self, log): pass\n"
)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.abort()", "tensorrt is installed but cannot be loaded: it ended by signal 6"),
        ("raise ImportError('libnvinfer.so.10: cannot open')", "cannot be loaded: ImportError: libnvinfer.so.10"),
        (LOADS.format("8.6.1"), r"tensorrt 8\.6\.1 is too old: 10\.0 is the first"),
    ],
)
def test_a_library_that_does_not_load_is_an_error_and_no_crash(code: str, message: str, package: Any) -> None:
    package(code)
    with pytest.raises(EngineError, match=message):
        toolchain.load_library("tensorrt")


def test_a_library_that_loads_is_given_with_its_version(package: Any) -> None:
    package(LOADS.format("10.16.1.11"))
    module, version = toolchain.load_library("tensorrt")
    assert version == module.__version__ == "10.16.1.11"


def test_a_builder_that_crashes_is_no_crash_here(package: Any) -> None:
    package(LOADS.format("10.16.1.11").replace("(self, log): pass", "(self, log): __import__('os').abort()"))
    wanted = doctor.InspectedLibrary("10.16.1.11", "it ended by signal 6", aot=False, builder=False)
    assert doctor.inspect_library("tensorrt") == wanted


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    toolchain.load_library.cache_clear()
    with pytest.raises(EngineError, match="tensorrt-rtx is not installed: pip install tensorrt-rtx"):
        toolchain.load_library("tensorrt_rtx")
