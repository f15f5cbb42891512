"""Text to and from terminals."""

from __future__ import annotations

import io

import pytest

from spm_rt.terminal import Progress, format_table, parse_box


def test_columns_of_numbers_are_aligned_to_the_right() -> None:
    lines = format_table(["name", "ms"], [["a", "9.5"], ["long name", "12.25"], ["b", "-"]]).splitlines()
    assert lines == ["name          ms", "---------  -----", "a            9.5", "long name  12.25", "b              -"]


def test_progress_prints_quarters_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    bar = Progress("working", 40, stream=stream)
    for _ in range(40):
        bar.step()
    bar.close()
    lines = stream.getvalue().splitlines()
    assert [line.split()[-2] for line in lines] == ["10/40", "20/40", "30/40", "40/40"]


def test_quiet_progress_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress("working", 3, quiet=True)
    for _ in range(3):
        bar.step()
    bar.close()
    assert capsys.readouterr() == ("", "")


def test_boxes_are_four_numbers() -> None:
    assert parse_box("1,2.5,-3,4e1") == (1.0, 2.5, -3.0, 40.0)
