"""A bundle as one file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from spm_export.cli import main
from spm_export.pack import BEGINNING, pack_bundle
from spm_rt import Bundle, Tracker
from spm_rt.bundle import MANIFEST
from spm_rt.errors import BundleError, ExportError

from ..support.disk import full_disk


def test_the_bytes_depend_on_the_bundle_alone(default_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(default_bundle, tmp_path / "copy")
    (copy / "notes.txt").write_text("not of the bundle")
    for path in copy.iterdir():
        os.utime(path, (1e9, 1e9))
        path.chmod(0o600)
    first = pack_bundle(Bundle.open(default_bundle), tmp_path / "a.zip").read_bytes()
    assert pack_bundle(Bundle.open(copy), tmp_path / "b.zip").read_bytes() == first
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [MANIFEST, *sorted(Bundle.open(default_bundle).manifest["files"])]
        assert {(entry.date_time, entry.compress_type) for entry in archive.infolist()} == {(BEGINNING, 0)}
        archive.extractall(tmp_path / "again")
    assert Bundle.open(tmp_path / "again").manifest == Bundle.open(default_bundle).manifest


def test_the_command_packs_a_bundle_and_replaces_an_older_archive(
    default_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main([str(default_bundle), "--pack", str(tmp_path / "b.zip"), "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report == {"bundle": str(default_bundle), "packed": str(tmp_path / "b.zip")}
    assert [path.name for path in tmp_path.iterdir()] == ["b.zip"]


def test_packing_needs_neither_torch_nor_onnx(default_bundle: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules |= dict.fromkeys(('torch', 'onnx', 'onnx_ir', 'safetensors'))\n"
        f"from spm_export.cli import main\nsys.exit(main([{str(default_bundle)!r}, '--pack', 'b.zip', '--quiet']))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
    assert zipfile.is_zipfile(tmp_path / "b.zip")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pack", "b.zip"], "takes one bundle"),
        (["a", "b", "--pack", "b.zip"], "takes one bundle"),
        (["nowhere", "--pack", "b.zip"], "no such bundle"),
        (["cm_stage.pt", "--pack", "b.zip"], "give --out FOLDER too"),
    ],
)
def test_what_cannot_be_packed_is_named(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cm_stage.pt").write_bytes(b"weights")
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
    assert not Path("b.zip").exists()


def test_a_packed_bundle_is_tracked_with_and_packed_again_to_the_same_bytes(
    default_bundle: Path, tmp_path: Path
) -> None:
    packed = pack_bundle(Bundle.open(default_bundle), tmp_path / "a.zip")
    assert main([str(packed), "--pack", str(tmp_path / "b.zip"), "--quiet"]) == 0
    assert (tmp_path / "b.zip").read_bytes() == packed.read_bytes()
    frame = np.full((120, 160, 3), 90, np.uint8)
    with Tracker.load(packed) as tracker:
        tracker.init(frame, (60, 40, 30, 30))
        assert 0 <= tracker.update(frame).score <= 1


def test_a_file_that_changes_meanwhile_or_a_full_disk_leaves_the_older_archive(
    default_bundle: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(default_bundle, tmp_path / "copy")
    opened = Bundle.open(copy)
    before = pack_bundle(opened, tmp_path / "b.zip").read_bytes()
    with full_disk(1_000_000), pytest.raises(ExportError, match=r"b\.zip: cannot be written"):
        pack_bundle(opened, tmp_path / "b.zip")
    (copy / "search.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"search\.onnx: was altered while it was packed"):
        pack_bundle(opened, tmp_path / "b.zip")
    assert (tmp_path / "b.zip").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.zip", "copy"]
