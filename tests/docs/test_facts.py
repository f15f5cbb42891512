"""What the documentation says about files, variables and commands is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spm_bench.cli import COMMANDS
from spm_engines.gpu_support import SUPPORT

from ..support.pages import PAGES, ROOT, linked_files, named_files

DOCS = ROOT / "docs"
CODE = [
    path
    for folder in ("spm_rt", "engines", "export", "training", "benchmarks", "scripts", "tests")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".sh", ".md") and "results" not in path.parts
]
NO_VARIABLES = {"SPM_TRACKER", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"}
"""A section of the release's configuration files; what pytest tells its worker processes, and ours tell Ray."""
VARIABLE = re.compile(r"\bSPM_[A-Z_]+[A-Z]\b")


def page(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PAGES, ids=page)
def test_links_lead_to_files(path: Path) -> None:
    assert [link for link in linked_files(path) if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != "CHANGELOG.md"], ids=page)
def test_files_named_in_the_text_exist(path: Path) -> None:
    assert [name for name in named_files(path) if not (ROOT / name).exists() and "NAME" not in name] == []


def test_pages_named_in_the_code_exist() -> None:
    named = {(path, name) for path in CODE for name in re.findall(r"\bdocs/[\w/]+\.md", path.read_text("utf-8"))}
    assert [f"{page(path)}: {name}" for path, name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_page_stands_in_the_reading_order_once() -> None:
    order = re.findall(r"\]\(([\w/]+\.md)\)", (DOCS / "README.md").read_text("utf-8"))
    assert sorted(order) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md") if path.parent != DOCS)


def variables_in(text: str) -> set[str]:
    return set(VARIABLE.findall(text)) | set(re.findall(r"environ(?:\.get\(|\[)\"(\w+)\"", text))


def test_every_environment_variable_stands_in_the_table_and_is_read() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (DOCS / "reference" / "environment.md").read_text("utf-8"), re.M)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    code = {path: path.read_text("utf-8") for path in CODE if path.suffix != ".md" and path != Path(__file__)}
    read = set().union(*(variables_in(text) for text in code.values()))
    assert read - listed - NO_VARIABLES == set()
    assert [name for name in listed if not any(name in text for text in code.values())] == []


def test_the_glossary_has_at_most_thirty_entries_in_order() -> None:
    text = (DOCS / "reference" / "glossary.md").read_text("utf-8")
    words = re.findall(r"^\| (\w[^|]*?) \|", text, re.M)[1:]
    assert words == sorted(words, key=str.lower)
    assert 20 <= len(words) <= 30


def test_every_command_has_its_help_text() -> None:
    text = (DOCS / "reference" / "commands.md").read_text("utf-8")
    wanted = {
        "spm-track",
        "spm-export",
        "spm-bench",
        "spm-train",
        "spm-fleet",
        "spm-page",
        *(f"spm-bench {name}" for name in COMMANDS),
    }
    assert set(re.findall(r"^```\{help\} (.+)$", text, re.M)) == wanted


def test_names_that_a_page_places_in_a_file_are_there() -> None:
    """``NAME`` in ``FILE``, as the notes write it."""
    texts = [(DOCS / "notes" / name).read_text("utf-8") for name in ("algorithm.md", "architecture.md")]
    placed = [found for text in texts for found in re.findall(r"`(\w+)` in\s+`([\w/.]+)`", text)]
    assert len(placed) >= 12
    assert [name for name, file in placed if not re.search(rf"\b{name}\b", (ROOT / file).read_text("utf-8"))] == []


def test_the_table_of_cards_has_every_row_of_the_support_table() -> None:
    text = (DOCS / "guide" / "engines.md").read_text("utf-8")
    table = text[text.index("| GPU |") :].split("\n\n")[0]
    assert [row.lowest for row in SUPPORT if "{}.{}".format(*row.lowest) not in table] == []
