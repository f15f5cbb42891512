"""Wherever a bundle lies, every library loads it: packed, behind the links of a model hub's cache, under any name."""

from __future__ import annotations

import logging
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from spm_rt import Tracker
from spm_rt.backends import available
from spm_rt.results import Box

from ...support.follow import Frames

BACKENDS = [name for name in ("onnxruntime", "openvino", "pytorch") if name in available()]


def hub(bundle: Path, place: Path) -> Path:
    """Files are links to blobs beside the folder."""
    (place / "blobs").mkdir(parents=True)
    snapshot = place / "snapshots" / "1f2e"
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(bundle.iterdir())):
        shutil.copy(path, place / "blobs" / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    return snapshot


def not_utf8(bundle: Path, place: Path) -> Path:
    return Path(shutil.copytree(bundle, place.parent / os.fsdecode(b"b\xfcndel")))


def packed(bundle: Path, place: Path) -> Path:
    with zipfile.ZipFile(place, "w") as archive:
        for path in bundle.iterdir():
            archive.write(path, f"spm_alexnet/{path.name}")
    return place


@pytest.fixture(scope="module")
def wanted(default_bundle: Path, clip: Frames, clip_box: Box) -> dict[str, Box]:
    """Where each library finds the target when the bundle lies in a usual folder."""
    return {name: second_box(default_bundle, name, clip, clip_box) for name in BACKENDS}


def second_box(bundle: Path, backend: str, clip: Frames, box: Box) -> Box:
    with Tracker.load(bundle, backend) as tracker:
        tracker.init(clip[0], box)
        return tracker.update(clip[1]).box


@pytest.mark.parametrize("make", [hub, not_utf8, packed])
def test_every_library_loads_it(
    make: Callable[[Path, Path], Path],
    default_bundle: Path,
    wanted: dict[str, Box],
    clip: Frames,
    clip_box: Box,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "spm_rt")
    place = make(default_bundle, tmp_path / "place")
    assert {name: second_box(place, name, clip, clip_box) for name in BACKENDS} == wanted
    assert "its files are in" in caplog.text
    assert caplog.text.encode()  # any file of log lines can take it
