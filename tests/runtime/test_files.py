"""Files appear whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from spm_rt.files import written_whole


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
