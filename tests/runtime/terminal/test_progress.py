"""Progress and tables as text."""

from __future__ import annotations

import io
import os
import re
import select
import struct

import pytest

from spm_rt.terminal import Progress, format_table


def test_columns_of_numbers_are_aligned_to_the_right() -> None:
    lines = format_table(["name", "ms"], [["a", "9.5"], ["long name", "12.25"], ["b", "-"]]).splitlines()
    assert lines == ["name          ms", "---------  -----", "a            9.5", "long name  12.25", "b              -"]


def printed(total: int | None, steps: int) -> list[str]:
    """The counts that a bar prints where there is no terminal."""
    stream = io.StringIO()
    bar = Progress("working", total, stream=stream)
    for _ in range(steps):
        bar.step()
    bar.close()
    return [line.split()[-2] for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("total", "steps", "lines"),
    [
        (40, 40, ["10/40", "20/40", "30/40", "40/40"]),
        (3, 3, ["1/3", "2/3", "3/3"]),
        (40, 25, ["10/40", "20/40", "25/40"]),  # estimated too high
        (4, 6, ["1/4", "2/4", "3/4", "4/4", "6"]),  # and too low
        (None, 50, ["50"]),
        (10, 0, []),
    ],
)
def test_progress_prints_quarters_and_the_end_where_there_is_no_terminal(
    total: int | None, steps: int, lines: list[str]
) -> None:
    assert printed(total, steps) == lines


def test_quiet_progress_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress("working", 3, quiet=True)
    for _ in range(3):
        bar.step()
    bar.close()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("total", [200, None])
def test_a_bar_fits_a_terminal_of_eighty_columns_and_stays_in_its_line(total: int | None) -> None:
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(theirs, "w") as stream:
        bar = Progress("profiling", total, stream=stream)
        for _ in range(200):
            bar.step("a note")
        bar.close("the end")
        seen = b""
        while select.select([ours], [], [], 0.1)[0]:
            seen += os.read(ours, 1 << 16)
    os.close(ours)
    text = seen.decode()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    states = [re.sub(r"\x1b\[\w", "", state) for state in re.split(r"[\r\n]+", text)]
    assert max(map(len, states)) <= 80
    assert "200" in states[-2]
    assert "the end" in states[-2]


def test_a_terminal_that_is_gone_ends_no_work() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    bar = Progress("working", 2, stream=Gone())
    bar.step()
    bar.close()
