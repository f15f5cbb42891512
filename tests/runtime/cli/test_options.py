"""Options of ``spm-track``: what is understood, and what is refused before anything is opened."""

from __future__ import annotations

import argparse

import pytest

from spm_rt.cli.options import parse_levels, parse_start, read_options
from spm_rt.cli.targets import corners_hint, parse_named_box, target_names

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("text", "frame", "seconds"),
    [
        ("12", 12, None),
        ("12.5s", 0, 12.5),
        ("500ms", 0, 0.5),
        ("3 seconds", 0, 3.0),
        ("0:12", 0, 12.0),
        ("1:02:03.5", 0, 3723.5),
    ],
)
def test_a_start_is_a_frame_or_a_time(text: str, frame: int, seconds: float | None) -> None:
    assert parse_start(text)[1:] == (frame, seconds)


@pytest.mark.parametrize("text", ["", "-1", "12.5", "1:2:3:4", "nan", "1e3", "12 frames", "99999999999"])
def test_other_starts_are_refused_with_the_forms(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"12\.5s, 0:12"):
        parse_start(text)


@pytest.mark.parametrize("text", ["27000,29040", "27000 29040", "27000-29040", " 27000 ; 29040 "])
def test_levels_are_two_values(text: str) -> None:
    assert parse_levels(text) == (27000, 29040)


@pytest.mark.parametrize("text", ["", "5", "5,5", "9,5", "0,65536", "-1,5", "a,b"])
def test_other_levels_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="LOW,HIGH"):
        parse_levels(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("1,2,3,4", ""),
        ("x=1,y=2,w=3,h=4", ""),
        ("rabbit=1,2,3,4", "rabbit"),
        ("a b = (1 2 3 4)", "a b"),
        ("0=1,2-4,6", "0"),
    ],
)
def test_a_box_may_have_a_name(text: str, name: str) -> None:
    assert parse_named_box(text) == (name, (1.0, 2.0, 3.0, 4.0))


@pytest.mark.parametrize("text", ["=1,2,3,4", "a\nb=1,2,3,4", "a=1,2,3", "rabbit", "n" * 65 + "=1,2,3,4"])
def test_other_names_and_boxes_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_named_box(text)


def test_targets_without_names_are_numbered() -> None:
    assert target_names([""]) == ["target"]
    assert target_names(["", "bird", ""]) == ["target1", "bird", "target3"]
    with pytest.raises(ValueError, match="'bird'"):
        target_names(["bird", "bird"])


@pytest.mark.parametrize(
    ("box", "hinted"),
    [
        ((100, 50, 150, 110), True),  # lower edge at 160 of 120
        ((20, 10, 155, 60), True),  # right edge at 175 of 160
        ((20, 10, 50, 60), False),
        ((140, 100, 30, 30), False),  # leaves the frame, and is no second corner
        ((-5, 10, 50, 50), False),
        ((100, 50, 300, 110), False),
    ],
)
def test_boxes_that_look_like_two_corners_are_told_apart(box: tuple[float, float, float, float], hinted: bool) -> None:
    assert bool(corners_hint(box, (120, 160))) is hinted


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["v.mp4"], "where is the target?"),
        (["v.mp4", "--box", "1,2"], "no box; give x,y,width,height"),
        (["v.mp4", "--box", "1,2,30,40", "--select"], "one of the two"),
        (["v.mp4", "--box", "a=1,2,30,40", "--box", "a=5,2,30,40"], "called 'a'"),
        (["v.mp4", "--box", "1,2,30,40", "--frames", "-5"], "whole number of 1 or more"),
        (["v.mp4", "--box", "1,2,30,40", "--frames", "0"], "whole number of 1 or more"),
        (["v.mp4", "--box", "1,2,30,40", "--skip", "0"], "whole number of 1 or more"),
        (["v.mp4", "--box", "1,2,30,40", "--threads", "0"], "whole number of 1 or more"),
        (["v.mp4", "--box", "1,2,30,40", "--fps", "nan"], "number above 0"),
        (["v.mp4", "--box", "1,2,30,40", "--start", "-1"], "neither a frame's number"),
        (["v.mp4", "--box", "1,2,30,40", "--resume"], "--jsonl FILE"),
        (["v.mp4", "--box", "1,2,30,40", "--resume", "--jsonl", "-"], "--jsonl FILE"),
        (["v.mp4", "--box", "1,2,30,40", "--json", "--csv", "-"], "one of the two"),
        (["v.mp4", "--first-frame", "a.png", "--out", "b.mp4"], "tracks nothing"),
    ],
)
def test_wrong_usage_says_what_is_right(words: list[str], message: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        read_options(words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_the_help_names_every_option_in_its_group(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        read_options(["--help"])
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if len(line) > 130] == []
    for group in ("where the target is:", "which frames:", "results", "how to track:", "examples:"):
        assert f"\n{group}" in text


@pytest.mark.parametrize(
    "words",
    ["--box 1,2,3,4 --box 2,3,4,5", "--jsonl a --resume", "--select --select"],
)
def test_a_way_back_is_for_one_target_from_the_beginning(words: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        read_options(["clip", "--recover", *words.split()])
    assert stop.value.code == 2
    assert "--recover is for one target" in capsys.readouterr().err
    assert read_options(["clip", "--box", "1,2,3,4"]).recover is None
