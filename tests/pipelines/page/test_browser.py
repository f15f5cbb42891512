"""``spm-page`` as people use it: the command, Chromium, a mouse, a finger, keys."""

from __future__ import annotations

import contextlib
import csv
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spm_rt import Tracker
from spm_rt.media.video import frame_count, frames

from ...support.components.browser import chromium
from ...support.layers import ROOT
from ...support.media.films import plain_film
from ...support.media.servers import serve

LENGTH = 24


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, clip: Any) -> Path:
    """The beginning of the shipped clip."""
    return plain_film(tmp_path_factory.mktemp("videos") / "rabbit.mp4", clip[:LENGTH], codec="mp4v")


@pytest.fixture(scope="module")
def address(video: Path, default_bundle: Path) -> Iterator[str]:
    """Of the running command, which ends well."""
    command = [sys.executable, "-m", "spm_rt.pipelines.page", str(video.parent), "--bundle", str(default_bundle)]
    command += ["--port", "0", "--backend", "onnxruntime"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip().rstrip("/")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.communicate()[1] == "spm-page: stopped by SIGINT\n"
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@contextlib.contextmanager
def open_page(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """The page with the video opened; its script raises nothing until it is closed."""
    page = browser.new_context(accept_downloads=True, **options).new_page()
    page.set_default_timeout(180_000)
    errors: list[object] = []
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(address)
    page.click("#cards button[title='rabbit.mp4']")
    until(page, "S.shown === 0")
    yield page
    page.context.close()
    assert errors == []


def until(page: Any, condition: str) -> None:
    """Wait until something is so in the page, which forbids what Playwright's own way of waiting does (eval)."""
    for _ in range(3600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not so: {condition}")


def on_screen(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a pixel of the frame is."""
    place = page.evaluate("""(() => {
        const canvas = document.querySelector(".view canvas"), corner = canvas.getBoundingClientRect();
        const { left, top, scale } = place(canvas);
        return [corner.x + left, corner.y + top, scale];
    })()""")
    return place[0] + x * place[2], place[1] + y * place[2]


def drag(page: Any, box: tuple[float, float, float, float]) -> None:
    x, y, width, height = box
    page.mouse.move(*on_screen(page, x, y))
    page.mouse.down()
    page.mouse.move(*on_screen(page, x + width / 2, y + height / 3))
    page.mouse.move(*on_screen(page, x + width, y + height))
    page.mouse.up()


def given(page: Any) -> dict[int, tuple[float, ...]]:
    return {row[0]: tuple(row[1:]) for row in page.evaluate("S.about.given")}


def test_draw_track_correct_compare_download_reload(
    browser: Any, address: str, video: Path, default_bundle: Path, tmp_path: Path
) -> None:
    with open_page(browser, address, viewport={"width": 1300, "height": 800}) as page:
        assert page.is_visible("#hint")
        drag(page, (193, 158, 57, 72))
        page.click("#confirm-go")
        page.wait_for_selector("#pause.done")
        assert page.text_content("#frame") == str(LENGTH - 1)  # the newest frame was followed

        page.keyboard.press("Home")
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("ArrowRight")
        until(page, "S.shown === 11")
        drag(page, (185, 130, 64, 70))
        page.keyboard.press("Enter")
        until(page, "S.about.given.length === 2")
        page.wait_for_selector("#pause.done")
        boxes = given(page)
        assert list(boxes) == [0, 11]
        assert boxes[0] == pytest.approx((193, 158, 57, 72), abs=1.5)  # drawn in pixels of the screen

        with page.expect_download() as download:
            page.click("#download-button")
            page.click("#download-list a[data-kind=csv]")
        download.value.save_as(tmp_path / "boxes.csv")
        rows = list(csv.DictReader((tmp_path / "boxes.csv").open()))
        tracker = Tracker.load(default_bundle, "onnxruntime")
        for number, frame in enumerate(frames(video)):
            if number in boxes:
                tracker.init(frame, boxes[number])
            box = boxes[number] if number in boxes else tracker.update(frame).box
            assert [float(rows[number][name]) for name in ("x", "y", "width", "height")] == pytest.approx(
                box, abs=0.00051
            )

        page.click("#compare")
        until(page, f"S.about.state === 'done' && S.rows[1].size === {LENGTH}")
        assert page.locator(".view:visible").count() == 2
        with page.expect_download() as download:
            page.click("#download-button")
            page.click("#download-video")
        download.value.save_as(tmp_path / "track.mp4")
        assert frame_count(tmp_path / "track.mp4") == LENGTH

        before = page.evaluate("[S.run, S.at, [...S.rows[0]], [...S.rows[1]]]")
        page.wait_for_timeout(300)  # the address follows the frame
        page.reload()
        until(page, f"S.rows[1].size === {LENGTH} && S.shown === S.at")
        assert page.evaluate("[S.run, S.at, [...S.rows[0]], [...S.rows[1]]]") == before


def test_a_finger_draws_too_and_keys_play(browser: Any, address: str) -> None:
    with open_page(browser, address, viewport={"width": 412, "height": 860}, has_touch=True, is_mobile=True) as page:
        send = page.context.new_cdp_session(page).send
        for kind, at in (
            ("touchStart", (193, 158)),
            ("touchMove", (220, 190)),
            ("touchMove", (250, 230)),
            ("touchEnd", None),
        ):
            points = [] if at is None else [dict(zip("xy", on_screen(page, *at), strict=True))]
            send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        until(page, "S.pending && !S.drag")
        page.wait_for_timeout(600)  # as a finger does: Chromium passes over a tap that follows a stroke at once
        page.tap("#confirm-go")
        until(page, "S.about.given.length === 1")
        until(page, "S.about.state === 'done'")
        assert given(page)[0] == pytest.approx((193, 158, 57, 72), abs=4)
        page.keyboard.press("Home")
        page.keyboard.press("Space")
        until(page, f"S.at === {LENGTH - 1} && !S.playing")  # played to its end
        assert page.evaluate("document.documentElement.scrollWidth") == 412  # nothing sticks out


def test_pages_of_another_origin_get_nothing(browser: Any, address: str) -> None:
    before = len(runs_of(browser, address))
    with serve(b"<!doctype html>") as stranger:
        page = browser.new_page()
        page.goto(stranger)
        asked = "(address) => fetch(address + %s).then(() => 'answered', () => 'refused')"
        assert page.evaluate(asked % "'/api/state'", address) == "refused"
        begin = """'/api/runs', { method: 'POST', mode: 'no-cors', body: '{"place":0,"path":"rabbit.mp4"}' }"""
        page.evaluate(asked % begin, address)
        page.close()
    assert len(runs_of(browser, address)) == before


def runs_of(browser: Any, address: str) -> list[Any]:
    page = browser.new_page()
    page.goto(address)
    runs: list[Any] = page.evaluate("fetch('/api/state').then((answer) => answer.json()).then((state) => state.runs)")
    page.close()
    return runs


def test_the_example_serves_the_page(video: Path, default_bundle: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "page.py"), str(default_bundle), str(video.parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        with urllib.request.urlopen(process.stdout.readline().strip() + "api/state", timeout=60) as answer:
            assert [source["name"] for source in json.load(answer)["sources"]] == ["rabbit.mp4"]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
