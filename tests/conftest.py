"""What all tests share, made once per run: weights, models, bundles, frames; and the marker ``fast``.

Folders and arrays given out here are shared. Copy before you change one. Nothing here imports PyTorch, onnx or the
exporter before a test needs them.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

# PyTorch's threads shall sleep while they wait: on a busy machine, those that spin take most of its time. This has to
# be said before PyTorch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A worker process of a run has its share of the cores, and no thread more: threads of two workers on one core wait for
# each other, awake.
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    cores, workers = sorted(os.sched_getaffinity(0)), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    os.sched_setaffinity(0, cores[number % len(cores) :: workers] or cores)
# A shell's background job ignores Ctrl-C, what nohup starts a closed terminal, and so would the commands that tests
# start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
# Nothing depends on which library is faster today; what they compile is kept for the run, apart from the user's. The
# worker processes of a run inherit its folder.
os.environ["SPM_RT_AUTO"] = "fixed"
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["SPM_RT_CACHE"] = tempfile.mkdtemp(prefix="spm_rt_cache.")

import pytest

from spm_export.cli import DEMO_BOX, DEMO_CLIP
from spm_rt import Bundle, TrackerSettings
from spm_rt.media.video import frames
from spm_rt.results import Box

from .support.layers import is_fast, loaded_by_module, module_name, refuse_heavy_imports
from .support.once import MadeOnce

if TYPE_CHECKING:
    from spm_export.calibration import Calibration
    from spm_export.model.network import SPMTracker

    from .support.exports import Frames


def pytest_configure(config: pytest.Config) -> None:
    if config.option.markexpr == "fast":
        refuse_heavy_imports()


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ["SPM_RT_CACHE"], ignore_errors=True)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m fast``, modules that import a heavy library are not even imported."""
    if config.option.markexpr != "fast" or collection_path.suffix != ".py":
        return None
    return bool(loaded_by_module(module_name(collection_path))) or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and is_fast(item):
            item.add_marker("fast")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Garbage is looked for among what tests make, and not among modules and thousands of tests.

    In a whole run, ``gc.collect()`` took 0.4 s, and hundreds of tests or what they run call it; looking while modules
    are imported takes a quarter of the time of collecting tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Gives the path of what a function writes, written by one process of a test run."""
    return MadeOnce(tmp_path_factory)


@pytest.fixture(scope="session")
def synthetic_checkpoint(made_once: MadeOnce) -> tuple[Path, Path]:
    """cm_stage.pt and fm_stage.pt with synthetic weights (tests/support/synthetic.py)."""
    from .support.synthetic import write_checkpoint

    folder = made_once("synthetic_checkpoint", write_checkpoint)
    return folder / "cm_stage.pt", folder / "fm_stage.pt"


@pytest.fixture(scope="session")
def synthetic_model(synthetic_checkpoint: tuple[Path, Path]) -> SPMTracker:
    """The reference model with synthetic weights."""
    from spm_export.model.checkpoint import load_model

    return load_model(synthetic_checkpoint)


@pytest.fixture(scope="session")
def default_model() -> SPMTracker:
    """The reference model with the shipped weights."""
    from spm_export.model.checkpoint import load_model

    return load_model()


@pytest.fixture(scope="session")
def light_model(clip: Frames, clip_box: Box) -> SPMTracker:
    """The light reference model with random weights (tests/support/graphs/light.py)."""
    from spm_rt.frame.crop import crop_exact
    from spm_rt.frame.geometry import search_region, xywh_to_xyxy
    from spm_rt.models import LIGHT

    from .support.graphs.light import light_model

    region = search_region(xywh_to_xyxy(clip_box), LIGHT)
    return light_model(crop_exact(clip[0], region, LIGHT.crop_size)[None])


@pytest.fixture(scope="session", params=["synthetic_model", "light_model"])
def either_model(request: pytest.FixtureRequest) -> SPMTracker:
    """The reference model of each backbone with weights without training."""
    model: SPMTracker = request.getfixturevalue(request.param)
    return model


@pytest.fixture(scope="session")
def clip() -> Frames:
    """All frames of the shipped clip, read-only."""
    pictures = list(frames(DEMO_CLIP))
    for picture in pictures:
        picture.flags.writeable = False
    return pictures


@pytest.fixture(scope="session")
def clip_box() -> Box:
    """The target in the clip's first frame, x, y, width, height."""
    return DEMO_BOX


@pytest.fixture(scope="session")
def calibration(default_model: SPMTracker, clip: Frames, clip_box: Box) -> Calibration:
    """What int8 needs: the shipped weights on a few frames."""
    from spm_export.calibration import calibrate

    return calibrate(default_model, TrackerSettings(), [("clip", lambda: clip[:8], clip_box)])


@pytest.fixture(scope="session")
def light_calibration(light_model: SPMTracker, clip: Frames, clip_box: Box) -> Calibration:
    """The same of the light model."""
    from spm_export.calibration import calibrate

    return calibrate(light_model, TrackerSettings(), [("clip", lambda: clip[:6], clip_box)])


@pytest.fixture(scope="session", params=["default_model calibration", "light_model light_calibration"])
def calibrated(request: pytest.FixtureRequest) -> tuple[SPMTracker, Calibration]:
    """The reference model of each backbone, and what int8 of it needs."""
    model, calibration = map(request.getfixturevalue, request.param.split())
    return model, calibration


@pytest.fixture(scope="session")
def synthetic_bundle(made_once: MadeOnce, synthetic_model: SPMTracker, clip: Frames) -> Path:
    """A verified bundle of the synthetic weights: opset 17, graphs for one target and for two."""
    from .support.exports import ExportOptions, export_quickly

    options = ExportOptions(targets=(1, 2), source="synthetic weights")
    return made_once("synthetic_bundle", lambda path: export_quickly(synthetic_model, path, options, clip, DEMO_BOX))


@pytest.fixture(scope="session")
def light_bundle(made_once: MadeOnce, light_model: SPMTracker, clip: Frames) -> Path:
    """A verified bundle of the light model: opset 17, graphs for one target and for two."""
    from .support.exports import ExportOptions, export_quickly

    options = ExportOptions(targets=(1, 2), source="random weights")
    return made_once("light_bundle", lambda path: export_quickly(light_model, path, options, clip, DEMO_BOX))


@pytest.fixture(scope="session", params=["synthetic_bundle", "light_bundle"])
def either_bundle(request: pytest.FixtureRequest) -> Path:
    """A verified bundle of each backbone, for one target and for two."""
    folder: Path = request.getfixturevalue(request.param)
    return folder


@pytest.fixture(scope="session")
def default_bundle(made_once: MadeOnce, default_model: SPMTracker, clip: Frames) -> Path:
    """A verified bundle of the shipped weights: opset 17, graphs for one target."""
    from .support.exports import ExportOptions, export_quickly

    options = ExportOptions(source="shipped weights")
    return made_once("default_bundle", lambda path: export_quickly(default_model, path, options, clip, DEMO_BOX))


@pytest.fixture(scope="session")
def bundle(default_bundle: Path) -> Bundle:
    """The shipped weights' bundle, opened."""
    return Bundle.open(default_bundle)


@pytest.fixture(scope="session")
def synthetic(synthetic_bundle: Path) -> Bundle:
    """The synthetic weights' bundle, opened."""
    return Bundle.open(synthetic_bundle)
