"""The page's addresses."""

from __future__ import annotations

import contextlib
import itertools
import threading
from pathlib import Path
from typing import Any

from flask import Flask, Response, jsonify, request, send_file
from werkzeug.exceptions import HTTPException

from ...errors import SourceError, SpmError
from .downloads import TABLES, file_name, table
from .frames import encode_jpeg, open_frames
from .guard import Refused, install
from .lanes import Trackers
from .places import Places, kind_of, shown_name
from .run import Run

MOST_RUNS = 4
_MOST_JSON = 64 * 1024
_WAIT = 10.0
"""Seconds that a browser's question for what is new stays open."""
_STATIC = Path(__file__).parent / "static"


class Runs:
    """Runs that are open; the oldest is closed when there are too many.

    Args:
        trackers: that can be chosen.
        room: bytes of the disk for pictures of a source.
    """

    def __init__(self, trackers: Trackers, room: int) -> None:
        self.trackers, self._room = trackers, room
        self._runs: dict[int, Run] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def open(self, source: str) -> Run:
        """A new run."""
        frames = open_frames(source, kind_of(source) in ("stream", "camera"), self._room)
        with self._lock:
            number = next(self._numbers)
            self._runs[number] = run = Run(number, source, shown_name(source), frames, self.trackers)
            too_many = [self._runs.pop(old) for old in list(self._runs)[:-MOST_RUNS]]
        for old in too_many:
            old.close()
        return run

    def get(self, number: int) -> Run:
        """A run by its number.

        Raises:
            Refused: it is closed.
        """
        run = self._runs.get(number)
        if run is None:
            raise Refused("that run is closed", 404)
        return run

    def close(self, number: int | None = None) -> None:
        """Close a run, or all."""
        with self._lock:
            closing = [self._runs.pop(n) for n in list(self._runs) if number in (n, None)]
        for run in closing:
            run.close()

    def listed(self) -> list[dict[str, Any]]:
        """For the page's beginning."""
        return [
            {"run": run.number, "name": run.name, "state": run.state, "frames": len(run.lanes[0].rows)}
            for run in self._runs.values()
        ]


def make_app(
    places: Places, runs: Runs, *, local: bool = True, names: tuple[str, ...] = (), key: str | None = None
) -> Flask:
    """The application.

    Args:
        places: what may be opened.
        runs: that are open.
        local, names, key: who may ask, see :func:`spm_rt.pipelines.page.guard.install`.
    """
    app = Flask("spm_page", static_folder=str(_STATIC), static_url_path="/static")
    app.config["MAX_CONTENT_LENGTH"] = _MOST_JSON
    install(app, local=local, names=names, key=key)
    app.register_error_handler(SpmError, lambda error: (jsonify(error=str(error)), getattr(error, "status", 400)))
    app.register_error_handler(HTTPException, lambda error: (jsonify(error=error.description), error.code))
    site, run = Site(places, runs), "/api/runs/<int:number>"
    for method, path, answer in (
        ("GET", "/", site.page),
        ("GET", "/api/state", site.state),
        ("GET", "/api/thumbnail", site.thumbnail),
        ("PUT", "/api/uploads/<name>", site.upload),
        ("POST", "/api/runs", site.open_run),
        ("GET", run, site.news),
        ("DELETE", run, site.close_run),
        ("POST", f"{run}/boxes", site.give_box),
        ("DELETE", f"{run}/boxes/<int:position>", site.take_box_back),
        ("POST", f"{run}/lanes", site.choose),
        ("POST", f"{run}/pause", site.pause),
        ("GET", f"{run}/frames/<int:position>.jpg", site.frame),
        ("GET", f"{run}/results.<kind>", site.results),
        ("POST", f"{run}/video", site.make_video),
        ("GET", f"{run}/video", site.video),
    ):
        app.add_url_rule(path, endpoint=answer.__name__, view_func=answer, methods=[method])
    return app


class Site:
    """What is answered; ``make_app`` has the addresses.

    Args:
        places: what may be opened.
        runs: that are open.
    """

    def __init__(self, places: Places, runs: Runs) -> None:
        self._places, self._runs = places, runs

    def page(self) -> Response:
        """The page itself."""
        return send_file(_STATIC / "index.html", max_age=0)

    def state(self) -> Response:
        """What there is to open, to go on with, and to track with."""
        limits = {"upload": self._places.most_upload}
        known = self._runs.trackers.described()
        return jsonify(sources=self._places.sources(), runs=self._runs.listed(), limits=limits, **known)

    def thumbnail(self) -> Response:
        """The first frame of a source, small."""
        source = self._places.resolve(_argument("place"), request.args.get("path", ""))
        if kind_of(source) in ("stream", "camera"):
            raise Refused("streams have no small picture", 404)
        with contextlib.closing(open_frames(source, False, 0)) as frames:
            return _picture(encode_jpeg(frames.first().picture, 80, 420), 300)

    def upload(self, name: str) -> Response:
        """Take a video; answers with how to open it."""
        request.max_content_length = self._places.most_upload
        if request.content_length is None:
            raise Refused("uploads say how long they are (Content-Length)", 411)
        path = self._places.upload_path(name, request.content_length)
        part = path.with_name(f".{path.name}.part")
        try:
            with part.open("wb") as file:
                while block := request.stream.read(1 << 20):
                    file.write(block)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return jsonify(self._places.upload_address(path))

    def open_run(self) -> Response:
        """Begin with a source."""
        asked = _asked()
        source = self._places.resolve(_whole(asked, "place"), str(asked.get("path", "")))
        return jsonify(run=self._runs.open(source).number)

    def news(self, number: int) -> Response:
        """What is new in a run; with ``wait``, as soon as something is."""
        seconds = _WAIT if "wait" in request.args else 0
        return jsonify(self._runs.get(number).since(_argument("mark"), _argument("version"), seconds))

    def close_run(self, number: int) -> Response:
        """Close a run."""
        self._runs.close(number)
        return jsonify({})

    def give_box(self, number: int) -> Response:
        """The first box, or a correction."""
        asked = _asked()
        self._runs.get(number).give(_whole(asked, "frame"), asked.get("box"))
        return jsonify({})

    def take_box_back(self, number: int, position: int) -> Response:
        """Remove a box that was given."""
        self._runs.get(number).take_back(position)
        return jsonify({})

    def choose(self, number: int) -> Response:
        """Which trackers, one or two."""
        choices = _asked().get("lanes")
        self._runs.get(number).choose(choices if isinstance(choices, list) else [])
        return jsonify({})

    def pause(self, number: int) -> Response:
        """Stop for the moment, or go on."""
        self._runs.get(number).pause(_asked().get("pause") is True)
        return jsonify({})

    def frame(self, number: int, position: int) -> Response:
        """A frame as JPEG."""
        encoded = self._runs.get(number).frames.jpeg(position)
        if encoded is None:
            raise Refused(f"there is no frame {position}", 404)
        return _picture(encoded, 3600)

    def results(self, number: int, kind: str) -> Response:
        """Results so far as a table."""
        run = self._runs.get(number)
        answer = Response(table(run, kind), mimetype="application/octet-stream")
        answer.headers.set("Content-Disposition", "attachment", filename=file_name(run, TABLES[kind]))
        return answer

    def make_video(self, number: int) -> Response:
        """Begin to make the annotated video."""
        run = self._runs.get(number)
        run.video.start(run)
        run.touch()
        return jsonify({})

    def video(self, number: int) -> Response:
        """The annotated video that was made."""
        run = self._runs.get(number)
        if run.video.path is None:
            raise SourceError("the video has not been made yet")
        return send_file(run.video.path, as_attachment=True, download_name=file_name(run, ".mp4"), max_age=0)


def _asked() -> dict[str, Any]:
    asked = request.get_json()
    return asked if isinstance(asked, dict) else {}


def _argument(name: str) -> int:
    text = request.args.get(name, "0")
    if not text.removeprefix("-").isdecimal():
        raise Refused(f"{name} is a whole number", 400)
    return int(text)


def _whole(asked: dict[str, Any], name: str) -> int:
    number = asked.get(name)
    if type(number) is not int:
        raise Refused(f"{name} is a whole number", 400)
    return number


def _picture(encoded: bytes, seconds: int) -> Response:
    answer = Response(encoded, mimetype="image/jpeg")
    answer.headers["Cache-Control"] = f"private, max-age={seconds}"
    return answer
