"""Finding the first box: a picture with a grid, a window."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from spm_rt.cli import main
from spm_rt.cli.first_frame import grid_picture

Capture = pytest.CaptureFixture[str]
WITH_WINDOWS = "  GUI:                           QT5\n"


@pytest.mark.parametrize("size", [(120, 160), (1, 1), (3, 5000), (2160, 3840)])
def test_every_frame_gets_a_grid_with_its_pixels_in_place(size: tuple[int, int]) -> None:
    frame = np.full((*size, 3), 90, np.uint8)
    row, column = (min(side - 1, side // 2 | 1) for side in size)  # between the lines
    frame[row, column] = 255
    picture = grid_picture(frame, {})
    assert max(picture.shape) >= 900
    scale = -(-900 // max(size))
    left, top = (picture.shape[1] - size[1] * scale) // 2, (picture.shape[0] - size[0] * scale) // 2
    assert picture[top + row * scale :, left + column * scale :][:scale, :scale].max() > 160
    border = picture[:top]
    assert border.max() > 200  # numbers


def test_the_first_frame_is_written_with_a_grid_and_the_boxes_given(
    source: str, tmp_path: Path, capsys: Capture
) -> None:
    plain, boxed = tmp_path / "plain.png", tmp_path / "boxed.png"
    assert main([source, "--first-frame", str(plain)]) == 0
    assert "160 x 120 pixels" in capsys.readouterr().out
    assert main([source, "--first-frame", str(boxed), "--box", "68,48,24,24", "--start", "2", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    green = [(cv2.imread(str(path)) == (60, 220, 80)[::-1]).all(-1).sum() for path in (plain, boxed)]
    assert green[0] == 0
    assert green[1] > 0


@pytest.mark.parametrize("name", ["nowhere/a.png", "a.xyz", "pictures/0.png"])
def test_a_first_frame_goes_nowhere_wrong(
    name: str, source: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = (Path(source) / "0.png").read_bytes()
    assert main([source, "--first-frame", name]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert (Path(source) / "0.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


@pytest.mark.parametrize("option", ["--select", "--show"])
def test_an_opencv_without_windows_is_named_with_what_to_install(
    option: str, source: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    box = [] if option == "--select" else ["--box", "68,48,24,24"]
    assert main([source, option, *box]) == 1
    assert "pip install opencv-python" in capsys.readouterr().err


def test_windows_need_a_screen(source: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: WITH_WINDOWS)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main([source, "--select"]) == 1
    assert "--first-frame" in capsys.readouterr().err


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An OpenCV with windows whose user draws boxes and presses keys."""
    user: dict[str, Any] = {"boxes": [(68, 48, 24, 24), (100, 20, 20, 20)], "keys": []}
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: WITH_WINDOWS)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "selectROI", lambda *_, **__: user["boxes"].pop(0))
    monkeypatch.setattr(cv2, "destroyWindow", lambda title: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, picture: None)
    monkeypatch.setattr(cv2, "waitKey", lambda delay: user["keys"].pop(0) if user["keys"] else -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda title, what: 1.0)
    return user


def test_boxes_are_drawn_in_a_window(source: str, windows: dict[str, Any], capfd: Capture) -> None:
    assert main([source, "--select", "--select", "--jsonl", "-", "--frames", "1"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(row["target"], row["box"]) for row in rows] == [
        ("target1", [68, 48, 24, 24]),
        ("target2", [100, 20, 20, 20]),
    ]
    windows["boxes"] = [(0, 0, 0, 0)]
    assert main([source, "--select"]) == 1
    assert "no box was drawn" in capfd.readouterr().err


@pytest.mark.parametrize("key", [ord("q"), 27])
def test_a_key_ends_what_is_shown(key: int, source: str, windows: dict[str, Any], capsys: Capture) -> None:
    windows["keys"] = [-1, key]
    assert main([source, "--box", "68,48,24,24", "--show", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["frames"], summary["ended_by"]) == (2, "the window")
