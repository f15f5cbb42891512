"""A run's boxes are those of a tracker that gets the same boxes at the same frames, however they came to be there."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from flask.testing import FlaskClient

from spm_rt.pipelines.page.app import MOST_RUNS, Runs
from spm_rt.pipelines.page.frames import Frames
from spm_rt.results import Box

from ...support.fakes.backend import BrightContext, bright_tracker, moving_disc
from ...support.media.servers import serve

MakePage = Callable[..., tuple[FlaskClient, Runs]]
FRAMES, BOX = 12, (60.0, 40.0, 40.0, 40.0)
OTHER = (70.0, 30.0, 36.0, 44.0)


class Page:
    """What a browser does."""

    def __init__(self, client: FlaskClient, source: int = 0, path: str = "disc") -> None:
        self.client = client
        self.run = client.post("/api/runs", json={"place": source, "path": path}).json["run"]

    def tell(self, what: str, asked: object, method: str = "POST") -> int:
        return self.client.open(f"/api/runs/{self.run}/{what}", method=method, json=asked).status_code

    def news(self, mark: int = 0) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.get(f"/api/runs/{self.run}?mark={mark}&version=-1").json
        return answer

    def give(self, frame: int, box: Box = BOX) -> None:
        assert self.tell("boxes", {"frame": frame, "box": box}) == 200

    def until(self, state: str) -> dict[str, Any]:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if (news := self.news())["state"] == state:
                return news
            time.sleep(0.005)
        raise AssertionError(f"still {news['state']}: {news['message']}")

    def boxes(self, lane: int = 0) -> dict[int, tuple[float, ...]]:
        """By frame, once all is tracked."""
        return {row[1]: tuple(row[2:6]) for row in self.until("done")["rows"] if row[0] == lane and len(row) > 2}


def expected(given: Mapping[int, Box]) -> dict[int, tuple[float, ...]]:
    """The boxes of one tracker that is started anew wherever a box was given."""
    tracker, boxes = bright_tracker(), {}
    for number, frame in enumerate(moving_disc(FRAMES)):
        if number in given:
            tracker.init(frame, given[number])
        if number >= min(given):
            box = given[number] if number in given else tracker.update(frame).box
            boxes[number] = tuple(round(v, 2) for v in box)
    return boxes


def test_a_box_is_followed_to_the_end(make_page: MakePage) -> None:
    page = Page(make_page()[0])
    page.give(0)
    assert page.boxes() == expected({0: BOX})


@pytest.mark.parametrize("first", [[0, 5], [5, 0], [3, 8, 5], [8, 5, 3], [FRAMES - 1, 0], [4, 4]])
def test_a_correction_changes_what_comes_behind_it_up_to_the_next_one(make_page: MakePage, first: list[int]) -> None:
    page, given = Page(make_page()[0]), {}
    for number, frame in enumerate(first):
        given[frame] = OTHER if number else BOX
        page.give(frame, given[frame])
        assert page.boxes() == expected(given)


def test_a_correction_that_is_taken_back_leaves_no_trace(make_page: MakePage) -> None:
    page = Page(make_page()[0])
    page.give(0)
    page.give(6, OTHER)
    page.until("done")
    assert page.tell("boxes/6", None, "DELETE") == 200
    assert page.boxes() == expected({0: BOX})
    assert page.tell("boxes/6", None, "DELETE") == 400
    assert page.tell("boxes/0", None, "DELETE") == 200
    assert page.news()["state"] == "ready"


def test_a_correction_while_it_tracks(make_page: MakePage, monkeypatch: pytest.MonkeyPatch) -> None:
    search = BrightContext.search
    monkeypatch.setattr(BrightContext, "search", lambda context: (time.sleep(0.01), search(context))[1])
    page = Page(make_page()[0])
    page.give(0)
    while len(page.news()["rows"]) < 5:
        time.sleep(0.002)
    page.give(2, OTHER)
    assert page.boxes() == expected({0: BOX, 2: OTHER})


def test_a_pause_ends_with_the_same_boxes(make_page: MakePage, monkeypatch: pytest.MonkeyPatch) -> None:
    search = BrightContext.search
    monkeypatch.setattr(BrightContext, "search", lambda context: (time.sleep(0.01), search(context))[1])
    page = Page(make_page()[0])
    page.give(0)
    page.tell("pause", {"pause": True})
    time.sleep(0.05)
    stopped = page.news()
    assert stopped["state"] == "paused"
    assert len(stopped["rows"]) < FRAMES
    page.tell("pause", {"pause": False})
    assert page.boxes() == expected({0: BOX})


@pytest.mark.heavy  # asks which libraries can be imported
def test_two_trackers_side_by_side_and_one_again(make_page: MakePage) -> None:
    page = Page(make_page()[0])
    page.give(0)
    choices = [{"bundle": number, "backend": "onnxruntime"} for number in (0, 1)]
    assert page.tell("lanes", {"lanes": choices}) == 200
    assert page.boxes(0) == page.boxes(1) == expected({0: BOX})
    assert page.tell("lanes", {"lanes": choices[1:]}) == 200
    assert len(page.until("done")["lanes"]) == 1
    assert page.boxes(0) == expected({0: BOX})
    assert page.boxes(1) == {}


@pytest.mark.parametrize(
    "lanes", [[], [{}], [{"bundle": 9, "backend": "auto"}], [{"bundle": 0, "backend": "nothing"}], "auto", [{}] * 3]
)
def test_trackers_that_are_none_are_refused(make_page: MakePage, lanes: object) -> None:
    page = Page(make_page()[0])
    assert page.tell("lanes", {"lanes": lanes}) == 400


@pytest.mark.parametrize(
    ("frame", "box"),
    [
        (0, [0, 0, 0, 0]),
        (0, [500, 500, 10, 10]),
        (0, [1, 2, 3]),
        (0, "box"),
        (0, [0, 0, "a", 1]),
        (0, [1e400, 0, 1, 1]),
        (0, None),
        (-1, BOX),
        (FRAMES, BOX),
        (10**9, BOX),
        ("0", BOX),
        (True, BOX),
    ],
)
def test_boxes_and_frames_that_are_none_are_refused(make_page: MakePage, frame: object, box: object) -> None:
    page = Page(make_page()[0])
    assert page.tell("boxes", {"frame": frame, "box": box}) == 400
    assert page.news()["state"] == "ready"


def test_nothing_is_lost_when_a_browser_asks_again(make_page: MakePage) -> None:
    page = Page(make_page()[0])
    page.give(0)
    whole = page.until("done")
    later = page.news(whole["mark"] - 3)
    assert later["rows"] == whole["rows"][-3:]
    assert page.news(10**6)["rows"] == whole["rows"]  # of a server that was started anew
    assert page.client.get("/api/state").json["runs"] == [
        {"run": page.run, "name": "disc", "state": "done", "frames": FRAMES}
    ]


def test_downloads_are_the_files_of_spm_track(make_page: MakePage) -> None:
    page = Page(make_page()[0])
    assert page.client.get(f"/api/runs/{page.run}/results.csv").status_code == 400
    page.give(2)
    boxes = page.boxes()
    table = page.client.get(f"/api/runs/{page.run}/results.csv")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert "filename=disc_track.csv" in table.headers["Content-Disposition"]
    assert [int(row["frame"]) for row in rows] == list(boxes)
    assert [float(row["x"]) for row in rows] == pytest.approx([box[0] for box in boxes.values()], abs=0.006)
    lines = page.client.get(f"/api/runs/{page.run}/results.jsonl").text.splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(boxes)
    assert len(page.client.get(f"/api/runs/{page.run}/results.mot").text.splitlines()) == len(boxes)
    coco = json.loads(page.client.get(f"/api/runs/{page.run}/results.coco").text)
    assert len(coco["annotations"]) == len(boxes)
    assert {(image["width"], image["height"]) for image in coco["images"]} == {(160, 120)}
    assert page.client.get(f"/api/runs/{page.run}/results.exe").status_code == 400


def test_a_tracker_that_cannot_be_loaded_is_said_and_the_run_goes_on(
    make_page: MakePage, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, runs = make_page()
    page, load = Page(client), runs.trackers.load
    monkeypatch.setattr(runs.trackers, "load", lambda choice: 1 / 0)
    page.give(0)
    assert "ZeroDivisionError" in page.until("failed")["message"]
    monkeypatch.setattr(runs.trackers, "load", load)
    page.give(0)
    assert page.boxes() == expected({0: BOX})


def test_the_oldest_of_too_many_runs_is_closed(make_page: MakePage) -> None:
    client, _ = make_page()
    pages = [Page(client) for _ in range(MOST_RUNS + 1)]
    assert client.get(f"/api/runs/{pages[0].run}").status_code == 404
    assert pages[-1].news()["state"] == "ready"
    assert client.delete(f"/api/runs/{pages[-1].run}").status_code == 200
    assert client.get(f"/api/runs/{pages[-1].run}").status_code == 404


def test_frames_are_there_again_also_without_room_for_them(videos: Any) -> None:
    for room in (0, 10_000_000):
        frames = Frames(str(videos / "disc"), room)
        forth = [frames.jpeg(position) for position in range(FRAMES)]
        assert [frames.jpeg(position) for position in reversed(range(FRAMES))] == forth[::-1]
        assert len(set(forth)) == FRAMES
        assert frames.jpeg(FRAMES) is None
        frames.close()


def test_a_stream_is_recorded_and_tracked(make_page: MakePage, film: bytes) -> None:
    with serve(film) as address:
        client, _ = make_page((address,))
        page = Page(client, -1, "")
        assert page.news()["live"]
        page.give(0)
        boxes = page.boxes()
        news = page.until("done")
    assert list(boxes) == list(range(news["end"]))
    assert news["end"] == FRAMES
    assert "ended" in news["message"]


def test_a_recording_that_is_full_is_said(make_page: MakePage, film: bytes) -> None:
    with serve(film) as address:
        client, runs = make_page((address,))
        runs._room = 8_000
        page = Page(client, -1, "")
        page.give(0)
        news = page.until("done")
    assert "--record-mb" in news["message"]
    assert 0 < news["end"] < FRAMES
    assert page.tell("boxes", {"frame": news["end"], "box": BOX}) == 400
