"""The code in README and guide does what the page says: Python runs over a real bundle, commands are understood or run.

What is not run is listed as skipped, with the reason.
"""

from __future__ import annotations

import ast
import importlib
import itertools
import os
import re
from pathlib import Path

import cv2
import pytest
from packaging.requirements import Requirement

from spm_export.cli import DEMO_CLIP
from spm_rt.media.video import frame_rate

from ..support.exports import Frames
from ..support.media.films import plain_film
from ..support.pages import GUIDE, ROOT, Block, blocks_of

PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
ENTRIES = re.findall(r'^(spm-\w+) = "([\w.]+):main"$', PROJECT, re.M)
COMMANDS = {name: module.replace(".__main__", ".cli") for name, module in ENTRIES}
"""Of every command, the module that has its parser."""
"""Command -> its module."""
BLOCKS = [block for page in GUIDE for block in blocks_of(page)]
PYTHON = [block for block in BLOCKS if block.kind == "python"]
SHELL = [(block, words) for block in BLOCKS if block.kind == "sh" for words in block.commands()]
SHELL_NAMES = [f"{block.place} {' '.join(words)}" for block, words in SHELL]
FRAMES = 6


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory, default_bundle: Path, clip: Frames) -> Path:
    """A folder with the files that the pages speak of."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "spm_alexnet").symlink_to(default_bundle)
    plain_film(folder / "clip.mp4", clip[:FRAMES], frame_rate(DEMO_CLIP), "mp4v")
    data = folder / DEMO_CLIP.relative_to(ROOT).parent  # the shipped clip, but its beginning is enough
    data.mkdir(parents=True)
    (data / DEMO_CLIP.name).symlink_to(folder / "clip.mp4")
    cv2.imwrite(str(folder / "frame.png"), clip[0])
    cv2.imwrite(str(folder / "next_frame.png"), clip[1])
    return folder


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_of_a_page_run_in_their_order(
    page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    blocks = [block for block in PYTHON if block.page == page and not block.reason]
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)
    if not blocks:
        pytest.skip("no Python on this page that can be run here")


@pytest.mark.parametrize("block", [block for block in PYTHON if block.reason], ids=lambda block: block.place)
def test_python_blocks_that_are_not_run_import_what_there_is(block: Block) -> None:
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
    pytest.skip(f"imports are checked, not run: {block.reason}")


@pytest.mark.parametrize(("block", "words"), SHELL, ids=SHELL_NAMES)
def test_commands_are_understood(block: Block, words: list[str]) -> None:
    match words:
        case ["pip", "install", *wanted]:
            assert unknown_requirements(wanted) == []
        case ["pip", "uninstall", package]:
            assert f'"{package}' in PROJECT
        case [name, *rest] if name in COMMANDS:
            module = importlib.import_module(COMMANDS[name])
            parser = module.make_parser(rest) if name == "spm-bench" else module.make_parser()
            parser.parse_args(rest)
        case ["bash", script, *_]:
            assert (ROOT / script).is_file()
        case ["sphinx-build", source, _]:
            assert (ROOT / source / "conf.py").is_file()
        case _:
            pytest.fail(f"{block.place}: this test does not know {words[0]!r}")


def unknown_requirements(wanted: list[str]) -> list[str]:
    """Folders without a project, and extras that this one has not; other packages only have to be well written."""
    unknown, valued = [], ("--index-url", "--config-settings")
    for before, one in itertools.pairwise(["", *wanted]):
        if one.startswith("--") or before in valued:
            continue
        if one.startswith("./"):
            unknown += [] if (ROOT / one / "pyproject.toml").is_file() else [one]
            continue
        requirement = Requirement(one.replace(".[", "spm-rt[") if one.startswith(".") else one)
        if requirement.name == "spm-rt":
            unknown += [extra for extra in requirement.extras if f"\n{extra} = [" not in PROJECT]
    return unknown


REASONS = {
    "spm-export": "an export takes a minute; tests/export/test_cli.py runs some",
    "spm-bench": "a measurement takes minutes; tests/benchmarks runs each command",
    "spm-fleet": "its videos are the reader's; tests/pipelines/test_fleet.py runs it",
    "spm-page": "it serves until Ctrl-C; tests/pipelines/page runs it",
    "spm-train": "a training takes hours; tests/training runs short ones",
}


def reason_not_to_run(words: list[str]) -> str:
    if "cuda" in words or "--engine" in words:
        return "needs a GPU, or TensorRT's library"
    if words[0] == "spm-track" or words[:2] == ["spm-export", "doctor"]:
        return ""
    return REASONS.get(words[0], "installs or builds; CI does it")


@pytest.mark.parametrize(("block", "words"), SHELL, ids=SHELL_NAMES)
def test_commands_run(
    block: Block,
    words: list[str],
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if reason := reason_not_to_run(words):
        pytest.skip(f"understood, not run: {reason}")
    monkeypatch.chdir(workplace)
    short = [] if "--frames" in words or words[0] != "spm-track" else ["--frames", str(FRAMES)]
    assert importlib.import_module(COMMANDS[words[0]]).main([*words[1:], *short]) == 0
    assert capsys.readouterr().out
    assert os.getcwd() == str(workplace)
