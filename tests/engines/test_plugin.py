"""The RoI plugin's registration, over TensorRT's own Python sources and a stand-in for what is compiled."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from spm_engines import plugin as ours
from spm_export.graphs.roi import PLUGIN
from spm_rt.backends.tensorrt import python_plugin as roi_plugin
from spm_rt.errors import BackendError
from spm_rt.gpu.kernels import nvrtc, source
from spm_rt.models import MODELS
from spm_rt.settings import ModelSpec

from ..support.fakes import tensorrt_plugins as fake

pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence")  # in TensorRT's sources
CODE = b".version 8.8\n.target sm_75\n// text of a kernel\n\0"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No registration of another test, and no compiler: what it makes is tested elsewhere."""
    before = set(sys.modules)
    monkeypatch.setattr(ours, "_code", {})
    monkeypatch.setattr(roi_plugin, "_registered", {})
    monkeypatch.setattr(nvrtc, "compiled", lambda unit, architecture: CODE)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("tensorrt."):
            del sys.modules[name]


def shapes(spec: ModelSpec) -> list[tuple[int, ...]]:
    """Of two maps, nine boxes of each of two targets, scale and shift; of the output."""
    deep, shallow, cells = spec.deep_channels, spec.shallow_channels, spec.cells
    affine = (1, deep + shallow, 1, 1)
    return [(2, deep, cells, cells), (2, shallow, cells, cells), (2, 9, 4), affine, affine, (18, deep + shallow, 6, 6)]


def descriptions(
    data: fake.DataType, rest: fake.DataType = fake.DataType.FLOAT, spec: ModelSpec = MODELS["alexnet"]
) -> list[Any]:
    kinds = (data, data, rest, rest, rest, data)
    return [fake.DynamicPluginTensorDesc(shape, kind) for shape, kind in zip(shapes(spec), kinds, strict=True)]


def check_shapes(made: Any, builder: fake.ExprBuilder, spec: ModelSpec) -> list[fake.DimsExprs]:
    """The shape of a plugin's output is right; gives those of its inputs."""
    *inputs, output = shapes(spec)
    sizes = [fake.DimsExprs([fake.IDimensionExpr(n) for n in shape]) for shape in inputs]
    (out,) = made.get_output_shapes(sizes, [], builder)
    assert [size.get_constant_value() for size in out] == list(output)
    return sizes


class LaunchParams:
    """What TensorRT has filled in."""


class Setter(dict[int, Any]):
    nbSymExprs = 0


def build(
    trt: Any, data: fake.DataType, rest: fake.DataType = fake.DataType.FLOAT, spec: ModelSpec = MODELS["alexnet"]
) -> tuple[Any, LaunchParams, Setter]:
    """What TensorRT asks a plugin while it builds an engine, in its order."""
    version, namespace = PLUGIN["plugin_version"], PLUGIN["plugin_namespace"]
    creator = trt.get_plugin_registry().get_creator("FusedRoiCrop", version, namespace)
    request = fake.QuickPluginCreationRequest.UNKNOWN
    made = creator.create_plugin("FusedRoiCrop", "spm", [], trt.TensorRTPhase.BUILD, request)
    kinds = [data, data, rest, rest, rest]
    assert made.get_output_data_types(kinds, [4, 4, 3, 4, 4]) == [data]
    builder, launch, numbers = fake.ExprBuilder(), LaunchParams(), Setter()
    sizes = check_shapes(made, builder, spec)
    in_out = descriptions(data, rest, spec)
    formats = made.get_supported_format_combinations(in_out, 5)
    assert [(f.type, f.format) for f in formats] == [(d.desc.type, fake.TensorFormat.LINEAR) for d in in_out]
    made.configure_plugin(in_out[:5], in_out[5:])
    assert list(made.get_valid_tactics()) == []
    made.set_tactic(0)
    made.get_launch_params(sizes, in_out, 5, launch, numbers, builder)
    return made, launch, numbers


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("data", "kernel"),
    [(fake.DataType.FLOAT, "spm_roi_f32"), (fake.DataType.HALF, "spm_roi_f16"), (fake.DataType.BF16, "spm_roi_bf16")],
)
def test_tensorrts_own_sources_take_the_plugin_and_its_kernel(
    data: fake.DataType, kernel: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = MODELS[model]
    trt = fake.with_plugin_sources(monkeypatch)
    found = ours.register_plugin(trt, 75)
    assert found.kind == "aot"
    made, launch, numbers = build(trt, data, spec=spec)
    *inputs, output = (given.desc for given in descriptions(data, spec=spec))
    name, code = made.get_kernel(inputs, [output])
    assert name == kernel
    assert code == CODE.rstrip(b"\0")
    sizes = {name: value.expr.get_constant_value() for name, value in vars(launch).items()}
    parts = (spec.deep_channels + spec.shallow_channels) // 32
    wanted = {"grid_x": 18, "grid_y": parts, "grid_z": 1, "block_x": 288, "block_y": 1, "block_z": 1, "shared_mem": 0}
    assert sizes == wanted
    passed = [9, spec.deep_channels, spec.shallow_channels, spec.cells, spec.cells, 0]
    assert numbers.nbSymExprs == len(passed)
    assert [numbers[i].expr.get_constant_value() for i in range(len(passed))] == passed
    assert {number.dtype.name for number in numbers.values()} == {"INT32"}


def test_the_kernels_parameters_are_in_tensorrts_order() -> None:
    """Inputs, whole numbers, output: as many, and of the kinds, that the registration passes."""
    match = re.search(r"name\(([^)]*)\)", source("roi"))
    assert match
    kinds = " ".join(match[1].replace("\\", " ").split())
    inputs = "const Data* deep, const Data* shallow, const float* boxes, const float* scale, const float* shift"
    numbers = ("per_target", "deep_channels", "shallow_channels", "height", "width", "channels_last")
    assert kinds == ", ".join([inputs, *(f"int {name}" for name in numbers), "Data* out"])


def test_types_that_the_kernel_does_not_take_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake.with_plugin_sources(monkeypatch)
    ours.register_plugin(trt, 75)
    with pytest.raises(BackendError, match="two maps of one float type and float32 for the rest"):
        build(trt, fake.DataType.HALF, fake.DataType.HALF)


def test_a_process_registers_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake.with_plugin_sources(monkeypatch)
    assert ours.register_plugin(trt, 75) == ours.register_plugin(trt, 75)
    monkeypatch.setattr(nvrtc, "compiled", lambda unit, architecture: b"code for another card\0")
    with pytest.warns(RuntimeWarning, match="registered for another card"):
        assert ours.register_plugin(trt, 90).kind == "none"


def test_the_node_is_of_the_plugins_name_and_namespace() -> None:
    # TensorRT's decorators refuse the empty namespace, and its parser finds a plugin by the node's attributes.
    assert PLUGIN == {"plugin_version": roi_plugin.VERSION, "plugin_namespace": roi_plugin.NAMESPACE}


def test_without_a_compiler_the_body_is_used_and_a_warning_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "compiled", Mock(side_effect=BackendError("no NVRTC was found")))
    with pytest.warns(RuntimeWarning, match="no NVRTC was found.*portable body is compiled instead"):
        assert ours.register_plugin(fake.make(), 75) == ours.Plugin("none", "")


def test_tensorrt_for_rtx_has_no_plugins() -> None:
    module = fake.make("1.7.1.116")
    module.__name__ = "tensorrt_rtx"
    with pytest.warns(RuntimeWarning, match="tensorrt_rtx 1.7.1.116 takes no plugins"):
        assert ours.register_plugin(module, 86).kind == "none"


@pytest.mark.parametrize(
    ("version", "quick", "wanted"),
    [
        ("11.4.0.106", True, True),
        ("10.9.0.34", True, True),
        ("10.8.0.43", False, False),
        ("10.16.1", True, True),
        ("10.8.0.43", True, False),
        ("1.7.1.116", True, False),
    ],
)
def test_versions_that_take_code_from_a_plugin(version: str, quick: bool, wanted: bool) -> None:
    assert ours.supports_ahead_of_time(fake.make(version, quick=quick)) == wanted


# The class in Python, for older versions.


def test_the_class_describes_the_same_operator_and_takes_the_formats_that_the_kernel_takes() -> None:
    trt = fake.make("10.4.0.26", quick=False)
    assert ours.register_plugin(trt, 70).kind == "python"
    creator = trt.get_plugin_registry().get_creator("FusedRoiCrop", "1", "spm")
    made = creator.create_plugin("FusedRoiCrop", [], trt.TensorRTPhase.BUILD)
    assert made.get_output_data_types([fake.DataType.HALF] * 2 + [fake.DataType.FLOAT] * 3) == [fake.DataType.HALF]
    for spec in MODELS.values():
        check_shapes(made, fake.ExprBuilder(), spec)
    assert made.num_outputs == 1
    assert made.get_capability_interface(None) is made
    kinds = fake.DataType
    types, layouts = (kinds.FLOAT, kinds.HALF, kinds.BF16, kinds.INT8), fake.TensorFormat
    for position, kind, layout in itertools.product(range(6), types, layouts):
        in_out = descriptions(fake.DataType.HALF)
        in_out[position] = fake.DynamicPluginTensorDesc((1,), kind, layout)
        maps = {0: kind != fake.DataType.INT8, 1: kind == fake.DataType.HALF, 5: kind == fake.DataType.HALF}
        wanted = layout == layouts.LINEAR and maps.get(position, kind == fake.DataType.FLOAT)
        assert made.supports_format_combination(position, in_out, 5) == wanted


def test_the_class_is_registered_once_and_refusals_are_named() -> None:
    trt = fake.make("10.4.0.26", quick=False)
    assert ours.register_plugin(trt, 70) == ours.register_plugin(trt, 70)
    other = fake.make("10.4.0.26", quick=False)
    other.get_plugin_registry().register_creator = lambda creator, namespace: False
    with pytest.warns(RuntimeWarning, match="did not take the plugin spm::FusedRoiCrop"):
        assert ours.register_plugin(other, 70).kind == "none"
