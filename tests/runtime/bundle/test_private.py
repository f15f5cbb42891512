"""Packed bundles, bundles of links, paths that libraries cannot read: whole and verified, or refused with a word."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import random
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from spm_rt import Bundle, BundleError, CopyError
from spm_rt.bundle import MANIFEST
from spm_rt.store import VARIABLE

from ...support.fakes.bundle import small_bundle
from ...support.processes.children import ends_in_child

Change = Callable[[zipfile.ZipFile, Path], object]
CACHES = ("cache", "off", "in the way")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_bundle(tmp_path / "bundle")


@pytest.fixture(params=CACHES)
def cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where things can be kept, where not, and where a file lies in the place of the folder."""
    (tmp_path / "in the way").touch()
    monkeypatch.setenv(VARIABLE, "off" if request.param == "off" else str(tmp_path / request.param))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return str(request.param)


def pack(folder: Path, path: Path, top: str = "", method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{top}{file.name}")
    return path


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "entry.json"}


def left_in(tmp_path: Path) -> list[Path]:
    """Temporary folders, and what a writer left in the cache."""
    return [*(tmp_path / "tmp").iterdir(), *tmp_path.glob("cache/bundles/.spm_part*")]


@pytest.mark.parametrize("top", ["", "spm_alexnet/", "two words/", "b\u00fcndel/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_packed_bundle_opens_like_its_folder(top: str, method: int, folder: Path, cache: str, tmp_path: Path) -> None:
    packed = pack(folder, tmp_path / "bundle.zip", top, method)
    opened = [Bundle.open(packed), Bundle.open(os.fsencode(packed))]
    for bundle in opened:
        assert contents_of(bundle.path) == contents_of(folder)
        assert bundle.manifest == Bundle.open(folder).manifest
    assert (opened[0].path == opened[1].path) == (cache == "cache")


def test_a_temporary_folder_is_there_as_long_as_its_bundle(folder: Path, tmp_path: Path) -> None:
    os.environ[VARIABLE], before = "off", os.environ[VARIABLE]
    try:
        bundle = Bundle.of(Bundle.open(pack(folder, tmp_path / "bundle.zip")))
    finally:
        os.environ[VARIABLE] = before
    place = bundle.path
    gc.collect()
    assert ends_in_child(lambda: None) == 0
    assert place.is_dir()
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    del bundle
    gc.collect()
    assert not place.exists()


KILLED = """
import os, signal, sys
from spm_rt import Bundle
bundle = Bundle.open(sys.argv[1])
print(bundle.path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no such signals and locks on this system")
def test_what_a_killed_process_unpacked_is_removed_by_the_next(folder: Path, tmp_path: Path) -> None:
    packed = pack(folder, tmp_path / "bundle.zip")
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, VARIABLE: "off", "TMPDIR": str(tmp_path / "tmp")}
    left = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(packed)], env=environment, capture_output=True, text=True, timeout=60
        )
        left.append(Path(done.stdout.strip()))
        assert left_in(tmp_path) == [left[-1]], done.stderr


def test_bundles_may_be_copied_but_not_sent_away_from_their_temporary_folder(
    folder: Path, cache: str, tmp_path: Path
) -> None:
    bundle = copy.deepcopy(Bundle.open(pack(folder, tmp_path / "bundle.zip")))
    assert contents_of(bundle.path) == contents_of(folder)
    assert repr(bundle) == f"<Bundle {str(bundle.path)!r}: float32, graphs for 1, 2 target(s)>"
    if cache == "cache":
        assert pickle.dumps(bundle)
    else:
        with pytest.raises(CopyError, match="open it in the other one"):
            pickle.dumps(bundle)


def test_what_lies_beside_the_bundle_is_left_alone(folder: Path, cache: str, tmp_path: Path) -> None:
    packed = pack(folder, tmp_path / "bundle.zip", "top/")
    with zipfile.ZipFile(packed, "a") as archive:
        for name in (
            "__MACOSX/top/._manifest.json",
            "../outside",
            "/root",
            "top/deeper/manifest.json",
            "top/notes.txt",
        ):
            archive.writestr(name, b"mine")
    bundle = Bundle.open(packed)
    assert contents_of(bundle.path) == contents_of(folder)
    assert not (tmp_path / "outside").exists()


def add(name: str, content: bytes = b"x", mode: int = 0, method: int = zipfile.ZIP_STORED) -> Change:
    """A member more."""
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, method
    return lambda archive, _: archive.writestr(info, content)


def write_all_but(*left_out: str) -> Change:
    def write(archive: zipfile.ZipFile, folder: Path) -> None:
        for file in sorted(folder.iterdir()):
            if file.name not in left_out:
                archive.write(file, file.name)

    return write


def both(*changes: Change) -> Change:
    return lambda archive, folder: [change(archive, folder) for change in changes]


WEIGHTS = "weights.safetensors"
ALL, NO_WEIGHTS = write_all_but(), write_all_but(WEIGHTS)
REFUSED: dict[str, tuple[str, Change]] = {
    "nothing": ("no manifest.json in it", both()),
    "no manifest": ("no manifest.json in it", write_all_but(MANIFEST)),
    "a manifest too deep": ("no manifest.json in it", add("a/b/manifest.json")),
    "another manifest": ("not the manifest", add(MANIFEST, b"{}")),
    "a file missing": (f"{WEIGHTS} is not in it", NO_WEIGHTS),
    "a file of another size": (f"{WEIGHTS} has 1 bytes in it instead of 2048", both(NO_WEIGHTS, add(WEIGHTS))),
    "a file altered": (f"{WEIGHTS}: not what manifest.json says", both(NO_WEIGHTS, add(WEIGHTS, bytes(2048)))),
    "a file twice": (f"'{WEIGHTS}' is in it twice", both(ALL, add(WEIGHTS))),
    "two bundles": ("2 files called manifest.json", both(ALL, add(f"top/{MANIFEST}"))),
    "a link": (f"'{WEIGHTS}' is a link", both(NO_WEIGHTS, add(WEIGHTS, b"/etc/passwd", stat.S_IFLNK | 0o777))),
    "another method": ("another method than deflate", both(NO_WEIGHTS, add(WEIGHTS, method=zipfile.ZIP_BZIP2))),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_other_archives_are_refused_and_leave_nothing(kind: str, folder: Path, cache: str, tmp_path: Path) -> None:
    message, write = REFUSED[kind]
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        write(archive, folder)
    with pytest.raises(BundleError, match=message):
        Bundle.open(tmp_path / "bundle.zip")
    gc.collect()
    assert left_in(tmp_path) == []


def test_an_encrypted_member_is_refused(folder: Path, cache: str, tmp_path: Path) -> None:
    packed = pack(folder, tmp_path / "bundle.zip")
    content = bytearray(packed.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 8] |= 1
    packed.write_bytes(content)
    with pytest.raises(BundleError, match="is encrypted"):
        Bundle.open(packed)


def test_a_bomb_is_unpacked_no_further_than_the_manifest_says(folder: Path, cache: str, tmp_path: Path) -> None:
    """Its directory says what the manifest says; the member itself goes on for 64 MB."""
    packed = tmp_path / "bundle.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        NO_WEIGHTS(archive, folder)
        archive.writestr(WEIGHTS, bytes(1 << 26))
    content = packed.read_bytes().replace((1 << 26).to_bytes(4, "little"), (2048).to_bytes(4, "little"))
    packed.write_bytes(content)
    with pytest.raises(BundleError, match=f"not what {MANIFEST} says|not a packed bundle, or damaged"):
        Bundle.open(packed)
    gc.collect()
    assert left_in(tmp_path) == []


def test_damage_anywhere_is_refused_or_harmless(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes changed, cut off or put in: either an error of ours, or the bundle as it was."""
    monkeypatch.setenv(VARIABLE, "off")
    packed, rng = pack(folder, tmp_path / "bundle.zip"), random.Random(4)
    whole, wanted = packed.read_bytes(), contents_of(folder)
    refused = harmless = 0
    for turn in range(400):
        content = bytearray(whole)
        place = rng.randrange(len(whole)) if turn % 2 else rng.randrange(len(whole) - 1500, len(whole))
        match turn % 3:
            case 0:
                content[place] ^= 1 << rng.randrange(8)
            case 1:
                del content[place:]
            case 2:
                content[place:place] = rng.randbytes(rng.randrange(1, 9))
        packed.write_bytes(content)
        try:
            bundle = Bundle.open(packed)
        except BundleError as error:
            refused += "\n" not in str(error)
        else:
            assert contents_of(bundle.path) == wanted
            harmless += 1
    assert refused + harmless == 400
    assert refused > 200


# Links and names.


def hub(folder: Path, place: Path) -> Path:
    """As caches of model hubs are laid out."""
    blobs, snapshot = place / "blobs", place / "snapshots" / "1f2e"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, blobs / f"hash{number}")
        (snapshot / file.name).symlink_to(f"../../blobs/hash{number}")
    return snapshot


def one_linked(folder: Path, place: Path, name: str = WEIGHTS) -> Path:
    shutil.copytree(folder, place)
    (place / name).unlink()
    (place / name).symlink_to(folder.absolute() / name)
    return place


def linked_folder(folder: Path, place: Path) -> Path:
    place.symlink_to(folder)
    return place


def linked_inside(folder: Path, place: Path) -> Path:
    shutil.copytree(folder, place)
    (place / WEIGHTS).rename(place / "another name")
    (place / WEIGHTS).symlink_to("another name")
    return place


def named(name: bytes) -> Callable[[Path, Path], Path]:
    def make(folder: Path, place: Path) -> Path:
        return Path(shutil.copytree(folder, place.parent / os.fsdecode(name)))

    return make


PLACES: dict[str, tuple[Callable[[Path, Path], Path], bool]] = {
    "a model hub's cache": (hub, True),
    "weights elsewhere": (one_linked, True),
    "a graph elsewhere": (lambda folder, place: one_linked(folder, place, "search.onnx"), True),
    "the folder is a link": (linked_folder, False),
    "links within the folder": (linked_inside, False),
    "Latin-1": (named(b"b\xfcndel"), True),
    "UTF-8": (named("b\u00fcndel \u65e5\u672c".encode()), False),
    "a line break": (named(b"two\nlines"), False),
}


@pytest.mark.parametrize("kind", PLACES)
def test_libraries_are_given_files_that_they_can_read(kind: str, folder: Path, cache: str, tmp_path: Path) -> None:
    make, elsewhere = PLACES[kind]
    place = make(folder, tmp_path / "place")
    bundle = Bundle.open(place)
    assert (bundle.path != place) == elsewhere
    files = {path.name for path in folder.iterdir()}
    assert {name: (bundle.path / name).read_bytes() for name in files} == contents_of(folder)
    if elsewhere:
        assert not any(path.is_symlink() for path in bundle.path.iterdir())
        str(bundle.path).encode()


def test_a_damaged_file_behind_a_link_is_named(folder: Path, cache: str, tmp_path: Path) -> None:
    place = hub(folder, tmp_path / "place")
    Bundle.open(place)
    target = (place / WEIGHTS).resolve()
    target.write_bytes(bytes(2048))
    with pytest.raises(BundleError, match=f"{WEIGHTS}: sha256 differs"):
        Bundle.open(place)
    target.unlink()
    with pytest.raises(BundleError, match=f"{WEIGHTS}: cannot be read"):
        Bundle.open(place)


@pytest.mark.parametrize("name", [WEIGHTS, MANIFEST])
def test_a_pipe_in_the_place_of_a_file_is_not_read(name: str, folder: Path) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(BundleError, match=f"{name}: no regular file"):
        Bundle.open(folder)


@pytest.mark.parametrize("path", [None, 3, ["bundle"], object()])
def test_what_is_no_path_is_no_bundle(path: object) -> None:
    with pytest.raises(BundleError, match="a bundle is the path of a folder"):
        Bundle.open(path)  # type: ignore[arg-type]
