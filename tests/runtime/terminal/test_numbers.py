"""Numbers as options."""

from __future__ import annotations

import argparse

import pytest

from spm_rt.terminal import positive_int, real_number, whole_number


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "one", "nan", "1e3", "9" * 5000, "99999999999", "0x10"])
def test_what_is_no_whole_number_of_one_or_more_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number of 1 or more"):
        positive_int(text)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-0.1", "1.0", "2", "1e400", "x", ""])
def test_what_is_no_real_number_within_the_limits_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number of 0 or more and below 1"):
        real_number(0, 1, below=True)(text)


def test_what_fits_is_read() -> None:
    assert [positive_int("1"), positive_int(" 12 "), whole_number(0, 3)("0"), whole_number(0, 3)("3")] == [1, 12, 0, 3]
    assert [real_number()("0"), real_number(above=True)("1e-9"), real_number(-5, 5)("-5")] == [0.0, 1e-9, -5.0]


@pytest.mark.parametrize(
    ("parse", "text", "limits"),
    [
        (whole_number(1, 64), "65", "a whole number from 1 to 64"),
        (real_number(above=True), "0", "a number above 0"),
        (real_number(0, 1), "2", "a number of 0 or more and 1 at most"),
    ],
)
def test_the_limits_are_said(parse: type, text: str, limits: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not {limits}$"):
        parse(text)
