"""Boxes as options of a command."""

from __future__ import annotations

import argparse

import pytest

from spm_rt.terminal import join_boxes, parse_box


@pytest.mark.parametrize(
    "text",
    [
        "1,2.5,-3,4e1",
        " 1, 2.5, -3, 40 ",
        "1 2.5 -3 40",
        "1;2.5;-3;40",
        "(1, 2.5, -3, 40)",
        "[1 2.5 -3 40.]",
        "{1,2.5,\u22123,+40}",
        "x=1 y=2.5 w=-3 h=40",
        "x:1, y:2.5, width:-3, height:40",
    ],
)
def test_four_numbers_are_a_box_in_the_forms_in_which_people_write_them(text: str) -> None:
    assert parse_box(text) == (1.0, 2.5, -3.0, 40.0)


@pytest.mark.parametrize(
    "text", ["-5,10-45,60", "(-5,10)-(45,60)", "-5 10 - 45 60", "-5,10:45,60", "45,60 to -5,10", "-5,60-45,10"]
)
def test_two_opposite_corners_are_a_box(text: str) -> None:
    assert parse_box(text) == (-5.0, 10.0, 50.0, 50.0)


@pytest.mark.parametrize(
    "text",
    ["", "1,2", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1,2,3,", "nan,1,2,3", "1,2,3,inf", "1px,2px,3px,4px", "1e999,1,1,1"],
)
def test_anything_else_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"no box; give x,y,width,height|too large for a box"):
        parse_box(text)


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        (["v", "--box", "-5,10,50,50", "--json"], ["v", "--box=-5,10,50,50", "--json"]),
        (["--box", "5", "10", "50", "50", "v"], ["--box=5 10 50 50", "v"]),
        (["--box", "-5", "-10", "50", "50", "0"], ["--box=-5 -10 50 50", "0"]),
        (["--box", "5,", "10,", "50,", "50", "0"], ["--box=5, 10, 50, 50", "0"]),
        (["--box", "(5,", "10,", "50,", "50)", "0"], ["--box=(5, 10, 50, 50)", "0"]),
        (["--box", "5,10,50,50", "0"], ["--box=5,10,50,50", "0"]),
        (["--box", "a=-5", "10", "50", "50", "0"], ["--box=a=-5 10 50 50", "0"]),
        (["--box", "a=5,10,50,50", "--box", "b=5,10,50,50"], ["--box=a=5,10,50,50", "--box=b=5,10,50,50"]),
        (["--box", "5,10", "-", "55,60", "0"], ["--box=5,10 - 55,60", "0"]),
        (["--box", "5", "clip.mp4"], ["--box=5", "clip.mp4"]),
        (["--box=5,10,50,50", "0"], ["--box=5,10,50,50", "0"]),
        (["--box"], ["--box"]),
        (["--", "--box", "5", "1"], ["--", "--box", "5", "1"]),
    ],
)
def test_the_words_of_a_box_become_one_with_its_option(words: list[str], joined: list[str]) -> None:
    assert join_boxes(words) == joined
