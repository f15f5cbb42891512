"""Every file of examples/ does what it says."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from ..support.exports import Frames
from ..support.layers import ROOT

EXAMPLES = {path.name for path in (ROOT / "examples").glob("*.py")}
BOX = "193,158,57,72"
COUNT = 4


@pytest.fixture
def run_example(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def run(name: str, *arguments: object) -> None:
        monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")

    return run


def test_examples_have_ten_to_forty_lines() -> None:
    lines = {name: len((ROOT / "examples" / name).read_text("utf-8").splitlines()) for name in EXAMPLES}
    assert {name: count for name, count in lines.items() if not 10 <= count <= 40} == {}


@pytest.fixture(scope="module")
def beginning(tmp_path_factory: pytest.TempPathFactory, clip: Frames) -> Path:
    """The first frames of the shipped clip, as a folder."""
    folder = tmp_path_factory.mktemp("beginning")
    for k, picture in enumerate(clip[:COUNT]):
        cv2.imwrite(str(folder / f"{k}.png"), picture)
    return folder


def test_streams(
    run_example: Callable[..., None], default_bundle: Path, beginning: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_example("streams.py", default_bundle, f"{beginning}={BOX}", f"{beginning}={BOX}")
    first, second = ([line.split(" ", 1)[1] for line in lines] for lines in _by_stream(capsys.readouterr().out))
    assert len(first) == COUNT
    assert first == second


def test_fleet(run_example: Callable[..., None], default_bundle: Path, beginning: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra fleet is not installed")
    with pytest.raises(SystemExit, match="0"):
        run_example("fleet.py", default_bundle, tmp_path, f"{beginning}={BOX}")
    (part,) = tmp_path.glob("*.parquet")
    assert parquet.read_table(part).column("frame").to_pylist() == list(range(COUNT))


def _by_stream(text: str) -> list[list[str]]:
    lines = text.splitlines()
    return [[line for line in lines if line.startswith(name)] for name in sorted({line.split()[0] for line in lines})]
