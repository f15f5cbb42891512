"""Where outputs may go: what cannot work is refused before the first frame, and nothing is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import cv2
import pytest

from spm_rt.errors import SourceError
from spm_rt.outputs import KINDS, Request, destinations, open_outputs

from ...support.media.results import SUFFIX, source_frames, tracked, write_results

needs_posix = pytest.mark.skipif(os.name == "nt", reason="has neither links for everybody nor devices among its files")


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder with what is in them."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a source of each kind, which is the current one and stays what it is."""
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").write_bytes(b"a film")
    Path("pictures").mkdir()
    for name in ("1.png", "2.png"):
        cv2.imwrite(f"pictures/{name}", next(source_frames([0.0])).picture)
    before = files(tmp_path)
    yield tmp_path
    assert files(tmp_path) == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing/o", "there is no folder"),
        ("clip.mp4/o", "no folder|Not a directory"),
        ("pictures/", "is a folder|ends in"),
        ("", "empty"),
        ("o\0", "null|ends in"),
        ("x" * 300, "name too long"),
    ],
)
def test_what_cannot_be_written_is_known_before_the_first_frame(
    kind: str, name: str, message: str, untouched: Path
) -> None:
    name = name + SUFFIX[kind] if name and not name.endswith(("/", "\0")) else name
    with pytest.raises(SourceError, match=message):
        open_outputs([Request("csv", "first.csv"), Request(kind, name)], source="clip.mp4")


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_no_file(kind: str, untouched: Path) -> None:
    name = f"folder{SUFFIX[kind]}"
    Path(name).mkdir()
    with pytest.raises(SourceError, match="this is a folder"):
        open_outputs([Request(kind, name)])


@pytest.mark.parametrize(
    ("kind", "name"),
    [("video", "o"), ("video", "o.xyz"), ("video", "o.png"), ("video", ".mp4"), ("sheet", "s.xyz"), ("sheet", "s.mp4")],
)
def test_suffixes_that_nobody_can_write_are_refused_with_those_that_can_be(
    kind: str, name: str, untouched: Path
) -> None:
    with pytest.raises(SourceError, match=rf"ends in .*{SUFFIX[kind]}"):
        open_outputs([Request(kind, name)])


@pytest.mark.parametrize(("kind", "name"), [("video", "-"), ("sheet", "-"), ("coco", "-"), ("gif", "o.gif")])
def test_what_is_no_text_does_not_go_to_standard_output(kind: str, name: str, untouched: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot go to standard output|no kind of output"):
        open_outputs([Request(kind, name)])


def _dangling(link: str, target: str) -> str:
    Path(link).symlink_to(Path(target).absolute())
    return link


def _into(folder: str) -> str:
    Path(folder).symlink_to(Path("pictures").absolute())
    return folder


WOULD_BE_FRAMES: list[tuple[str, str, Callable[[], str]]] = [
    ("pictures", "sheet", lambda: "pictures/3.png"),
    ("pictures", "sheet", lambda: "pictures/sheet.JPG"),
    ("pictures/", "csv", lambda: str(Path("pictures").absolute() / "boxes.png")),
    ("pictures", "otb", lambda: "pictures/../pictures/o.tif"),
    ("pictures", "sheet", lambda: f"{_into('there')}/3.png"),
    ("pictures", "sheet", lambda: _dangling("s.png", "pictures/3.png")),
    ("pictures", "sheet", lambda: _dangling("pictures/3.png", "s.png")),
    ("pictures", "sheet", lambda: _dangling("pictures/3.png", "s.png")[9:].replace("3", "s")),
    ("otb", "sheet", lambda: "otb/img/s.webp"),
    (".", "sheet", lambda: "s.png"),
    ("pictures/%d.png", "sheet", lambda: "pictures/3.png"),
    ("pictures/%03d.png", "sheet", lambda: f"{_into('there')}/003.png"),
    ("pictures/*.png", "sheet", lambda: "pictures/s.png"),
    ("p*/[1-9]*", "csv", lambda: "pictures/3.csv"),
    ("*.csv", "csv", lambda: "o.csv"),
]


@needs_posix
@pytest.mark.parametrize(("source", "kind", "name"), WOULD_BE_FRAMES)
def test_nothing_is_written_that_the_next_run_would_take_for_a_frame(
    source: str, kind: str, name: Callable[[], str], untouched: Path
) -> None:
    Path("otb/img").mkdir(parents=True)
    path = name()
    for spelling in (source, Path(source).absolute().as_uri()) if Path(source).is_dir() else (source,):
        with pytest.raises(SourceError, match=r"would take this for a frame|this is the source"):
            open_outputs([Request(kind, path)], source=spelling)


@pytest.mark.parametrize(
    ("source", "kind", "name"),
    [
        ("pictures", "csv", "pictures/boxes.csv"),
        ("pictures", "video", "pictures/o.mp4"),
        ("pictures", "sheet", "pictures/.s.png"),
        ("otb", "sheet", "otb/s.png"),
        ("pictures/%03d.png", "sheet", "pictures/3.png"),
        ("pictures/%d.png", "sheet", "3.png"),
        ("pictures/*.jpg", "sheet", "pictures/s.png"),
        ("clip.mp4", "sheet", "s.png"),
        ("rtsp://a/*", "sheet", "s.png"),
    ],
)
def test_other_files_are_written_beside_pictures(
    source: str, kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("pictures", "otb/img"):
        Path(folder).mkdir(parents=True)
        cv2.imwrite(f"{folder}/1.png", next(source_frames([0.0])).picture)
    write_results([(kind, Path(name))], source_frames([0.0, 0.04]), source=source)
    assert Path(name).is_file()


def _link(path: Path) -> str:
    (path.parent / "other.mp4").symlink_to(path)
    return "other.mp4"


def _hard_link(path: Path) -> str:
    os.link(path, path.parent / "hard.mp4")
    return "hard.mp4"


def _linked_folder(path: Path) -> str:
    (path.parent / "here").symlink_to(path.parent)
    return "here/clip.mp4"


SPELLINGS: list[Callable[[Path], str]] = [
    lambda path: "clip.mp4",
    lambda path: str(path),
    lambda path: "./pictures/../clip.mp4",
    *(_link, _hard_link, _linked_folder),
]


@needs_posix
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("kind", ["video", "csv", "jsonl", "coco"])
@pytest.mark.parametrize("source", ["clip.mp4", "{}/clip.mp4", "file://{}/clip.mp4"])
def test_no_output_replaces_the_source(
    kind: str, source: str, spelling: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"a film")
    (tmp_path / "pictures").mkdir()
    name = spelling(path)
    with pytest.raises(SourceError, match="this is the source"):
        open_outputs([Request(kind, name)], source=source.format(tmp_path))
    assert path.read_bytes() == b"a film"


@needs_posix
@pytest.mark.parametrize("kind", ["video", "csv"])
def test_no_output_replaces_the_file_that_standard_input_is(kind: str, tmp_path: Path) -> None:
    (path := tmp_path / "clip.mp4").write_bytes(b"a film")
    code = "import sys; from spm_rt.outputs import *; open_outputs([Request(*sys.argv[1:])], source='-')"
    with path.open("rb") as stream:
        ended = subprocess.run([sys.executable, "-c", code, kind, path], stdin=stream, capture_output=True, text=True)
    assert "this is the source" in ended.stderr
    assert path.read_bytes() == b"a film"


@needs_posix
@pytest.mark.parametrize("name", ["bundle/manifest.json", "blob", "packed.zip"])
def test_no_output_replaces_anything_of_the_bundle(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bundle").mkdir()
    for path in ("bundle/manifest.json", "blob", "packed.zip"):
        Path(path).write_text("ours")
    Path("bundle/weights").symlink_to("../blob")
    with pytest.raises(SourceError, match="this is a file of the bundle"):
        open_outputs([Request("csv", name)], bundle="packed.zip" if name == "packed.zip" else "bundle")
    assert Path(name).read_text() == "ours"


@pytest.mark.parametrize("source", ["pictures", "pictures/", "pictures/%d.png", "pictures/*.png"])
def test_no_output_replaces_one_of_the_source_s_pictures(source: str, untouched: Path) -> None:
    with pytest.raises(SourceError, match="this is the source"):
        open_outputs([Request("sheet", "pictures/2.png")], source=source)


@needs_posix
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x", "x"),
        ("x", "./x"),
        ("x", "pictures/../x"),
        ("x", "link"),
        ("link", "dangling"),
        ("old", "hard"),
        ("-", "/dev/stdout"),
    ],
)
def test_two_outputs_are_two_files(first: str, second: str, untouched: Path) -> None:
    Path("link").symlink_to("x")
    Path("dangling").symlink_to("link")
    Path("old").write_text("old")
    os.link("old", "hard")
    try:
        with pytest.raises(SourceError, match="two outputs cannot be one file"):
            open_outputs([Request("csv", first), Request("jsonl", second)])
        open_outputs([Request("csv", "/dev/null"), Request("mot", "/dev/null")]).finish()
    finally:
        for name in ("link", "dangling", "old", "hard"):
            Path(name).unlink()


def test_case_counts_where_the_folder_says_so(untouched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = [Request("csv", "Box.csv"), Request("mot", "BOX.CSV")]
    if not Path("CLIP.MP4").exists():
        open_outputs(two).finish()
    monkeypatch.setattr(destinations, "_ignores_case", Mock(return_value=True))
    with pytest.raises(SourceError, match="two outputs"):
        open_outputs(two)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_without_a_frame_leaves_what_was_there(kind: str, untouched: Path) -> None:
    name = f"o{SUFFIX[kind]}"
    open_outputs([Request(kind, name)]).finish()
    assert not Path(name).exists()
    Path(name).write_text("old")
    (written,) = open_outputs([Request(kind, name)]).finish()
    assert (Path(name).read_text(), written.frames) == ("old", 0)
    Path(name).unlink()


@needs_posix
@pytest.mark.parametrize("kind", KINDS)
def test_links_are_followed_and_the_umask_holds(kind: str, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link = tmp_path / f"link{SUFFIX[kind]}"
    link.symlink_to("far/file")
    before = os.umask(0o027)
    try:
        write_results([(kind, link)], source_frames([0.0, 0.1]))
    finally:
        os.umask(before)
    assert link.is_symlink()
    (written,) = (tmp_path / "far").iterdir()
    assert (written.name, written.stat().st_mode & 0o777) == ("file", 0o640)
    assert written.stat().st_size > 0


@needs_posix
@pytest.mark.parametrize("kind", ["csv", "jsonl", "mot", "otb", "coco"])
def test_devices_are_written_to(kind: str, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("not on this system")
    assert write_results([(kind, "/dev/null")], source_frames([0.0]))[0].frames == 1
    with pytest.raises(SourceError, match="/dev/full: No space left on device; kept: nothing"):
        write_results([(kind, "/dev/full")], source_frames([0.0]))
    assert Path("/dev/null").is_char_device()
    assert Path("/dev/full").is_char_device()


@needs_posix
@pytest.mark.parametrize("kind", KINDS)
def test_a_named_pipe_gets_the_whole_output(kind: str, tmp_path: Path) -> None:
    pipe = tmp_path / f"pipe{SUFFIX[kind]}"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        assert write_results([(kind, pipe)], source_frames([0.0, 0.1]))[0].frames == 2
        content = reader.communicate()[0]
    assert pipe.is_fifo()
    write_results([(kind, tmp_path / f"file{SUFFIX[kind]}")], source_frames([0.0, 0.1]))
    assert content == (tmp_path / f"file{SUFFIX[kind]}").read_bytes()


@needs_posix
def test_a_pipe_whose_reader_has_gone_is_one_line(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(SourceError, match=r"Broken pipe; kept: .*o\.csv \(1 frame\)"), os.fdopen(write):
        write_results([("csv", tmp_path / "o.csv"), ("jsonl", f"/dev/fd/{write}")], source_frames([0.0]))


TO_STANDARD_OUTPUT = """
import sys
from tests.support.media.results import source_frames, write_results
print("before", flush=True)
write_results([(sys.argv[1], sys.argv[2])], source_frames([0.0, 0.1]))
print("after")
"""


@needs_posix
@pytest.mark.parametrize("path", ["-", "/dev/stdout", "/dev/fd/1"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("through", ["pipe", "file"])
def test_standard_output_stays_in_order(path: str, kind: str, through: str, tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    command = [sys.executable, "-c", TO_STANDARD_OUTPUT, kind, path]
    root = Path(__file__).parents[3]
    if through == "pipe":
        out.write_bytes(subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=root).stdout)
    else:
        with out.open("w") as stream:
            subprocess.run(command, stdout=stream, check=True, cwd=root)
    first, *lines, last = out.read_text().splitlines()
    assert (first, last, len(lines)) == ("before", "after", 3 if kind == "csv" else 2)
    assert not Path("-").exists()


def test_lines_are_there_as_soon_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    with open_outputs([Request("jsonl", str(path))]) as outputs:
        for frame in source_frames([0.0, 0.1, 0.2]):
            outputs.write(frame, tracked(frame.index))
            assert [json.loads(line)["frame"] for line in path.read_text().splitlines()] == list(range(frame.index + 1))


@needs_posix
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_takes_no_files_is_refused_before_the_first_frame(kind: str, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o555)
    if os.access(tmp_path / "closed", os.W_OK):  # nothing is closed to root but what the kernel keeps
        folder = Path("/proc/self")
        if not folder.exists():
            pytest.skip("no folder is closed to this user")
    else:
        folder = tmp_path / "closed"
    with pytest.raises(SourceError, match="cannot be written"):
        open_outputs([Request(kind, str(folder / f"o{SUFFIX[kind]}"))])
