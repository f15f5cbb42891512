"""Choosing a backend, and what CONTRIBUTING.md ("Add a backend") asks of every one in the table."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import spm_rt.backends
from spm_rt import BackendError, Bundle, Tracker
from spm_rt.backends import BACKENDS, available, load_backend
from spm_rt.backends.protocol import DeviceFrameContext, Load, SlotContext
from spm_rt.backends.registry import BackendEntry
from spm_rt.precision import PRECISIONS
from spm_rt.results import Box

from ...support.contexts import noise, some_proposals, take_template
from ...support.emulator.engines import machine_with
from ...support.emulator.host_build import built_for_the_host
from ...support.emulator.onnxruntime_gpu import DeviceBackend
from ...support.follow import Frames, follow

ROOT = Path(__file__).parents[3]
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def bundle(synthetic_bundle: Path) -> Bundle:
    return Bundle.open(synthetic_bundle)


@pytest.fixture(scope="module")
def either(either_bundle: Path) -> Bundle:
    return Bundle.open(either_bundle)


ON_A_GPU = dataclasses.replace(BACKENDS["onnxruntime"], name="onnxruntime on a GPU")
also_on_a_gpu = pytest.mark.parametrize("entry", [*BACKENDS.values(), ON_A_GPU], ids=lambda e: e.name, indirect=True)


@pytest.fixture(params=BACKENDS.values(), ids=BACKENDS)
def entry(request: pytest.FixtureRequest) -> BackendEntry:
    entry: BackendEntry = request.param
    return entry


@pytest.fixture
def load(entry: BackendEntry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """``load_backend`` of the entry on a bundle: over stand-ins for its library and the GPU that it would need."""

    def loaded(bundle: Bundle, **options: Any) -> Any:
        if entry.folder == "tensorrt":
            if not (tmp_path / "engines").exists():
                machine_with(bundle, built_for_the_host(), monkeypatch, tmp_path / "engines", entry.library)
            return load_backend(bundle, entry.name, device="cuda", **options)
        if not entry.installed:
            pytest.skip(f"{entry.package} is not installed")
        if entry is ON_A_GPU:
            return DeviceBackend(bundle, **options)
        return load_backend(bundle, entry.name, **options)

    return loaded


# Choosing.


def without(*missing: str) -> Callable[..., Any]:
    """find_spec on a machine that lacks some packages."""
    real = importlib.util.find_spec
    return lambda name, *rest: None if name in missing else real(name, *rest)


def test_unknown_backends_are_named(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=r"backend 'caffe' is unknown; there are: auto, onnxruntime"):
        load_backend(bundle, "caffe")


def test_a_library_that_is_not_installed_is_named(
    entry: BackendEntry, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", without(entry.library))
    with pytest.raises(BackendError, match=f"needs the package {entry.package}: `pip install {entry.package}`"):
        load_backend(bundle, entry.name)


UNKNOWN_DEVICES = [
    *(("onnxruntime", device, f"device {device!r} is unknown") for device in ("abacus", "", "CPU Execution", "npu")),
    ("onnxruntime", "cuda:first", "after the colon must be a number"),
    *(("openvino", device, f"device {device!r}") for device in ("abacus", "")),
    *(("pytorch", device, f"device {device!r} is unknown to pytorch") for device in ("gpu", "cuda:first", "", "meta")),
]


@pytest.mark.parametrize(("name", "device", "message"), UNKNOWN_DEVICES)
def test_unknown_devices_are_named(name: str, device: str, message: str, bundle: Bundle) -> None:
    if not BACKENDS[name].installed:
        pytest.skip(f"{BACKENDS[name].package} is not installed")
    with pytest.raises(BackendError, match=message):
        load_backend(bundle, name, device=device)


def test_auto_without_any_library_says_what_to_install(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", without(*(entry.library for entry in BACKENDS.values())))
    assert available() == []
    with pytest.raises(BackendError, match="no inference library is installed: `pip install onnxruntime`"):
        load_backend(bundle)


def test_auto_takes_the_first_that_is_installed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [entry.library for entry in BACKENDS.values() if entry.name != "onnxruntime"]
    monkeypatch.setattr(importlib.util, "find_spec", without(*others))
    assert available() == ["onnxruntime"]
    assert load_backend(bundle).name == "onnxruntime"


def test_auto_where_nothing_offers_the_precision_says_so(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", without("openvino", "torch"))
    with pytest.raises(BackendError, match=r"precision 'bfloat16': of what is installed \(.*\), nothing offers it"):
        load_backend(bundle, precision="bf16")


# The checklist.


def test_its_folder_has_a_load_that_takes_what_every_backend_takes(entry: BackendEntry) -> None:
    folder = Path(spm_rt.backends.__file__).parent / entry.folder
    assert (folder / "__init__.py").read_text().startswith('"""')
    module: Any = importlib.import_module(f"spm_rt.backends.{entry.folder}.backend")
    parameters = inspect.signature(module.load).parameters
    asked = list(inspect.signature(Load.__call__).parameters)[1:]
    assert list(parameters)[: len(asked)] == asked
    assert entry.options.keys() <= set(parameters) - set(asked)
    if entry.resident:
        assert hasattr(importlib.import_module(f"spm_rt.backends.{entry.folder}.resident"), "make_networks")


def test_an_extra_of_the_package_installs_its_library(entry: BackendEntry) -> None:
    extras = (
        (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("[project.scripts]")[0]
    )
    assert any(f'= ["{entry.package}>=' in line for line in extras.splitlines())


def test_the_documentation_names_it(entry: BackendEntry) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert any(f"`{entry.name}`" in page.read_text() or f"--backend {entry.name}" in page.read_text() for page in pages)


def test_it_has_tests_of_its_own(entry: BackendEntry) -> None:
    assert list((ROOT / "tests").rglob(f"test_{entry.folder}.py"))


def test_it_says_what_it_is_and_its_contexts_have_slots(
    entry: BackendEntry, load: Callable[..., Any], bundle: Bundle
) -> None:
    backend = load(bundle)
    assert backend.name == entry.name
    assert entry.library in backend.description
    context = backend.context()
    assert isinstance(context, SlotContext)
    assert context.crop.shape == (1, 3, bundle.spec.crop_size, bundle.spec.crop_size)
    assert isinstance(context, DeviceFrameContext) or not entry.resident


def test_a_precision_that_it_offers_is_taken_in_both_spellings(
    entry: BackendEntry, load: Callable[..., Any], bundle: Bundle
) -> None:
    for precision in (PRECISIONS[name] for name in entry.precisions):
        if entry.name == "openvino" and precision.name == "bfloat16":
            continue  # not every CPU has it: test_openvino.py
        for spelling in (precision.name, precision.alias):
            description = load(bundle, precision=spelling).description
            assert entry.name == "onnxruntime" or precision.name in description


def test_a_precision_that_it_does_not_offer_is_refused_in_words(
    entry: BackendEntry, load: Callable[..., Any], bundle: Bundle
) -> None:
    load(bundle)
    for precision in PRECISIONS.keys() - set(entry.precisions):
        with pytest.raises(BackendError, match=r"does not offer precision|is unknown; there are: float32"):
            load(bundle, precision=precision)


def all_stages(load: Callable[..., Any], targets: int, most: int) -> list[Floats]:
    """What search gives for ``targets`` templates, and relation for ``most`` proposals of each, then for fewer."""
    proposals = some_proposals(targets, most)
    single, context = (load(targets=number).context() for number in (1, targets))
    for slot in range(targets):
        take_template(single, seed=slot)
        context.put_template(slot, single.template())
    context.crop[:] = noise(context.crop.shape, 7)
    arrays = [*context.search()]
    for count in (most, 1, 2, 5, 9, 4):
        arrays += [array.copy() for array in context.relate(proposals[:, :count])]
    return arrays


@pytest.fixture(scope="module")
def onnx_runtime_stages(either: Bundle) -> Callable[[int, int], list[Floats]]:
    """:func:`all_stages` of ONNX Runtime, which every backend is compared with."""
    return functools.cache(functools.partial(all_stages, functools.partial(load_backend, either, "onnxruntime")))


@pytest.fixture(scope="module")
def onnx_runtime_track(default_bundle: Path, clip: Frames, clip_box: Box) -> NDArray[np.float64]:
    """What ONNX Runtime gives on the beginning of the clip."""
    return follow(Tracker.load(default_bundle, "onnxruntime"), clip[:6], clip_box)


@also_on_a_gpu
@pytest.mark.parametrize("targets", [1, 2])
def test_all_stages_agree_with_onnx_runtime(
    targets: int,
    entry: BackendEntry,
    load: Callable[..., Any],
    either: Bundle,
    onnx_runtime_stages: Callable[[int, int], list[Floats]],
) -> None:
    """For any number of proposals; each is scored as it is among others."""
    most = 9 if entry.folder == "tensorrt" else 12
    found = all_stages(functools.partial(load, either), targets, most)
    for number, (got, wanted) in enumerate(zip(found, onnx_runtime_stages(targets, most), strict=True)):
        allowed = 1e-3 if number % 2 else 1e-5
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, atol=allowed)
        if number > 3:
            np.testing.assert_allclose(got, found[2 + number % 2][:, : got.shape[1]], atol=allowed)


@also_on_a_gpu
def test_contexts_do_not_mix_and_templates_move_between_them(load: Callable[..., Any], either: Bundle) -> None:
    backend = load(either)
    first, second = backend.context(), backend.context()
    for context, seed in ((first, 1), (second, 2)):
        take_template(context, seed)
    scores, others = first.search()[0].copy(), second.search()[0].copy()
    assert np.abs(scores - others).max() > 1e-3
    np.testing.assert_array_equal(first.search()[0], scores)
    second.put_template(0, first.template())
    second.crop[:] = first.crop
    np.testing.assert_array_equal(second.search()[0], scores)


@also_on_a_gpu
def test_it_tracks_as_onnx_runtime_does(
    load: Callable[..., Any],
    default_bundle: Path,
    clip: Frames,
    clip_box: Box,
    onnx_runtime_track: NDArray[np.float64],
) -> None:
    bundle, wanted = Bundle.open(default_bundle), onnx_runtime_track
    found = follow(Tracker(load(bundle), bundle.spec, bundle.settings), clip[:6], clip_box)
    np.testing.assert_allclose(found[:, :4], wanted[:, :4], atol=0.01)
    np.testing.assert_allclose(found[:, 4:], wanted[:, 4:], atol=1e-4)
