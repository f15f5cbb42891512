"""The TensorRT backend over an emulated driver and a stand-in for TensorRT whose engines are ONNX Runtime's."""

from __future__ import annotations

import dataclasses
import gc
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_rt import BackendError, Bundle, MultiTracker, Tracker
from spm_rt.backends.tensorrt.backend import TensorRtBackend
from spm_rt.backends.tensorrt.resident import TensorRtNetworks
from spm_rt.bundle import STAGES
from spm_rt.bundle.self_test import self_test_box, self_test_crop
from spm_rt.cache.engines import find_engine
from spm_rt.errors import EngineError
from spm_rt.resident import ResidentMultiTracker, ResidentTracker
from spm_rt.results import Box
from spm_rt.store import VARIABLE

from ..support.emulator.driver import CUresult
from ..support.emulator.engines import VERSION, Engines, write_engine
from ..support.emulator.networks import view
from ..support.follow import Frames, follow, results_on

MachineFor = Callable[[Bundle], Engines]


def test_an_int8_bundle_hands_on_float32(machine: Engines, bundle: Bundle, tmp_path: Path) -> None:
    """The engines here are float32's: what is looked at are the buffers between them."""
    int8 = dataclasses.replace(bundle, manifest={**bundle.manifest, "precision": "int8"})
    for stage in STAGES:
        write_engine(tmp_path / "engines", int8, stage)
    contexts = [TensorRtBackend(one).context() for one in (int8, bundle)]
    sizes = [{name: memory.size for name, memory in context._memory.items()} for context in contexts]
    assert sizes[0] == sizes[1]
    assert sizes[0]["deep"] == 4 * 384 * 34 * 34


def test_a_search_is_one_launch(machine: Engines, bundle: Bundle) -> None:
    context = TensorRtBackend(bundle).context()
    context.crop[:] = 100
    context.set_template(np.array([[90, 90, 180, 180]], np.float32))
    context.search()
    gc.collect()  # the context of the self-test goes now, not in the midst of the frame
    machine.emulator.calls.clear()
    context.search()
    assert machine.emulator.calls == ["cuGraphLaunch", "cuStreamSynchronize"]


def test_more_proposals_than_the_engine_is_for_are_refused(machine: Engines, bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="12 proposals; the relation engine is for 9"):
        TensorRtBackend(bundle).context().relate(np.zeros((1, 12, 4), np.float32))


def test_the_resident_tracker_runs_on_its_engines(machine: Engines, bundle: Bundle, clip: Frames) -> None:
    resident, plain = ResidentTracker.load(bundle, "tensorrt"), Tracker.load(bundle, "onnxruntime")
    np.testing.assert_allclose(follow(resident, clip[:4])[:, :4], follow(plain, clip[:4])[:, :4], atol=0.01)
    assert resident.graphs


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("kind", [ResidentTracker, ResidentMultiTracker])
def test_the_example_of_a_resident_tracker_runs(
    kind: Any, bundle: Bundle, clip: Frames, clip_box: Box, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The lines of code in the class's documentation, as they stand there."""
    lines = [line for line in kind.__doc__.splitlines() if line.startswith(8 * " ")]
    example = textwrap.dedent("\n".join(lines[: next(i for i, line in enumerate(lines) if "networks:" in line)]))
    (tmp_path / "spm_alexnet").symlink_to(bundle.path)
    monkeypatch.chdir(tmp_path)
    names = {kind.__name__: kind, "frames": clip[:3], **dict(zip(("x", "y", "width", "height"), clip_box, strict=True))}
    exec(example, names)
    assert "update" in example
    assert names["tracker"].settings == bundle.settings


def test_several_targets_share_engines_and_a_launch(
    machine_for: MachineFor, synthetic: Bundle, clip: Frames, clip_box: Box
) -> None:
    """Three targets in a batch of two and one of one."""
    machine = machine_for(synthetic)
    multi = ResidentMultiTracker.load(synthetic, "tensorrt")
    boxes = [clip_box, (0.0, 0.0, 50.0, 60.0), (250.0, 100.0, 60.0, 60.0)]
    singles = {multi.add(clip[0], box): Tracker.load(synthetic, "onnxruntime") for box in boxes}
    for single, box in zip(singles.values(), boxes, strict=True):
        single.init(clip[0], box)
    for frame in clip[1:3]:
        for id, result in multi.update(frame).items():
            np.testing.assert_allclose(result.box, singles[id].update(frame).box, atol=0.05)
    machine.emulator.calls.clear()
    multi.update(clip[4])
    assert machine.emulator.calls.count("cuGraphLaunch") == 2


def test_a_context_for_several_starts_without_templates(machine_for: MachineFor, synthetic: Bundle) -> None:
    """Fresh memory may hold anything; what was never put anywhere must be zeros."""
    machine_for(synthetic)
    networks = TensorRtNetworks(TensorRtBackend(synthetic, targets=2))
    for name in ("head_kernel", "head_bias", "target_half"):
        memory = networks._context._memory[name]
        assert (view(memory.address, (memory.size // 4,)) == 0).all(), name
    with pytest.raises(BackendError, match="templates are made one by one"):
        networks.set_template(np.zeros((1, 4), np.float32))


# Failures.


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (
            "deserialize",
            r"cannot load it on Emulated GPU \(compute capability 9\.0\): Error Code 6: no deserialize today",
        ),
        ("context", "no execution context for template: Error Code 6: no context today"),
        ("address", "does not take an address for crop"),
        ("enqueue search", "search could not be enqueued: Error Code 6: no enqueue search today"),
    ],
)
def test_what_tensorrt_refuses_is_named(refused: str, message: str, machine: Engines, bundle: Bundle) -> None:
    machine.refuse.add(refused)
    with pytest.raises(BackendError, match=message):
        TensorRtBackend(bundle)


@pytest.mark.parametrize("capability", [(7, 0), (9, 0), (10, 0)])
def test_cards_that_tensorrt_for_rtx_does_not_take_are_refused_before_anything_is_loaded(
    capability: tuple[int, int], machine: Engines, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", machine)
    machine.emulator.capability = capability
    machine.__version__ = "1.7.1.116"
    card = r"Emulated GPU: TensorRT for RTX 1\.7\.1\.116 does not run on compute capability {}\.{}, only on 7\.5, .*"
    with pytest.raises(
        BackendError, match=card.format(*capability) + "12.1 and later. Take --backend tensorrt, or pyto"
    ):
        TensorRtBackend(bundle, library="tensorrt_rtx")
    assert machine.logger is None


@pytest.mark.parametrize(
    ("capability", "version"),
    [((8, 6), "1.7.1.116"), ((12, 1), "1.4"), ((13, 0), "1.7.1.116"), ((9, 0), "1.8.0.1")],
)
def test_of_other_cards_and_later_versions_the_library_is_asked(
    capability: tuple[int, int],
    version: str,
    machine: Engines,
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """An error of its own is what comes out then."""
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", machine)
    machine.emulator.capability = capability
    machine.__version__ = version
    made = {"library": "tensorrt_rtx", "version": version, "target": "portable", "gpu": ""}
    write_engine(tmp_path / "engines", bundle, "template", **made)
    machine.refuse.add("deserialize")
    with pytest.raises(BackendError, match=r"cannot load it on .*: Error Code 6: no deserialize today"):
        TensorRtBackend(bundle, library="tensorrt_rtx")


def test_an_engine_with_other_tensors_is_refused(machine: Engines, bundle: Bundle) -> None:
    machine.extra_tensor = True
    with pytest.raises(BackendError, match=r"its tensors are .*surplus.*: not those of template"):
        TensorRtBackend(bundle)


@pytest.mark.filterwarnings("ignore:CUDA graphs")
def test_an_engine_that_gives_nonsense_is_refused(machine: Engines, bundle: Bundle) -> None:
    machine.nonsense = True
    with pytest.raises(BackendError, match="search gives nonsense"):
        TensorRtBackend(bundle)


# The self-test.


def test_engines_of_other_weights_are_noticed(machine: Engines, bundle: Bundle, synthetic: Bundle) -> None:
    machine.bundle = synthetic
    with pytest.raises(
        BackendError, match=r"self-test\): search\.scores by 0\.\d+ \(0\.0001 allowed\), search\.boxes by"
    ):
        TensorRtBackend(bundle)
    TensorRtBackend(dataclasses.replace(bundle, self_test=None))  # an older bundle has nothing to compare with


def test_an_error_in_the_last_stage_is_noticed(machine: Engines, bundle: Bundle) -> None:
    machine.off["relation"] = 0.0203
    with pytest.raises(
        BackendError, match=r"self-test\): relation\.scores by 0\.0203 .*, relation\.boxes by 0\.02\d* "
    ):
        TensorRtBackend(bundle)
    machine.off["relation"] = 1e-5
    TensorRtBackend(bundle)


# Half precision and several targets.


@pytest.mark.parametrize(("kind", "box_error", "score_error"), [("half", 0.1, 2e-3), ("float32", 0.01, 1e-4)])
def test_several_targets_are_tracked_as_each_alone(
    kind: str,
    box_error: float,
    score_error: float,
    half_bundle: Bundle,
    synthetic: Bundle,
    machine_for: MachineFor,
    clip: Frames,
    clip_box: Box,
) -> None:
    bundle = half_bundle if kind == "half" else synthetic
    machine = machine_for(bundle)
    backends = {targets: TensorRtBackend(bundle, targets=targets) for targets in bundle.targets}
    assert list(backends[2].engines) == ["search", "relation"]
    x, y, width, height = clip_box
    boxes = [clip_box, (x + 25, y + 10, width, height), (x - 30, y, width, height + 8)]  # batches of two and of one
    several = MultiTracker(backends.__getitem__, bundle.targets, bundle.spec, bundle.settings)
    ids = [several.add(clip[0], box) for box in boxes]
    singles = [Tracker(backends[1], bundle.spec, bundle.settings) for _ in boxes]
    for single, box in zip(singles, boxes, strict=True):
        single.init(clip[0], box)
    machine.emulator.calls.clear()
    for frame in clip[1:3]:
        found = several.update(frame)
        for id, single in zip(ids, singles, strict=True):
            wanted = single.update(frame)
            np.testing.assert_allclose(found[id].box, wanted.box, atol=box_error)
            assert found[id].score == pytest.approx(wanted.score, abs=score_error)
    # The first frame's work was captured and compared: search and relation of two batches here, and of three trackers.
    assert machine.emulator.calls.count("cuGraphInstantiate") == 2 * (2 + 3)


def test_half_precision_tracks_as_float32_does(
    half_bundle: Bundle, bundle: Bundle, machine_for: MachineFor, clip: Frames
) -> None:
    machine_for(half_bundle)
    backend = TensorRtBackend(half_bundle)
    assert "float16" in backend.description
    tracker = Tracker(backend, half_bundle.spec, half_bundle.settings)
    got, wanted = (follow(one, clip[:4]) for one in (tracker, Tracker.load(bundle, "onnxruntime")))
    np.testing.assert_allclose(got[:, :4], wanted[:, :4], atol=0.5)
    np.testing.assert_allclose(got[:, 4], wanted[:, 4], atol=0.01)
    context = tracker._context
    sizes = {name: memory.size for name, memory in context._memory.items()}  # type: ignore[attr-defined]
    maps = {name: sizes[name] for name in ("shallow", "deep", "head_kernel", "target_half", "head_bias", "crop")}
    cells, kernel = 34 * 34, 30 * 256 * 6 * 6
    assert maps == {
        "shallow": 2 * 256 * cells,
        "deep": 2 * 384 * cells,
        "head_kernel": 2 * kernel,
        "target_half": 2 * 256 * 36,
        "head_bias": 4 * 30,
        "crop": 4 * 3 * 271 * 271,
    }


def test_half_precision_templates_move_as_bytes(half_bundle: Bundle, machine_for: MachineFor) -> None:
    machine_for(half_bundle)
    one, two = (TensorRtBackend(half_bundle, targets=targets).context() for targets in (1, 2))
    first = self_test_crop(271)[0]
    crops = np.stack([first, first[::-1, ::-1]])
    wanted = []
    for slot in (0, 1):
        one.crop[:] = crops[slot]
        one.set_template(self_test_box())
        two.put_template(slot, one.template())
        wanted.append(one.search()[0][0].copy())
    two.crop[:] = crops
    np.testing.assert_allclose(two.search()[0], wanted, atol=2e-3)
    two.crop[:] = crops[::-1]
    assert np.abs(two.search()[0] - np.array(wanted)).max() > 0.3  # and each slot has its own
    with pytest.raises(BackendError, match="templates are made one by one"):
        two.set_template(np.tile(self_test_box(), (2, 1)))


def test_a_failed_capture_is_done_without(machine: Engines, bundle: Bundle, clip: Frames) -> None:
    machine.emulator.fail("cuStreamEndCapture", CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
    with pytest.warns(RuntimeWarning, match="CUDA graphs are not used: cuStreamEndCapture failed"):
        backend = TensorRtBackend(bundle)
    assert results_on(Tracker(backend, bundle.spec, bundle.settings), clip[:2])[0].found
    assert "cuGraphLaunch" not in machine.emulator.calls


def test_a_full_gpu_is_named(machine: Engines, bundle: Bundle) -> None:
    machine.emulator.fail("cuMemAlloc", CUresult.CUDA_ERROR_OUT_OF_MEMORY, after=3)
    with pytest.raises(BackendError, match="the GPU's memory is full"):
        TensorRtBackend(bundle)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("changed", "message"),
    [({"target": "sm_86"}, "built for sm_86"), ({"version": "10.8.0.43"}, "with tensorrt 10.8.0.43")],
)
def test_engines_for_something_else_are_named(
    changed: dict[str, Any], message: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "others" / "engines"
    folder.mkdir(mode=0o700, parents=True)
    monkeypatch.setenv(VARIABLE, str(folder.parent))
    for stage in STAGES:
        write_engine(folder, bundle, stage, **changed)
    with pytest.raises(EngineError, match=message):
        TensorRtBackend(bundle)


def test_without_a_folder_of_engines_it_says_what_to_do(
    machine: Engines, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "off")
    with pytest.raises(EngineError, match="Set SPM_RT_CACHE=FOLDER, to build and to load them"):
        TensorRtBackend(bundle)


def test_an_altered_engine_is_not_loaded(machine: Engines, bundle: Bundle, tmp_path: Path) -> None:
    (path,) = (tmp_path / "engines").glob("search*.plan")
    path.write_bytes(b"seArch 1")
    with pytest.raises(EngineError, match="not the plan that was built"):
        TensorRtBackend(bundle)


def test_an_engine_with_the_plugin_is_taken_first(machine: Engines, bundle: Bundle, tmp_path: Path) -> None:
    wanted = write_engine(tmp_path / "engines", bundle, "relation", plugin_sha256="ab" * 32)
    here = {"library": "tensorrt", "version": VERSION, "target": "sm_90", "gpu": "Emulated GPU"}
    assert find_engine(tmp_path / "engines", bundle, "relation", **here)[0] == wanted
    TensorRtBackend(bundle)


@pytest.mark.parametrize("device", ["cpu", "cuda:first", "gpu"])
def test_other_devices_are_refused(device: str, bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="runs on NVIDIA GPUs; give cuda or cuda:1"):
        TensorRtBackend(bundle, device=device)
