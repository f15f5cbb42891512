"""Where a bundle may be written: what is not ours is never replaced, and this is known before the work."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from spm_export import place
from spm_export.cli import main
from spm_export.pack import check_archive_place
from spm_export.place import check_place, put_in_place
from spm_rt.bundle import FORMAT, MANIFEST
from spm_rt.errors import ExportError
from spm_rt.files import file_digest, seal_manifest


def small_bundle(folder: Path, content: bytes = b"graph") -> Path:
    """Something that has a sealed manifest, as bundles of any version have."""
    folder.mkdir(parents=True)
    (folder / "search.onnx").write_bytes(content)
    facts = {"bytes": len(content), "sha256": file_digest(folder / "search.onnx")}
    manifest = {"format": FORMAT, "format_version": 1, "files": {"search.onnx": facts}}
    (folder / MANIFEST).write_bytes(seal_manifest(manifest))
    return folder


def contents(folder: Path) -> dict[str, bytes | None]:
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def web_extension(target: Path) -> None:
    (target / "src").mkdir(parents=True)
    (target / MANIFEST).write_text("{}")
    (target / "src" / "main.js").write_text("alert(1)")


def photos(target: Path) -> None:
    target.mkdir()
    (target / "cat.jpg").write_bytes(b"meow")


def altered(target: Path) -> None:
    small_bundle(target)
    (target / MANIFEST).write_bytes((target / MANIFEST).read_bytes().replace(b'"bytes": 5', b'"bytes": 6'))


def other_format(target: Path) -> None:
    target.mkdir()
    (target / MANIFEST).write_bytes(seal_manifest({"format": "another tool", "files": {"a": {}}}))


def with_notes(target: Path) -> None:
    small_bundle(target)
    (target / "notes.txt").write_text("what I found out")


def with_a_folder(target: Path) -> None:
    small_bundle(target)
    (target / "clips").mkdir()


def names_files_elsewhere(target: Path) -> None:
    """A sealed manifest whose list leads out of the folder: no such file is ever ours."""
    photos(target.with_name("photos"))
    target.mkdir()
    listed = {"../photos/cat.jpg": {}, "notes.txt": {}}
    (target / MANIFEST).write_bytes(seal_manifest({"format": FORMAT, "files": listed}))
    (target / "more.txt").write_text("mine")


def linked(target: Path) -> None:
    target.symlink_to(small_bundle(target.with_name("elsewhere")))


def dangling(target: Path) -> None:
    target.symlink_to(target.with_name("nowhere"))


TAKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a browser extension": (web_extension, "is no bundle, or one whose manifest.json was altered.*manifest.json, src"),
    "photographs": (photos, "is no bundle.*cat.jpg"),
    "a file": (lambda target: target.write_text("years of work"), "is a file; a bundle is a folder"),
    "an altered manifest": (altered, "is no bundle, or one whose manifest.json was altered"),
    "a sealed manifest of another tool": (other_format, "is no bundle"),
    "a bundle with notes": (with_notes, r"holds files that are not of the bundle there \(notes.txt\)"),
    "a bundle with a folder": (with_a_folder, r"holds files that are not of the bundle there \(clips\)"),
    "a manifest that names files elsewhere": (names_files_elsewhere, "more.txt"),
    "a link to a bundle": (linked, "is a link"),
    "a link to nowhere": (dangling, "is a link"),
}


@pytest.mark.parametrize(("make", "message"), TAKEN.values(), ids=TAKEN.keys())
def test_what_is_not_ours_is_refused_before_the_work_and_left_alone(
    make: Callable[[Path], object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command, which is not asked to read a checkpoint that there is not: the place comes first."""
    make(tmp_path / "target")
    before = contents(tmp_path)
    assert main(["no_such.pt", "--out", str(tmp_path / "target")]) == 1
    with pytest.raises(ExportError, match=message):
        check_place(tmp_path / "target")
    assert "no_such.pt" not in capsys.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (".", "is the current folder or holds it"),
        ("..", "is the current folder or holds it"),
        ("/", "is the current folder or holds it"),
        ("home", "is your home folder or holds it"),
        ("nowhere/bundle", "nowhere: no such folder"),
        ("a\0b", "cannot be written"),
        ("x" * 300, "cannot be written"),
    ],
)
def test_places_that_are_no_folder_of_a_bundle_s_own(
    target: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "home").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "work" / "home"))
    with pytest.raises(ExportError, match=message):
        check_place(Path(target))


def test_a_mount_point_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "volume").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "volume")
    with pytest.raises(ExportError, match="is a mount point; give a folder in it"):
        check_place(tmp_path / "volume")


@pytest.fixture(params=[True, False], ids=["exchanged in one step", "renamed one by one"])
def one_step(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """How a new bundle takes an older one's place; the second is for systems that cannot exchange names."""
    if not request.param:
        monkeypatch.setattr(place, "_exchange", lambda *_: False)
    return bool(request.param)


def make_older(target: Path) -> None:
    small_bundle(target, b"older")


def make_empty(target: Path) -> None:
    target.mkdir()


def make_cluttered(target: Path) -> None:
    small_bundle(target, b"older")
    (target / ".DS_Store").write_bytes(b"finder")


@pytest.mark.parametrize("make", [make_older, make_empty, make_cluttered, lambda target: None])
def test_an_older_bundle_an_empty_folder_or_nothing_gives_way(
    make: Callable[[Path], None], one_step: bool, tmp_path: Path
) -> None:
    make(tmp_path / "bundle")
    check_place(tmp_path / "bundle")
    part = tmp_path / "part"
    put_in_place(small_bundle(part / "new", b"newer"), tmp_path / "bundle")
    assert (tmp_path / "bundle" / "search.onnx").read_bytes() == b"newer"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "part"]


def test_a_file_that_appears_during_the_work_stops_the_exchange(tmp_path: Path, one_step: bool) -> None:
    new, target = small_bundle(tmp_path / "new", b"newer"), small_bundle(tmp_path / "bundle", b"older")
    (target / "notes.txt").write_text("just written")
    with pytest.raises(ExportError, match=r"notes\.txt"):
        put_in_place(new, target)
    assert (target / "search.onnx").read_bytes() == b"older"
    assert (target / "notes.txt").read_text() == "just written"


def test_a_file_that_appears_at_the_last_moment_is_brought_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, target = small_bundle(tmp_path / "new", b"newer"), small_bundle(tmp_path / "bundle", b"older")
    exchange = place._exchange

    def late(one: Path, other: Path) -> bool:
        (target / "notes.txt").write_text("just written")
        return exchange(one, other)

    if not exchange(new, target) or not exchange(new, target):
        pytest.skip("this system cannot exchange two names")
    monkeypatch.setattr(place, "_exchange", late)
    with pytest.raises(ExportError, match=r"notes\.txt"):
        put_in_place(new, target)
    assert (target / "search.onnx").read_bytes() == b"older"


def test_a_second_rename_that_fails_brings_the_older_bundle_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, target = small_bundle(tmp_path / "new", b"newer"), small_bundle(tmp_path / "bundle", b"older")
    before, rename = contents(tmp_path), Path.rename
    monkeypatch.setattr(place, "_exchange", lambda *_: False)

    def fails_for_the_new_one(path: Path, other: Path) -> Path:
        if path == new:
            raise KeyboardInterrupt
        return rename(path, other)

    monkeypatch.setattr(Path, "rename", fails_for_the_new_one)
    with pytest.raises(KeyboardInterrupt):
        put_in_place(new, target)
    assert contents(tmp_path) == before


# A bundle as one file.


def text_file(path: Path) -> None:
    path.write_text("my archive, really")


def other_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MANIFEST, "{}")
        archive.writestr("main.js", "alert(1)")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("b.tar", None, r"name ends in \.zip"),
        ("b", None, r"name ends in \.zip"),
        ("nowhere/b.zip", None, "nowhere: no such folder"),
        ("b.zip", text_file, "exists and is no packed bundle"),
        ("b.zip", other_archive, "exists and is no packed bundle"),
        ("b.zip", Path.mkdir, "exists and is no packed bundle"),
    ],
)
def test_an_archive_is_never_written_over_something_else(
    name: str, make: Callable[[Path], object] | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if make:
        make(path)
    before = contents(tmp_path)
    assert main(["no_such.pt", "--out", str(tmp_path / "bundle"), "--pack", str(path)]) == 1
    with pytest.raises(ExportError, match=message):
        check_archive_place(path)
    assert contents(tmp_path) == before
