"""One self-contained HTML page of a report: style and pictures are in it, so that it can be sent to somebody."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; margin: 2rem auto; max-width: 70rem;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p.verdict { padding: .6rem .9rem; border-radius: .4rem; font-weight: 600; }
p.valid { background: #e2f4e6; color: #14532d; } p.invalid { background: #fde5e3; color: #7f1d1d; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #d8dee4; text-align: left; white-space: nowrap; }
th { background: #f3f5f7; } td.number { text-align: right; } tr.best td { font-weight: 600; }
div.wide { overflow-x: auto; } table.facts td { white-space: normal; } img { max-width: 100%; height: auto; }
pre { background: #f3f5f7; padding: .7rem .9rem; overflow-x: auto; border-radius: .4rem; font-size: .85rem; }
p.note { color: #57606a; font-size: .9rem; }
"""


class Page:
    """Put together piece by piece; every text is escaped."""

    def __init__(self, title: str, subtitle: str) -> None:
        self._title = title
        self._parts = [f"<h1>{_text(title)}</h1>", f'<p class="note">{_text(subtitle)}</p>']

    def verdict(self, line: str, valid: bool) -> None:
        self._parts.append(f'<p class="verdict {"valid" if valid else "invalid"}">{_text(line)}</p>')

    def heading(self, text: str) -> None:
        self._parts.append(f"<h2>{_text(text)}</h2>")

    def note(self, text: str) -> None:
        self._parts.append(f'<p class="note">{_text(text)}</p>')

    def code(self, text: str) -> None:
        self._parts.append(f"<pre>{_text(text)}</pre>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], best: Sequence[bool] | None = None) -> None:
        """A table; ``best`` says which rows stand out. Columns of numbers are set to the right."""
        numbers = [all(_is_number(row[k]) for row in rows) for k in range(len(header))]
        lines = ["<tr>" + "".join(f"<th>{_text(name)}</th>" for name in header) + "</tr>"]
        for place, row in enumerate(rows):
            cells = "".join(
                f'<td class="number">{_text(cell)}</td>' if number else f"<td>{_text(cell)}</td>"
                for cell, number in zip(row, numbers, strict=True)
            )
            lines.append(f'<tr class="best">{cells}</tr>' if best is not None and best[place] else f"<tr>{cells}</tr>")
        self._parts.append('<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>")

    def facts(self, facts: Mapping[str, str]) -> None:
        """Names and values, one row each."""
        lines = (f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in facts.items())
        self._parts.append('<div class="wide"><table class="facts">\n' + "\n".join(lines) + "\n</table></div>")

    def picture(self, path: Path, what: str) -> None:
        """A PNG, put into the page; ``what`` describes it to those who cannot see it."""
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        self._parts.append(f'<p><img alt="{_text(what)}" src="data:image/png;base64,{data}"></p>')

    def text(self) -> str:
        """The whole page."""
        body = "\n".join(self._parts)
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{_text(self._title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n"
            "</html>\n"
        )


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _is_number(text: str) -> bool:
    try:
        float(text.removeprefix("< ").rstrip(" x%"))
    except ValueError:
        return text in ("", "-")
    return True
