"""The documentation's pages and the code blocks in them."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDE = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"(?:^<!-- not run: (?P<reason>.*?) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: the file.
        line: where its first line stands.
        kind: the word after the fence: ``python``, ``sh``, ``json``, ``text``.
        text: what stands in it.
        reason: why it cannot be run (a comment before it says so); empty if it can.
    """

    page: Path
    line: int
    kind: str
    text: str
    reason: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of each command of a ``sh`` block, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page that have a kind; Sphinx's directives have none."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start("text")) + 1, found["kind"], found["text"], found["reason"] or "")
        for found in _BLOCK.finditer(text)
    ]


def linked_files(page: Path) -> list[str]:
    """Targets of a page's links to files, as they are written."""
    text = page.read_text(encoding="utf-8")
    return [link for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) if "://" not in link]


def named_files(page: Path) -> list[str]:
    """Files of this project that a page names in its text by their path from the root."""
    text = page.read_text(encoding="utf-8")
    tops = "benchmarks|docs|engines|examples|export|findings|scripts|spm_rt|tests|training"
    return re.findall(rf"(?<![\w/.~$-])((?:{tops})/[\w/.-]+\.(?:py|pyi|c|h|cu|cpp|md|sh|txt|html|png|mp4))\b", text)
