"""The repository in a real Triton server: the boxes are a local tracker's, bit for bit, whatever clients do."""

from __future__ import annotations

import functools
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from spm_export.cli import DEMO_BOX, main
from spm_rt import Tracker
from spm_rt.results import Box

from ...support.components.environments import python_of
from ...support.components.triton import Server, answers, start_client, tritonserver
from ...support.layers import ROOT

FRAMES, IDLE, MOST = 6, 1.5, 16
Followed = Callable[..., list[list[float]]]
BOXES: list[Box] = [DEMO_BOX, (120, 40, 30, 30), (300.5, 200.25, 80, 60), (20, 30, 64, 48)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, default_bundle: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("triton")
    python_of("triton")
    options = ["--triton-backend", "onnxruntime", "--triton-idle", str(IDLE), "--triton-sequences", str(MOST)]
    assert main([str(default_bundle), "--triton", str(folder / "models"), "--quiet", *options]) == 0
    with tritonserver(folder / "models", folder, ["spm_tracker"]) as started:
        yield started


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, clip: list[Any]) -> list[Path]:
    """The beginning of the shipped clip as JPEG files."""
    folder = tmp_path_factory.mktemp("frames")
    for number, picture in enumerate(clip[:FRAMES]):
        cv2.imwrite(str(folder / f"{number:02}.jpg"), picture)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def followed(default_bundle: Path, files: list[Path]) -> Followed:
    """What a tracker in this process finds from one frame to before another."""
    local = Tracker.load(default_bundle, "onnxruntime")
    pictures = [cv2.imread(str(file)) for file in files]

    @functools.cache
    def followed(box: Box, start: int = 0, end: int = FRAMES) -> list[list[float]]:
        first, *others = pictures[start:end]
        tracker = local.sibling()
        tracker.init(first, box)
        results = [tracker.update(picture) for picture in others]
        return [[*box, 1.0, True], *([*result.box, result.score, result.found] for result in results)]

    return followed


def steps(files: list[Path], id: int, box: Box, *, ended: bool = True, **more: Any) -> list[dict[str, Any]]:
    """One sequence."""
    made = [{"id": id, "file": str(file), **more} for file in files]
    made[0] |= {"box": box, "start": True}
    made[-1] |= {"end": ended}
    return made


@pytest.mark.parametrize(("protocol", "raw"), [("http", False), ("http", True), ("grpc", False), ("grpc", True)])
def test_four_sequences_at_once_have_the_boxes_of_a_local_tracker(
    server: Server, files: list[Path], followed: Followed, protocol: str, raw: bool
) -> None:
    asked = [steps(files[k:], 10 + k, box, raw=raw) for k, box in enumerate(BOXES)]
    assert answers(server, protocol, *asked) == [followed(box, k) for k, box in enumerate(BOXES)]
    assert server.gauge() == 0


def test_frames_that_cannot_be_used_change_nothing(
    server: Server, files: list[Path], followed: Followed, tmp_path: Path
) -> None:
    (tmp_path / "torn.jpg").write_bytes(files[1].read_bytes()[:80])
    asked = steps(files, 20, DEMO_BOX)
    asked[3:3] = [{"id": 20, "file": str(tmp_path / "torn.jpg")}, {"id": 20, "size": [100, 100]}]
    (got,) = answers(server, "grpc", asked)
    assert "JPEG: not a readable picture" in got[3]
    assert "size changed from 640 x 360 to 100 x 100" in got[4]
    assert got[:3] + got[5:] == followed(DEMO_BOX)


def test_a_box_later_in_a_sequence_is_a_correction(server: Server, files: list[Path], followed: Followed) -> None:
    asked = steps(files, 21, DEMO_BOX)
    asked[4]["box"] = BOXES[2]
    (got,) = answers(server, "http", asked)
    assert got == followed(DEMO_BOX)[:4] + followed(BOXES[2], 4)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_sequences_that_nobody_has_begun_are_refused(server: Server, files: list[Path], protocol: str) -> None:
    no_start, no_box = {"id": 30, "file": str(files[0])}, {"id": 31, "file": str(files[0]), "start": True, "end": True}
    (got,) = answers(server, protocol, [no_start, no_box])
    assert "must specify the START flag" in got[0]
    assert "its first frame needs BOX" in got[1]


def test_a_sequence_that_is_begun_again_replaces_the_old_one(
    server: Server, files: list[Path], followed: Followed
) -> None:
    asked = steps(files[:4], 32, DEMO_BOX, ended=False) + steps(files[2:], 32, BOXES[1])
    (got,) = answers(server, "grpc", asked)
    assert got == followed(DEMO_BOX, 0, 4) + followed(BOXES[1], 2)
    assert server.gauge() == 0


def test_an_idle_sequence_ends_by_itself(server: Server, files: list[Path]) -> None:
    answers(server, "http", steps(files[:2], 40, DEMO_BOX, ended=False))
    assert server.gauge() == 1
    server.wait_for(0)
    (got,) = answers(server, "http", [{"id": 40, "file": str(files[2])}])
    assert "must specify the START flag" in got[0]


def test_a_client_that_is_killed_leaves_nothing(server: Server, files: list[Path]) -> None:
    client = start_client(server, "grpc", [steps(files * 30, 41, DEMO_BOX)])
    server.wait_for(1)
    client.kill()
    client.communicate()
    server.wait_for(0)


def test_a_hundred_sequences_that_never_end_are_followed_in_turn(server: Server, files: list[Path]) -> None:
    begun = [{"id": 100 + k, "file": str(files[0]), "box": DEMO_BOX, "start": True} for k in range(100)]
    client = start_client(server, "grpc", [[one] for one in begun])
    most = 0
    while client.poll() is None:
        most = max(most, server.gauge())
        time.sleep(0.05)
    got = json.loads(client.communicate()[0])
    assert got == [[[*DEMO_BOX, 1.0, True]]] * 100
    assert 1 < most <= 2 * MOST  # the model gives a sequence half a second more than Triton does
    server.wait_for(0)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_frame_of_thirty_megabytes_is_taken(server: Server, protocol: str) -> None:
    size = [2500, 4000]
    (got,) = answers(server, protocol, [{"id": 50, "size": size, "box": [9, 9, 90, 90], "start": True, "end": True}])
    assert got == [[9, 9, 90, 90, 1.0, True]]


def test_the_example_follows_a_folder_of_frames(server: Server, files: list[Path], followed: Followed) -> None:
    example = [str(python_of("triton")), str(ROOT / "examples" / "triton_client.py"), server.addresses["grpc"]]
    done = subprocess.run(
        [*example, str(files[0].parent), "193,158,57,72"], capture_output=True, text=True, timeout=60, check=True
    )
    boxes = np.array([line.split()[1:5] for line in done.stdout.splitlines()], float)
    assert boxes == pytest.approx(np.array(followed(DEMO_BOX), float)[:, :4], abs=0.006)
