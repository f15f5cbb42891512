"""Label Studio's backend as its own server, asked as Label Studio asks."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spm_rt import Tracker
from spm_rt.media.video import frames
from spm_rt.results import Box

from ..support.components.environments import python_of
from ..support.components.triton import free_ports
from ..support.exports import Frames
from ..support.layers import ROOT
from ..support.media.films import plain_film
from ..support.media.servers import serve

COUNT = 6
START = 2
"""Label Studio's number of the frame that is drawn in."""
CONFIG = (
    '<View><Labels name="labels" toName="video"><Label value="rabbit"/></Labels><Video name="video" value="$film"/>'
)
CONFIG += '<VideoRectangle name="box" toName="video"/></View>'


@pytest.fixture
def ask(default_bundle: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Posts JSON to the example's server."""
    (port,) = free_ports(1)
    script, log = ROOT / "examples" / "label_studio_backend.py", tmp_path / "log.txt"
    command = [python_of("label_studio"), script, default_bundle, str(port)]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=tmp_path)

    def ask(path: str, said: Any = None) -> Any:
        data = None if said is None else json.dumps(said).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    try:
        end = time.monotonic() + 60
        while True:
            try:
                assert ask("health")["status"] == "UP"
                break
            except urllib.error.URLError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
        yield ask
    finally:
        process.kill()
        process.wait()


def test_a_rectangle_is_followed_to_the_end_and_ends_where_it_is_lost(
    ask: Callable[..., Any], default_bundle: Path, clip: Frames, clip_box: Box, tmp_path: Path
) -> None:
    film = plain_film(tmp_path / "film.avi", (*clip[:COUNT], clip[0] * 0, clip[0] * 0))
    height, width = clip[0].shape[:2]
    sizes = dict(zip(("x", "y", "width", "height"), (width, height, width, height), strict=True))
    drawn = {name: 100 * value / size for (name, size), value in zip(sizes.items(), clip_box, strict=True)}
    value = {"framesCount": COUNT, "duration": COUNT / 25, "sequence": [{"frame": START, "enabled": True, **drawn}]}
    region = {"id": "a", "type": "videorectangle", "from_name": "box", "to_name": "video", "value": value}
    ask("setup", {"project": "1.1", "schema": CONFIG, "hostname": "", "access_token": ""})
    with serve(film.read_bytes()) as address:
        task = {"id": 1, "data": {"film": f"{address}/film.avi"}}
        asked = {"tasks": [task], "project": "1.1", "params": {"context": {"result": [region]}}}
        assert ask("predict", {**asked, "params": {}})["results"] == []
        ((followed,),) = (one["result"] for one in ask("predict", asked)["results"])
    assert {**followed, "value": value} == region
    first, *keyframes = followed["value"]["sequence"]
    assert first == value["sequence"][0]
    tracker = Tracker.load(default_bundle)
    pictures = list(frames(film))[START - 1 :]
    tracker.init(pictures[0], clip_box)
    results = [tracker.update(picture) for picture in pictures[1:]]
    assert [one.found for one in results] == [True] * (COUNT - START) + [False] * 2
    assert [(one["frame"], one["enabled"]) for one in keyframes] == [
        *((number, True) for number in range(START + 1, COUNT + 1)),
        (COUNT + 1, False),
    ]
    for keyframe, result in zip(keyframes, results, strict=False):
        box = [keyframe[name] * size / 100 for name, size in sizes.items()]
        assert box == pytest.approx(result.box, abs=0.01)
        assert keyframe["time"] == pytest.approx((keyframe["frame"] - 1) / 25)
