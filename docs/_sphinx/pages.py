"""Makes the same pages fit for readers of the files and for readers of the built site.

``docs/README.md`` lists the pages in its sections; the site's navigation is made from that list, so there is one order.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import spm_rt


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Append a hidden table of contents for every section of the first page that links to pages."""
    if page != app.config.root_doc:
        return
    trees = []
    for section in re.split(r"^## ", source[0], flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        pages = [str(PurePosixPath(link).with_suffix("")) for link in re.findall(r"\]\(([a-z]+/[a-z_]+\.md)\)", text)]
        if pages:
            trees.append("\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```"]))
    source[0] += "\n\n" + "\n\n".join(trees) + "\n"


def name_files(app: Sphinx, page: str, source: list[str]) -> None:
    """A link to a file outside this folder, which the site does not have, becomes the file's path in words."""
    up = r"(?:\.\./)" * (page.count("/") + 1)
    source[0] = re.sub(rf"\[([^]]+)\]\({up}([\w/.-]+)\)", r"\1 (`\2`)", source[0])


def link_pages(app: Sphinx, what: str, name: str, of: object, options: object, lines: list[str]) -> None:
    """A page that a docstring names by its path becomes a link to it."""
    lines[:] = [re.sub(r"\bdocs/(\w+/\w+)\.md", r":doc:`/\1`", line) for line in lines]


def find_public_name(app: Sphinx, environment: BuildEnvironment, node: pending_xref, content: nodes.TextElement) -> Any:
    """Where ``spm_rt.trackers.single.Tracker.init`` is written, the page of ``spm_rt.Tracker.init`` is meant."""
    if node.get("refdomain") != "py":
        return None
    parts = node["reftarget"].split(".")
    for index, part in enumerate(parts):
        if part in spm_rt.__all__:
            name = ".".join(["spm_rt", *parts[index:]])
            domain = environment.domains.python_domain
            for kind in ("obj", "class", "meth", "attr"):
                found = domain.resolve_xref(environment, node["refdoc"], app.builder, kind, name, node, content)
                if found is not None:
                    return found
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add_navigation)
    app.connect("source-read", name_files)
    app.connect("autodoc-process-docstring", link_pages)
    app.connect("missing-reference", find_public_name)
    return {"parallel_read_safe": True}
