"""Directives: the help text of a command, the table of settings, the modules of a package."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import os
import pkgutil
import re
from collections.abc import Iterator
from typing import Any
from unittest import mock

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import spm_rt
from spm_rt.bundle import FORMS

HOMES = {
    "spm-track": "spm_rt.cli",
    "spm-page": "spm_rt.pipelines.page.cli",
    "spm-fleet": "spm_rt.pipelines.fleet.cli",
}
"""Modules of the commands that have no package of their name."""


def help_text(command: str) -> str:
    """What ``COMMAND --help`` prints on a terminal of 110 columns; ``spm-bench latency`` is a command too."""
    name, *rest = command.split()
    module = importlib.import_module(HOMES.get(name) or f"{name.replace('-', '_')}.cli")
    text, terminal = io.StringIO(), mock.patch.dict(os.environ, {"COLUMNS": "110", "NO_COLOR": "1"})
    with terminal, contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        module.main([*rest, "--help"])
    return text.getvalue()


def meanings(kind: type) -> dict[str, str]:
    """The ``Attributes`` of a docstring: name -> text."""
    _, _, text = (kind.__doc__ or "").partition("Attributes:\n")
    entries = re.findall(r"^ {8}(\w+): (.*(?:\n {9,}.*)*)", text, flags=re.MULTILINE)
    return {name: re.sub(r"\s+", " ", words) for name, words in entries}


class Help(SphinxDirective):
    """``{help} spm-track``: the command's help text."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        text = help_text(self.arguments[0])
        return [nodes.literal_block(text, text, language="text")]


class Fields(SphinxDirective):
    """``{fields} TrackerSettings``: a table of a data class's fields: name, default, meaning."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        kind = getattr(spm_rt, self.arguments[0])
        texts = meanings(kind)
        lines = ["| name | default | meaning |", "| --- | --- | --- |"]
        for field in dataclasses.fields(kind):
            words = texts.get(field.name, "").replace("``", "`")
            lines.append(f"| `{field.name}` | `{field.default!r}` | {words} |")
        return self.parse_text_to_nodes("\n".join(lines))


class Forms(SphinxDirective):
    """``{forms}``: the table of graph forms."""

    def run(self) -> list[nodes.Node]:
        lines = ["| form | what | stages | otherwise | run by |", "| --- | --- | --- | --- | --- |"]
        for form in FORMS.values():
            stages, readers = ", ".join(form.stages), ", ".join(form.readers)
            lines.append(f"| {form.name} | {form.content} | {stages} | {form.otherwise or '-'} | {readers} |")
        return self.parse_text_to_nodes("\n".join(lines))


class Modules(SphinxDirective):
    """``{modules} spm_rt``: every module of a package, but for the names that ``spm_rt`` itself gives out."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        options = f"   :members:\n   :exclude-members: {', '.join(spm_rt.__all__)}"
        lines = [
            f"### {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n{options}\n```\n"
            for name in modules(self.arguments[0])
            if name != "spm_rt.errors"
        ]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def modules(package: str) -> Iterator[str]:
    """Names of a package and its modules that Python can import and that are not compiled."""
    root = importlib.import_module(package)
    yield package
    for found in pkgutil.walk_packages(root.__path__, f"{package}."):
        if not found.name.rsplit(".", 1)[1].startswith("_"):
            yield found.name


def setup(app: Sphinx) -> dict[str, Any]:
    for directive in (Help, Fields, Forms, Modules):
        app.add_directive(directive.__name__.lower(), directive)
    return {"parallel_read_safe": True}
