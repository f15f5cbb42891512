"""``spm-bench`` run in this process."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

from spm_bench.cli import main, make_parser
from spm_bench.options import Outcome


class Ran(NamedTuple):
    """What a command gave back."""

    status: int
    out: str
    error: str


def spm_bench(*words: str | Path) -> Ran:
    """Run a command; strings are split at blanks."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        status = main(_arguments(words))
    return Ran(status, out.getvalue(), error.getvalue())


def bench_report(*words: str | Path, status: int = 0) -> dict[str, Any]:
    """The report of a command that ends with this status."""
    ran = spm_bench(*words, "--json --quiet")
    assert ran.status == status, ran.error
    report: dict[str, Any] = json.loads(ran.out)
    return report


def bench_error(*words: str | Path) -> str:
    """The message of a command that ends with 1."""
    ran = spm_bench(*words, "--quiet")
    assert ran.status == 1, words
    return ran.error


def bench_outcome(*words: str | Path) -> Outcome:
    """The report of a command and its text, of one run; the report as a reader of its JSON has it."""
    arguments = _arguments((*words, "--quiet"))
    options = make_parser(arguments).parse_args(arguments)
    outcome: Outcome = options.run(options)
    return outcome._replace(report=json.loads(json.dumps(outcome.report)))


def _arguments(words: tuple[str | Path, ...]) -> list[str]:
    return [part for word in words for part in (word.split() if isinstance(word, str) else [str(word)])]
