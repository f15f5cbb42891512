"""Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from spm_rt.files import folder_beside, written_whole

needs_posix = pytest.mark.skipif(os.name == "nt", reason="has neither links for everybody nor devices among its files")


def only(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place_when_it_is_done(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("before")
    with written_whole(path, mode=0o600) as part:
        assert (part.parent, part.suffix) == (tmp_path, ".csv")
        part.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert only(tmp_path) == ["table.csv"]
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), ValueError("no")])
def test_what_was_there_stays_when_writing_fails(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("before")

    def write_half() -> None:
        with written_whole(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_text() == "before"
    assert only(tmp_path) == ["table.csv"]


def test_a_file_that_was_given_up_is_not_there(tmp_path: Path) -> None:
    with written_whole(tmp_path / "clip.mp4", suffix=".part") as part:
        assert part.suffix == ".part"
        part.unlink()
    assert only(tmp_path) == []


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"), written_whole(tmp_path / "missing" / "a.json"):
        pass


# What is there already.


@needs_posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_rights_of_the_umask_and_an_old_one_keeps_its_own(umask: int, tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    (tmp_path / "old").chmod(0o640)
    before = os.umask(umask)
    try:
        for name in ("old", "new"):
            with written_whole(tmp_path / name) as part:
                part.write_text("text")
        with folder_beside(tmp_path / "bundle") as folder:
            folder.rename(tmp_path / "bundle")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"old": 0o640, "new": 0o666 & ~umask, "bundle": 0o777 & ~umask}


@needs_posix
@pytest.mark.parametrize("there", [True, False])
def test_links_are_followed(there: bool, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    if there:
        (tmp_path / "elsewhere" / "table.csv").write_text("before")
    (tmp_path / "second.csv").symlink_to("elsewhere/table.csv")
    (tmp_path / "link.csv").symlink_to("second.csv")
    with written_whole(tmp_path / "link.csv") as part:
        part.write_text("after")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "second.csv").is_symlink()
    assert (tmp_path / "elsewhere" / "table.csv").read_text() == "after"
    assert only(tmp_path / "elsewhere") == ["table.csv"]


@needs_posix
@pytest.mark.parametrize("make", [os.mkdir, lambda path: os.symlink(path, path), lambda path: Path(path).touch(0o400)])
def test_what_cannot_be_a_file_stays_what_it_is(make: Callable[[str], object], tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    make(str(path))
    if path.is_file() and os.access(path, os.W_OK):
        pytest.skip("nothing is read-only to this user")
    before = path.lstat()
    with pytest.raises(OSError, match=str(path)), written_whole(path) as part:
        part.write_text("text")
    assert path.lstat().st_mode == before.st_mode
    assert only(tmp_path) == ["table.csv"]


@needs_posix
@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_devices_are_written_to_and_stay_devices(device: str) -> None:
    if not Path(device).is_char_device():
        pytest.skip("not on this system")
    before = os.stat(device)
    full = pytest.raises(OSError, match="No space left") if device == "/dev/full" else contextlib.nullcontext()
    with full, written_whole(Path(device)) as part:
        part.write_text("text")
    after = os.stat(device)
    assert (after.st_mode, after.st_rdev) == (before.st_mode, before.st_rdev)


@needs_posix
def test_a_named_pipe_gets_the_content_when_it_is_complete(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with written_whole(pipe) as part:
        part.write_text("text")
        assert os.read(reader, 100) == b""
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert pipe.is_fifo()


PRINT_BETWEEN = """
import sys
from pathlib import Path
from spm_rt.files import written_whole
print("first", flush=True)
with written_whole(Path(sys.argv[1])) as part:
    part.write_text("table\\n")
print("last")
"""


@needs_posix
@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "out.txt"])
@pytest.mark.parametrize("appending", [True, False])
def test_standard_output_goes_on_where_it_is(path: str, appending: bool, tmp_path: Path) -> None:
    """It may be a file that others write to: what was printed before and after stays."""
    if not path.startswith("out") and not os.path.exists(path):
        pytest.skip("not on this system")
    out = tmp_path / "out.txt"
    out.write_text("before\n")
    with out.open("a" if appending else "w") as stream:
        child = [sys.executable, "-c", PRINT_BETWEEN, path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        subprocess.run(child, stdout=stream, cwd=tmp_path, check=True, env=environment)
    assert out.read_text() == ("before\n" if appending else "") + "first\ntable\nlast\n"
    assert only(tmp_path) == ["out.txt"]


@needs_posix
@pytest.mark.parametrize("refused", ["access", "replace"])
def test_a_file_that_cannot_be_replaced_is_written_to(
    refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that takes no new files; a single file that is mounted into a container."""
    path = tmp_path / "table.csv"
    path.write_text("a longer text than the new one")
    before, access = path.stat().st_ino, os.access
    if refused == "access":
        monkeypatch.setattr(os, "access", lambda path, mode: path != str(tmp_path) and access(path, mode))
    else:
        monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(errno.EBUSY, "Device or resource busy")))
    with written_whole(path) as part:
        part.write_text("after")
    assert (path.read_text(), path.stat().st_ino) == ("after", before)
    assert only(tmp_path) == ["table.csv"]


# What killed processes leave.


DIE_WRITING = """
import os, signal, sys
from pathlib import Path
from spm_rt.files import folder_beside, written_whole
with written_whole(Path(sys.argv[1]) / "a.bin") as part, folder_beside(Path(sys.argv[1]) / "b") as folder:
    part.write_text("half")
    (folder / "graph").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@needs_posix
@pytest.mark.parametrize("next_one", [written_whole, folder_beside])
def test_the_next_writer_removes_what_a_killed_one_left_but_not_what_is_being_written(
    next_one: Callable[[Path], contextlib.AbstractContextManager[Path]], tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", DIE_WRITING, str(tmp_path)], env=environment, check=False)
    (tmp_path / ".spm_part.mine").touch()
    (tmp_path / "kept").touch()
    (tmp_path / ".spm_part.0123456789abcdef").symlink_to("kept")
    assert len(left := only(tmp_path)) == 5
    with written_whole(tmp_path / "c.bin") as part, next_one(tmp_path / "d") as second:
        assert {".spm_part.mine", "kept", part.name, second.name} <= set(only(tmp_path))
        assert not {name for name in left if len(name) > 26} & set(only(tmp_path))
        part.write_text("whole")
    assert (tmp_path / "c.bin").read_text() == "whole"
